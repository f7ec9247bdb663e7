"""No-op converges of many hosts beside one: a lab of its own with that many hosts, four services on each.

    PYTHONPATH=. python tests/measure/farm.py [--hosts 10] [--rounds 5]

Exits 1 when all of them take more than three times one of them (design.md), or one sends more than ten commands.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / ".lab" / "farm"
BAR, BAR_COMMANDS = 3.0, 10
ENVIRONMENT = {**os.environ, "UNDERSTUDY_LAB": str(LAB), "PYTHONPATH": str(ROOT), "PYINFRA_PROGRESS": "off"}


def converge(limit: str = "", may_change: bool = False) -> tuple[float, int]:
    """Seconds, and the most commands that one host got. Raises SystemExit when it failed, or changed something."""
    report = LAB / "report.jsonl"
    report.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "pyinfra", "tests/measure/farm_hosts.py", "deploy.py", "-y"]
    began = time.monotonic()
    done = subprocess.run(
        [*argv, *(["--limit", limit] if limit else [])], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=3600, env={**ENVIRONMENT, "UNDERSTUDY_REPORT": str(report)},
    )  # fmt: skip
    seconds = time.monotonic() - began
    reports = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    changed = [one["host"] for one in reports if any((one.get("changed") or {}).values())]
    if done.returncode or not reports or (changed and not may_change):
        raise SystemExit(f"not a no-op converge: {changed}\n{(done.stdout + done.stderr)[-2000:]}")
    return seconds, max(one["commands"] for one in reports)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    names = [f"box{number}" for number in range(1, options.hosts + 1)]
    verb = [sys.executable, "-m", "understudy.cli", "lab"]
    subprocess.run([*verb, "up", "--hosts", ",".join(names)], cwd=ROOT, env=ENVIRONMENT, check=True)
    try:
        first, _ = converge(may_change=True)
        print(f"{options.hosts} bare hosts converged in {first:.0f} s", flush=True)
        pairs = [(converge(names[0]), converge()) for _ in range(options.rounds)]
    finally:
        subprocess.run([*verb, "down"], cwd=ROOT, env=ENVIRONMENT, check=True)
    one, all_ = (statistics.median(pair[n][0] for pair in pairs) for n in (0, 1))
    commands = max(count for pair in pairs for _, count in pair)
    print(
        f"one host {one:.2f} s, {options.hosts} hosts {all_:.2f} s: {all_ / one:.2f} times; at most {commands} commands a host"
    )
    return int(all_ > BAR * one or commands > BAR_COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
