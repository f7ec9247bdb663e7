"""Moves of the critical group in trouble: lost answers, two operators, a killed control machine, clocks that are wrong, a
paused and a cut-off owner. After each: writes that a superseded epoch acknowledged through the edge, rows lost, who owns it.

    PYTHONPATH=. python tests/measure/troubles.py [SCENARIO...] [--delays 0.2,3]

The lab is as for switchovers.py. Exits 1 when a bar does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import hosts
from lab.cloudflare.faults import Fault
from lab.moves import GROUP, INVENTORY, NAMES, ROOT, Moves, settled
from lab.writer import Crowd

STEPS = (
    "admit",
    "copy",
    "freeze",
    "base",
    "stop",
    "refresh",
    "promote",
    "flip",
    "settle",
    "lift",
    "probe",
    "retire",
)
JOURNAL = ".understudy/switchover/critical.json"
OFFSET = "/var/lib/understudy/clock-offset"
DATABASE = "/home/docker-projects/vaultwarden/data/db.sqlite3"
Found = dict[str, Any]


class Troubles:
    """One staged lab, written to all the time."""

    def __init__(self, moves: Moves, crowd: Crowd) -> None:
        self.moves, self.crowd, self.wrong = moves, crowd, 0

    # --- what every scenario ends with

    def judged(self, what: str, source: str, began: float, *, forced: bool = False, extra: str = "") -> None:
        """One line: who owns the group, what was acknowledged under a superseded epoch, what was lost."""
        settled(self.moves)
        self.crowd.wait_for_rows(5, 120)
        owner = self.moves.owner()
        other = self.moves.other(owner)
        losses = [writer.loss(began) for writer in self.crowd.writers]
        lost = sum(len(loss.lost) for loss in losses)
        superseded = self.moves.superseded(source, self.moves.batch_at(began)) if owner != source else 0
        both = self.running(other)
        bad = superseded + (0 if forced else lost) + bool(both)
        self.wrong += bool(bad)
        print(
            f"{'ok    ' if not bad else 'BROKEN'}  {what}: {owner} owns it; superseded writes {superseded}; "
            f"{'lost' if not forced else 'lost as announced'} {lost} of {sum(one.acknowledged for one in losses)}; "
            f"running on {other}: {both or 'nothing'}{extra}",
            flush=True,
        )

    def running(self, host: str) -> str:
        """What could serve; a copy's database server runs wherever the copy is refreshed."""
        shown = (
            "docker ps --format '{{.Names}}' | grep -E '^(vaultwarden|nextcloud)-' | grep -v -- -db- || true"
        )
        return self.moves.run(host, shown)

    def begin(self) -> tuple[str, str, float]:
        self.moves.cloud.control.forget()
        source = self.moves.owner()
        return source, self.moves.other(source), time.time()

    def started(self, *words: str, folder: Path = ROOT) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "understudy.cli", *words, "-i", INVENTORY]
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYINFRA_PROGRESS": "off"}
        return subprocess.Popen(
            argv, cwd=folder, env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    # --- scenarios

    def lost_answer(self) -> None:
        source, target, began = self.begin()
        with self.moves.cloud.control.faulty(Fault("lost", path="/batch", times=1)):
            record = self.moves.move("switchover", target)
        self.judged("the batch's answer is lost", source, began, extra=f"; {record['ended']}")

    def lost_batch(self) -> None:
        source, target, began = self.begin()
        with self.moves.cloud.control.faulty(Fault("reset", path="/batch", times=1)):
            code, _, said = self.moves.verb("switchover", "--to", target, "--group", GROUP, "--json")
        self.judged("the batch never arrives", source, began, extra=f"; exit {code}: {last(said)}")

    def hung_api(self) -> None:
        source, target, began = self.begin()
        with self.moves.cloud.control.faulty(Fault("hang", path="/batch", seconds=30, times=1)):
            code, _, said = self.moves.verb("switchover", "--to", target, "--group", GROUP, "--json")
        self.judged("the API hangs at the batch", source, began, extra=f"; exit {code}: {last(said)}")

    def two_operators(self) -> None:
        source, target, began = self.begin()
        with tempfile.TemporaryDirectory() as name:
            other = Path(name)
            for entry in ROOT.iterdir():
                if entry.name not in (".git", ".understudy", ".venv"):
                    (other / entry.name).symlink_to(entry)
            words = ("switchover", "--to", target, "--group", GROUP)
            both = [self.started(*words), self.started(*words, folder=other)]
            said = [process.communicate(timeout=900)[0] for process in both]
        codes = [process.returncode for process in both]
        self.wrong += codes.count(0) != 1
        loser = next((text for text, code in zip(said, codes, strict=True) if code), "")
        self.judged(
            "two operators at once", source, began, extra=f"; exits {codes}, the second: {last(loser)}"
        )

    def killed_in(self, step: str) -> None:
        source, target, began = self.begin()
        process = self.started("switchover", "--to", target, "--group", GROUP)
        reached = wait_for(lambda: journal().get("at") == step and not journal().get("ended"), 180)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGKILL)
        before = process.communicate()[0]
        where = journal().get("at")
        time.sleep(2)
        code, _, said = self.moves.verb("switchover", "--resume", "--json")
        # Killed before the batch left, it is taken back: nothing was moved, and nothing lost.
        self.wrong += not reached or (code != 0 and "taken back" not in said)
        self.judged(
            f"control killed in {where}, resumed" if reached else f"never came to {step}: {last(before)}",
            source,
            began,
            extra=f"; exit {code} {'' if code == 0 else last(said)}",
        )

    def clocks(self, source_off: int, target_off: int) -> None:
        source, target, began = self.begin()
        with self.offset({source: source_off, target: target_off}):
            code, _, said = self.moves.verb("switchover", "--to", target, "--group", GROUP, "--json")
            self.wrong += code != 0
            what = f"clocks {source_off:+d} s on the owner, {target_off:+d} s on the target"
            self.judged(what, source, began, extra=f"; exit {code} {'' if code == 0 else last(said)}")

    @contextmanager
    def offset(self, seconds: dict[str, int]) -> Iterator[None]:
        for host, value in seconds.items():
            self.moves.run(host, f"echo {value} > {OFFSET}")
        time.sleep(40)  # the guards have looked by their new clocks
        try:
            yield
        finally:
            for host in seconds:
                self.moves.run(host, f"rm -f {OFFSET}")

    def paused(self) -> None:
        """The whole owner stands still (as under SIGSTOP), is replaced, and goes on where it was."""
        source, target, began = self.begin()
        container = self.moves.facts.hosts[source].container
        hosts.pause(container)
        try:
            record = self.moves.move("failover", target, "--yes", target)
        finally:
            hosts.unpause(container)
        stood = self.stands_by(source)
        self.judged(
            "the owner is paused, replaced, goes on",
            source,
            began,
            forced=True,
            extra=f"; stood by after {stood:.0f} s",
        )
        self.back(source, record)

    def cut_off(self) -> None:
        """The owner loses its line, is replaced, serves its LAN meanwhile, comes back."""
        source, target, began = self.begin()
        facts = self.moves.facts.hosts[source]
        hosts.disconnect(self.moves.settings, facts.container)
        written: list[int] = []
        try:
            record = self.moves.move("failover", target, "--yes", target)
            written = [self.lan_write(facts.container) for _ in range(20)]
        finally:
            hosts.connect(self.moves.settings, source, facts)
        stood = self.stands_by(source)
        kept = [n for n in written if n in self.rows_kept(source)]
        self.wrong += len(kept) != len(written)
        extra = f"; LAN writes {len(written)}, still on it {len(kept)}; stood by after {stood:.0f} s"
        self.judged("the owner is cut off, replaced, reconnected", source, began, forced=True, extra=extra)
        self.back(source, record)

    def back(self, source: str, record: Found) -> None:
        began = time.time()
        self.moves.cloud.control.forget()
        back = self.moves.move("switchover", source)
        held = self.moves.agent(source, "status", {})["replica"]["groups"][GROUP]
        moved = [one for one in held["moved"] if one["at"] > began - 600]
        saved = [one.get("saved") for one in moved if not one["clean"]]
        self.wrong += None in saved
        names = ", ".join(str(one["name"]) if one else "NOT SAVED" for one in saved[-1:]) or "none"
        self.judged(
            f"and back to {source} in {back['seconds']:.0f} s",
            record["target"],
            began,
            extra=f"; saved as diverged: {names}",
        )

    def lan_write(self, container: str) -> int:
        """A row written on the host itself: no line is needed for that."""
        program = "import json,urllib.request as u;print(json.load(u.urlopen(u.Request('http://127.0.0.1:8082/_lab/commit',method='POST'),timeout=5))['n'])"
        done = subprocess.run(
            ["docker", "exec", container, "python3", "-c", program],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return int(done.stdout)

    def rows_kept(self, host: str) -> set[int]:
        program = (
            f"import sqlite3;c=sqlite3.connect('file:{DATABASE}?mode=ro',uri=True);"
            "print(' '.join(str(r[0]) for r in c.execute(\\\"SELECT substr(name,5) FROM ciphers WHERE name LIKE 'lab-%'\\\")))"
        )
        return {int(word) for word in self.moves.run(host, f'python3 -c "{program}"').split()}

    def stands_by(self, host: str) -> float:
        """Seconds until nothing of the group runs on a host that has lost it. Raises when it does not come to that."""
        began = time.monotonic()
        if not wait_for(lambda: not self.running(host), 120):
            self.wrong += 1
        return time.monotonic() - began


def last(said: str) -> str:
    lines = [line for line in said.strip().splitlines() if line.strip()]
    return lines[-1][:160] if lines else ""


def journal() -> Found:
    try:
        found: Found = json.loads((ROOT / JOURNAL).read_text())
    except (OSError, ValueError):
        return {}
    return found


def wait_for(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def scenarios(troubles: Troubles) -> dict[str, Callable[[], None]]:
    found: dict[str, Callable[[], None]] = {
        "lost-answer": troubles.lost_answer, "lost-batch": troubles.lost_batch, "hung-api": troubles.hung_api,
        "two-operators": troubles.two_operators, "paused": troubles.paused, "cut-off": troubles.cut_off,
        "clock-ahead": lambda: troubles.clocks(600, -600), "clock-behind": lambda: troubles.clocks(-600, 600),
    }  # fmt: skip
    return found | {f"killed-{step}": lambda step=step: troubles.killed_in(step) for step in STEPS}  # type: ignore[misc]


def main() -> int:
    """Print a line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*")
    parser.add_argument("--delays", default="0.2,3")
    options = parser.parse_args()
    low, high = (float(part) for part in options.delays.split(","))
    moves = Moves()
    moves.cloud.control.delays(text=(low, high), route=(low, high))
    print(
        f"{GROUP}: {moves.size(moves.owner())}; edge delays {low:g} to {high:g} s, each colo and kind on its own"
    )
    try:
        with Crowd(moves.cloud.edges, NAMES) as crowd:
            troubles = Troubles(moves, crowd)
            known = scenarios(troubles)
            for name in options.scenario or known:
                try:
                    known[name]()
                except Exception as error:  # the next one may still tell something
                    troubles.wrong += 1
                    print(f"BROKEN  {name}: {type(error).__name__}: {str(error)[-1500:]}", flush=True)
    finally:
        moves.cloud.control.clear()
    print(f"{troubles.wrong} broken")
    return 1 if troubles.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
