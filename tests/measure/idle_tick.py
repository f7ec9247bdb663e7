"""An idle tick of the critical set beside its dump commands and a bare restic run, on a store with 90 days of ticks.

    python tests/measure/idle_tick.py [--rounds 11] [--snapshots 350]

Stages and converges the lab's host where that was not done, fills the repository, then alternates the two: each round
gives one ratio; the median of all is the figure. Requests are those that the relay before the store counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab import tools
from lab.settings import find_settings
from lab.ssh import on_host
from lab.staging import staged
from lab.storage.stores import find_store

ROOT = Path(__file__).resolve().parents[2]
WHERE = ["-i", "inventory/lab.py", "--limit", "lemongrab"]
PLACE = "/root/idle_on_host.py"


def verb(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "understudy.cli", *words], cwd=ROOT, check=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rounds", type=int, default=11)
    asked.add_argument("--snapshots", type=int, default=350)
    asked.add_argument(
        "--ready", action="store_true", help="the host is converged and its repositories are made"
    )
    words = asked.parse_args()
    tools.put_on_path()
    if not words.ready:
        verb("lab", "up", "--hosts", "lemongrab")
        verb("converge", *WHERE)
        verb("repo", "init", *WHERE)
    settings = find_settings()
    facts = staged(settings)
    relay = find_store(settings, facts).relay

    def host(command: str, stdin: str = "") -> str:
        return on_host(settings, facts.hosts["lemongrab"].ip, command, stdin=stdin, timeout=7200).stdout

    def ask(what: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(host(f"python3 -IB {PLACE} {what}").splitlines()[-1])
        return found

    host(f"cat > {PLACE}", (ROOT / "tests/measure/idle_on_host.py").read_text())
    host("systemctl stop 'understudy-*.timer'")
    filled = ask(f"fill {words.snapshots}")
    print(f"{filled['snapshots']} snapshots in the repository, {filled['made']} of them made now")
    for what in ("tick", "bare", "tick", "bare"):  # both warm, both with a parent
        ask(what)
    print("round  tick s  dumps s  restic s  ratio  requests  cpu tick/bare")
    ratios, requests = [], []
    for number in range(1, words.rounds + 1):
        first = "tick" if number % 2 else "bare"  # neither is always the one after the other
        rows = {}
        for what in (first, "bare" if first == "tick" else "tick"):
            with relay.counting("offsite") as seen:
                rows[what] = ask(what)
            if what == "tick":
                requests.append(seen.total)
        tick, bare = rows["tick"], rows["bare"]
        ratios.append(tick["wall"] / (bare["dumps"] + bare["restic"]))
        print(
            f"{number:5}  {tick['wall']:6.2f}  {bare['dumps']:7.2f}  {bare['restic']:8.2f}  {ratios[-1]:5.2f}"
            f"  {requests[-1]:8}  {tick['cpu']:.2f}/{bare['cpu']:.2f}"
        )
    print(f"median ratio {statistics.median(ratios):.2f} (bar 1.5), most requests {max(requests)} (bar 15)")


if __name__ == "__main__":
    main()
