"""Planned switchovers of the critical group there and back, while writers and readers ask for its services through the edge.

    PYTHONPATH=. python tests/measure/switchovers.py [--moves 10] [--delays 0.2,3]

Both hosts have been converged with the lab's resolvers (`UNDERSTUDY_LAB_RESOLVERS=lab`), repositories made, one backup done
(`make measure-switchovers` does all that). Exits 1 when an acknowledged write is lost or a superseded epoch acknowledged one.
"""

from __future__ import annotations

import argparse
import sys
import time

from lab.moves import NAMES, Moves, settled, spread, took
from lab.writer import Crowd

WINDOW = ("freeze", "base", "stop", "refresh", "promote", "flip", "settle", "lift")


def main() -> int:
    """Print one line a move, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=10)
    parser.add_argument("--delays", default="0.2,3")
    options = parser.parse_args()
    low, high = (float(part) for part in options.delays.split(","))
    moves = Moves()
    moves.cloud.control.delays(text=(low, high), route=(low, high))
    print(
        f"critical group: {moves.size(moves.owner())}; edge delays {low:g} to {high:g} s, each colo and kind on its own"
    )
    windows, lost, late, reads = [], 0, 0, 0
    try:
        with Crowd(moves.cloud.edges, NAMES) as crowd:
            for number in range(options.moves):
                source = moves.owner()
                moves.cloud.control.forget()
                began = time.time()
                record = moves.move("switchover", moves.other(source))
                settled(moves)
                crowd.wait_for_rows(5)
                gaps = {writer.name_: writer.longest_gap(began) for writer in crowd.writers}
                losses = [writer.loss(began) for writer in crowd.writers]
                rows = [writer.rows() for writer in crowd.writers]
                gone = sum(len(loss.lost) for loss in losses) + sum(
                    int(str(row["missing_count"])) for row in rows
                )
                superseded = moves.superseded(source, moves.batch_at(began))
                failed = sum(reader.failed(began) for reader in crowd.readers)
                asked = sum(sum(one.sent >= began for one in reader.tries) for reader in crowd.readers)
                windows += gaps.values()
                lost, late, reads = lost + gone, late + superseded, reads + failed
                steps = ", ".join(f"{step} {took(record, step)}" for step in WINDOW)
                print(
                    f"{number + 1:2d}. {source} -> {record['target']}: {record['seconds']} s in all; refused "
                    + ", ".join(f"{name.partition('.')[0]} {gap:.1f} s" for name, gap in gaps.items())
                    + f"; acknowledged {sum(one.acknowledged for one in losses)}, lost {gone}, superseded {superseded}; "
                    f"reads failed {failed} of {asked}\n    {steps}",
                    flush=True,
                )
    finally:
        moves.cloud.control.clear()
    print(
        f"refused-write window min / median / max: {spread(windows)} s (bar 20); lost {lost} (bar 0); superseded {late} (bar 0)"
    )
    print(f"failed reads: {reads}")
    return 1 if lost or late else 0


if __name__ == "__main__":
    sys.exit(main())
