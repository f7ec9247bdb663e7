"""Failovers of the critical group: the owner's power is cut at a random moment, the other host takes over, the dead one comes back.

    PYTHONPATH=. python tests/measure/failovers.py [--rounds 10] [--delays 0.2,3] [--seed 1]

Writers and readers ask for its services through the edge all the time. After each failover the dead host is switched on: what
it starts before its guard allowed it, what it serves; then a planned switchover goes back. Exits 1 when a bar does not hold:
a row older than the accepted snapshot is missing, or a superseded epoch acknowledged a write.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import Any

from lab.moves import GROUP, NAMES, Moves, at, settled, spread, took
from lab.writer import Crowd, Loss

FORCED = ("fence", "refresh", "promote", "flip", "settle", "lift", "probe")
SERVICES = {"vault.example.org": "vaultwarden", "cloud.example.org": "nextcloud"}


def started_without_leave(moves: Moves, host: str) -> str:
    """Containers of the group that have run since the host was switched on, by name; "" when none has."""
    names = "|".join(f"^{service}-" for service in SERVICES.values())
    since = moves.run(host, "uptime -s")
    command = (
        f"docker ps -a --format '{{{{.Names}}}}' | grep -E '{names}' | xargs -r docker inspect -f "
        f"'{{{{.Name}}}} {{{{.State.StartedAt}}}} {{{{.State.Running}}}}' | grep -v 'false$' || true"
    )
    found = moves.run(host, command)
    return f"{found} (up since {since})" if found else ""


def one_round(moves: Moves, crowd: Crowd, number: int, chance: random.Random) -> dict[str, Any]:
    dead = moves.owner()
    heir = moves.other(dead)
    moves.cloud.control.forget()
    code, _, said = moves.verb("backup", "--limit", dead, "vaultwarden", "nextcloud")
    if code:
        raise SystemExit(f"the backup before round {number}: {said[-500:]}")
    wait = chance.uniform(0.5, 20)
    began = time.time()
    time.sleep(wait)
    killed = time.time()
    moves.kill(dead)
    record = moves.move("failover", heir, "--yes", heir)
    served = at(record, "probe")
    settled(moves)
    crowd.wait_for_rows(5)
    moments = {one["service"]: float(one["at"]) for one in record["shown"]}
    losses = {SERVICES[w.name_]: w.loss(began) for w in crowd.writers}
    too_old = [one for name, loss in losses.items() for one in loss.lost if one.over < moments[name]]
    ages = {name: round(killed - moments[name], 1) for name in losses}
    came_back = time.time()
    moves.switch_on(dead)
    time.sleep(35)  # the guard has looked at least once
    early = started_without_leave(moves, dead)
    superseded = moves.superseded(dead, moves.batch_at(began))
    back_began = time.time()
    back = moves.move("switchover", dead)
    settled(moves)
    crowd.wait_for_rows(5)
    again = [w.loss(came_back) for w in crowd.writers]
    return {
        "dead": dead, "served": served, "record": record, "losses": losses, "too_old": too_old, "ages": ages, "early": early,
        "superseded": superseded, "back": back, "back_lost": sum(len(one.lost) for one in again), "wait": wait,
        "failback": time.time() - back_began,
        "gap": max(w.longest_gap(began) for w in crowd.writers),
    }  # fmt: skip


def main() -> int:
    """Print a round on three lines, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--delays", default="0.2,3")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    low, high = (float(part) for part in options.delays.split(","))
    chance, moves = random.Random(options.seed), Moves()
    moves.cloud.control.delays(text=(low, high), route=(low, high))
    print(
        f"{GROUP}: {moves.size(moves.owner())}; edge delays {low:g} to {high:g} s, each colo and kind on its own"
    )
    times, failbacks, wrong = [], [], 0
    try:
        with Crowd(moves.cloud.edges, NAMES) as crowd:
            for number in range(1, options.rounds + 1):
                row = one_round(moves, crowd, number, chance)
                times.append(row["served"])
                failbacks.append(row["back"]["seconds"])
                bad = len(row["too_old"]) + row["superseded"] + row["back_lost"] + bool(row["early"])
                wrong += bad
                show(number, row)
    finally:
        moves.cloud.control.clear()
    print(
        f"from the yes to served min / median / max: {spread(times)} s (bar 60); failback {spread(failbacks)} s; broken {wrong}"
    )
    return 1 if wrong else 0


def show(number: int, row: dict[str, Any]) -> None:
    losses: dict[str, Loss] = row["losses"]
    lost = ", ".join(
        f"{name} {len(loss.lost)} of {loss.acknowledged} (age {row['ages'][name]} s)"
        for name, loss in losses.items()
    )
    steps = ", ".join(f"{step} {took(row['record'], step)}" for step in FORCED)
    print(
        f"{number:2d}. {row['dead']} killed {row['wait']:.1f} s after its backup: served after {row['served']} s; lost {lost}",
        flush=True,
    )
    print(f"    older than the snapshot and missing: {len(row['too_old'])}; {steps}")
    print(
        f"    back on: started without leave: {row['early'] or 'nothing'}; writes it acknowledged through the edge after the "
        f"batch: {row['superseded']}; failback {row['back']['seconds']} s, lost {row['back_lost']}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
