"""`make demo`: the practice world brought up before a stranger's eyes, every number counted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import typer
from rich.console import Console

from understudy import runner, tables
from understudy.runner import Run

INVENTORY = "inventory/lab.py"
FLAGS = ["-y"]
STAND_INS = "the APIs of Hetzner and Cloudflare, Cloudflare's edge and 12 applications with the real ones' data layout"
REAL = "systemd, ssh, Docker, Compose, restic, S3, PostgreSQL, MariaDB, SQLite, Caddy, nginx, Miniflux, WordPress, SOPS and age"


@dataclass
class Demo:
    """The clock and the claims of one showing."""

    console: Console
    started: float = field(default_factory=time.monotonic)
    broken: list[str] = field(default_factory=list)

    def say(self, verb: str, text: str) -> None:
        """One line: minutes and seconds since the start, what was done, what was counted."""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self.console.print(f"{minutes:2d}:{seconds:02d}  {verb:<24}{text}", highlight=False, soft_wrap=True)

    def claim(self, holds: bool, sentence: str) -> None:
        """Remember a claim that did not hold."""
        if not holds:
            self.broken.append(sentence)


def demo() -> None:
    """The verb: exits non-zero when a claim does not hold."""
    raise typer.Exit(show(Console()))


def show(console: Console) -> int:
    """The whole story on the two staged hosts. Returns the exit code."""
    # Not at the top: every verb of a clone reads this module, and few need the clouds' libraries.
    from lab import acts
    from lab.moves import Broken, Moves
    from lab.world import RESOLVERS

    demo = Demo(console)
    os.environ[RESOLVERS] = "lab"  # two hosts that may own a group: each has a guard
    _converge(demo)
    if not demo.broken:
        try:
            acts.play(Moves(), demo.say, demo.claim)
        except Broken as error:
            demo.claim(False, str(error))
    return _result(demo)


def _converge(demo: Demo) -> None:
    demo.say("converge", "two bare Debian hosts: packages, Docker, files, firewall, stacks, tunnels, records")
    with demo.console.status("installing and starting"):
        first, seconds = _timed(lambda: runner.run(INVENTORY, "deploy.py", {}, FLAGS, quiet=True))
    tables.show_converge(demo.console, first.reports)
    _judge(demo, first)
    demo.say("converged", f"in {seconds:.0f} s")
    if demo.broken:
        return
    again, seconds = _timed(lambda: runner.run(INVENTORY, "deploy.py", {}, FLAGS, quiet=True))
    _judge(demo, again)
    _judge_second(demo, again)
    commands = max(report["commands"] for report in again.reports)
    demo.say(
        "converge again", f"{_changes(again)} changes, {commands} commands on each host, {seconds:.1f} s"
    )


def _timed(work: Callable[[], Run]) -> tuple[Run, float]:
    before = time.monotonic()
    result = work()
    return result, time.monotonic() - before


def _changes(result: Run) -> int:
    return sum(len(items) for report in result.reports for items in (report.get("changed") or {}).values())


def _judge(demo: Demo, result: Run) -> None:
    demo.claim(result.exit_code == 0, f"a converge ended with exit code {result.exit_code}")
    demo.claim(bool(result.reports), "no host reported")
    for report in result.reports:
        probes = report.get("probes") or []
        demo.claim(bool(probes), f"{report['host']} was not probed")
        for probe in probes:
            demo.claim(bool(probe["ok"]), f"{probe['name']}: {probe['error']}")


def _judge_second(demo: Demo, result: Run) -> None:
    demo.claim(_changes(result) == 0, f"the second converge changed {_changes(result)} things")
    for report in result.reports:
        demo.claim(
            report["commands"] <= 10,
            f"the second converge sent {report['commands']} commands to {report['host']}",
        )


def _result(demo: Demo) -> int:
    console = demo.console
    if demo.broken:
        for sentence in demo.broken:
            console.print(f"[red]does not hold:[/red] {sentence}", highlight=False, soft_wrap=True)
        console.print("[bold red]RESULT a claim failed.[/bold red]")
        return 1
    console.print(
        f"[bold green]RESULT all claims held.[/bold green]  Real: {REAL}.", highlight=False, soft_wrap=True
    )
    console.print(f"Stand-ins: {STAND_INS}.", highlight=False, soft_wrap=True)
    console.print("Next, on your own server (reads only):   understudy audit you@server", highlight=False)
    return 0
