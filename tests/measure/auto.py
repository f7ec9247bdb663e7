"""Auto mode: the owner dies, is cut off, loses its line for a short time, loses the store of its lease; nobody types anything.

    UNDERSTUDY_LAB_AUTO=240 PYTHONPATH=. python tests/measure/auto.py [SCENARIO...] [--delays 0.2,3]

The lab is as for switchovers.py, converged with the same UNDERSTUDY_LAB_AUTO (the seconds of a lease). One watcher runs all the
time. Writers and readers go through the edge; of a cut-off owner its LAN is asked as well. Exits 1 when a bar does not hold.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from troubles import Troubles, wait_for

from lab import hosts, world
from lab.moves import GROUP, INVENTORY, NAMES, ROOT, Moves, settled
from lab.storage.faults import Faults
from lab.storage.stores import find_store
from lab.writer import Crowd

TTL = float(os.environ.get(world.AUTO, "0"))
MARGIN = 60.0
OVER = 2 * TTL + 900


class Auto(Troubles):
    """The scenarios."""

    def killed(self) -> None:
        source, target, began = self.begin()
        killed = time.time()
        self.moves.kill(source)
        self.moved_to(target, killed, began, f"{source} dies")
        self.moves.switch_on(source)
        self.back_home(source, target)

    def cut(self) -> None:
        """It serves its LAN until its right is over, and not a moment longer."""
        source, target, began = self.begin()
        facts = self.moves.facts.hosts[source]
        cut = time.time()
        hosts.disconnect(self.moves.settings, facts.container)
        try:
            written, until = 0, cut
            while time.time() - cut < TTL + 30:
                with suppress(subprocess.SubprocessError, ValueError):
                    self.lan_write(facts.container)
                    written, until = written + 1, time.time()
                time.sleep(1)
            served = until - cut
            self.wrong += served > TTL - MARGIN + 40  # a look is every 30 s
            self.moved_to(
                target, cut, began, f"{source} is cut off (LAN rows {written}, the last after {served:.0f} s)"
            )
        finally:
            hosts.connect(self.moves.settings, source, facts)
        self.back_home(source, target)

    def short(self) -> None:
        source, _, began = self.begin()
        facts = self.moves.facts.hosts[source]
        hosts.disconnect(self.moves.settings, facts.container)
        time.sleep(90)
        hosts.connect(self.moves.settings, source, facts)
        time.sleep(TTL + 2 * MARGIN)
        self.wrong += self.moves.owner() != source
        self.judged("the line is away for 90 s: nothing moves", source, began)

    def store(self) -> None:
        """Without its store nobody may serve for ever, and nobody takes over; when it is back the owner goes on by itself."""
        source, _, began = self.begin()
        store = find_store(self.moves.settings, self.moves.facts)
        since = time.time()
        with store.relay.faulty("second", Faults(hang=True)):
            stopped = wait_for(lambda: not self.running(source), TTL + 60)
            after = time.time() - since
        self.wrong += not stopped
        again = wait_for(lambda: bool(self.running(source)), 180)
        self.wrong += not again or self.moves.owner() != source
        self.judged(
            f"the store of the lease is silent: {source} stops after {after:.0f} s and comes back",
            source,
            began,
        )

    def moved_to(self, target: str, since: float, began: float, what: str) -> None:
        moved = wait_for(lambda: self.moves.owner() == target, OVER)
        settled(self.moves)
        self.crowd.wait_for_rows(5, 300)
        gap = max(writer.longest_gap(began) for writer in self.crowd.writers)
        self.wrong += not moved
        source = self.moves.other(target)
        superseded = self.moves.superseded(source, self.moves.batch_at(began)) if moved else -1
        self.wrong += bool(superseded)
        print(
            f"{'ok    ' if moved and not superseded else 'BROKEN'}  {what}: {target} owns it {time.time() - since:.0f} s later "
            f"(rows stood still for {gap:.0f} s); superseded writes {superseded}",
            flush=True,
        )

    def back_home(self, source: str, target: str) -> None:
        stood = self.stands_by(source)
        time.sleep(35)
        self.wrong += bool(self.running(source))
        began = time.time()
        self.moves.cloud.control.forget()
        back = self.moves.move("switchover", source)
        self.judged(
            f"{source} stood by after {stood:.0f} s, and back in {back['seconds']:.0f} s", target, began
        )


def main() -> int:
    """Print a line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*")
    parser.add_argument("--delays", default="0.2,3")
    options = parser.parse_args()
    if not TTL:
        raise SystemExit(f"{world.AUTO} is not set: converge with it, and run this with it")
    low, high = (float(part) for part in options.delays.split(","))
    moves = Moves()
    moves.cloud.control.delays(text=(low, high), route=(low, high))
    print(f"{GROUP}: a lease of {TTL:.0f} s; {moves.size(moves.owner())}; edge delays {low:g} to {high:g} s")
    log = ROOT / ".understudy/auto-watch.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as stream:
        watcher = subprocess.Popen(
            [sys.executable, "-m", "understudy.cli", "watch", "--here", "--auto", "--every", "10", "-i", INVENTORY],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True, stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        with Crowd(moves.cloud.edges, NAMES) as crowd:
            auto = Auto(moves, crowd)
            known: dict[str, Callable[[], None]] = {
                "killed": auto.killed, "cut": auto.cut, "short": auto.short, "store": auto.store,
            }  # fmt: skip
            for name in options.scenario or known:
                try:
                    known[name]()
                except Exception as error:  # the next one may still tell something
                    auto.wrong += 1
                    print(f"BROKEN  {name}: {type(error).__name__}: {str(error)[-1500:]}", flush=True)
            auto.wrong += watcher.poll() is not None
    finally:
        os.killpg(watcher.pid, signal.SIGTERM)
        watcher.wait()
        moves.cloud.control.clear()
    print(f"{auto.wrong} broken; what the watcher said: {log}")
    return 1 if auto.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
