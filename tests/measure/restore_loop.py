"""Backs up and restores every service that keeps data, again and again, while rows are written through all of them.

`make measure-restores ARGS=20`: on the lab's primary, through real applications and stand-ins, PostgreSQL (pgbench beside it),
MariaDB and Redis. Prints a line a service: rounds, rows that had to survive, rows missing, rows that are too new, databases that
do not pass their own check, seconds. Ends 1 when any of them is wrong.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import HERE, ready, staged
from conftest import LabHost
from extras import join, leave
from project import Project

from lab.ssh import on_host

LOG, UNIT = "/root/restore-loop.jsonl", "restore-loop"


def main(rounds: int) -> int:
    lab = staged()
    with tempfile.TemporaryDirectory(prefix="restore-loop-") as folder:
        project = Project.copy(Path(folder))
        leave(lab, project)
        ready(lab, project)
        join(lab, project)
        lab.host().hold_timers()
        # Told before anything is taken away: a host that is gone by then must not take half an hour's result with it.
        code = report(follow(lab.host(), rounds), rounds)
        leave(lab, project)
    return code


def follow(host: LabHost, rounds: int) -> list[dict[str, Any]]:
    """Start the loop on the host, in a unit of its own, and read its lines until it ends."""
    program = (HERE / "loop_host.py").read_text()
    on_host(host.settings, host.ip, "cat >/root/loop_host.py", stdin=program)
    start = f"rm -f {LOG}; systemd-run --quiet --unit={UNIT} --collect --property=StandardOutput=append:{LOG}"
    start += " --property=StandardError=journal"
    host.run(f"systemctl stop {UNIT} 2>/dev/null; {start} python3 -u /root/loop_host.py {rounds}", check=True)
    lines: list[dict[str, Any]] = []
    while True:
        active = host.run(f"systemctl is-active --quiet {UNIT}").returncode == 0
        new = host.output(f"tail -n +{len(lines) + 1} {LOG}").splitlines()
        lines += [json.loads(line) for line in new]
        for line in lines[len(lines) - len(new) :]:
            if "round" in line and (line["missing"] or line["newer"] or line["wrong"] or not line["ok"]):
                print(f"  WRONG: {json.dumps(line)[:600]}", flush=True)
        if new and "round" in lines[-1]:
            last = lines[-1]
            print(
                f"round {last['round']}: backup {last['backup']} s, restore of all {last['restore']} s",
                flush=True,
            )
        if not active:
            break
        time.sleep(5)
    if not lines or "done" not in lines[-1]:
        print(host.output(f"journalctl -u {UNIT} -o cat -n 20"))
    return [line for line in lines if "round" in line]


def report(lines: list[dict[str, Any]], rounds: int) -> int:
    """The table; whether everything held."""
    print(
        f"\n{'service':16}{'rows by':11}{'rounds':>7}{'rows':>9}{'missing':>9}{'newer':>7}{'bad':>5}{'down s':>8}{'max':>7}{'all s':>8}"
    )
    good = True
    for service, writer in sorted({(line["service"], line["writer"]) for line in lines}):
        mine = [line for line in lines if (line["service"], line["writer"]) == (service, writer)]
        missing, newer = (sum(len(line[key]) for line in mine) for key in ("missing", "newer"))
        bad = sum(bool(line["wrong"]) or not line["ok"] for line in mine)
        down = [line["down"] for line in mine]
        print(
            f"{service:16}{writer:11}{len(mine):>7}{sum(line['rows'] for line in mine):>9}{missing:>9}{newer:>7}{bad:>5}"
            f"{statistics.median(down):>8.2f}{max(down):>7.2f}{statistics.median(line['all'] for line in mine):>8.2f}"
        )
        good = good and not (missing or newer or bad) and len(mine) == rounds
        for line in mine:
            if line["missing"] or line["newer"] or line["wrong"] or not line["ok"]:
                print(f"  round {line['round']}: {json.dumps(line)[:600]}")
    if lines:
        print(f"pgbench transactions in the last restored database: {lines[-1]['transactions']}")
        print(f"backup of all, median {statistics.median(line['backup'] for line in lines):.1f} s; restore of all, "
              f"median {statistics.median(line['restore'] for line in lines):.1f} s")  # fmt: skip
    print("everything held" if good and lines else "NOT everything held")
    return 0 if good and lines else 1


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
