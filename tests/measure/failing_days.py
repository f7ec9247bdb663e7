"""A service that fails for a hundred days beside one that does not: is its last good state still there, and does it restore?

`make measure-failing ARGS=100`: whole ticks of the agent on a lab host against the real store, one a day, with the clocks of host
and store moved on, and the owner's prune once a week. Ends 1 when the last good snapshot is gone or does not restore.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from bench import AGENT, LAB, ready, staged
from conftest import Lab, LabHost
from project import Project
from test_backup import COMMIT, call, rows

from lab.storage.faults import Faults

SICK, WELL, DATABASE = "nextcloud", "vaultwarden", "nextcloud-db-1"
CLOCK = "/var/lib/understudy/clock-offset"
DAY = 86400


def main(days: int) -> int:
    lab = staged()
    with tempfile.TemporaryDirectory(prefix="failing-days-") as folder:
        project = Project.copy(Path(folder))
        ready(lab, project)
        host = lab.host()
        try:
            return measure(lab, host, project, days)
        finally:
            lab.store.relay.clear("offsite")
            host.run(f"rm -f {CLOCK}; docker start {DATABASE}")


def measure(lab: Lab, host: LabHost, project: Project, days: int) -> int:
    call(host, SICK, *COMMIT)
    good, before = tick(host)[SICK], rows(host, SICK)
    assert good["ok"], good
    host.run(f"docker stop -t 10 {DATABASE}", check=True)
    begun, failures = time.monotonic(), 0
    for day in range(1, days + 1):
        at(lab, host, day)
        found = tick(host)
        failures += not found[SICK]["ok"]
        assert found[WELL]["ok"], found[WELL]
        if day % 7 == 0 or day == days:
            prune(project, day)
            print(
                f"day {day}: {failures} failures of {SICK}, {count(host)} snapshots; {time.monotonic() - begun:.0f} s",
                flush=True,
            )
    host.run(f"docker start {DATABASE} && sleep 3", check=True)
    reply = agent(host, "restore", services=[SICK], repository="offsite", confirm_loss=True)
    row = reply["services"][0]
    same = row["ok"] and row["snapshot"] == good["snapshot"] and rows(host, SICK) == before
    print(f"after {days} days and {failures} failures: restored {row['snapshot'] and row['snapshot'][:8]}, last good was "
          f"{good['snapshot'][:8]}, {row.get('age', 0) / DAY:.1f} days old: {'the same data' if same else row['error']}")  # fmt: skip
    return 0 if same and failures == days else 1


def agent(host: LabHost, verb: str, **request: object) -> dict[str, list[dict[str, object]]]:
    """As bench.ask, but a reply with an error is what is looked for here."""
    ended = host.run(f"echo '{json.dumps(request)}' | {AGENT} {verb} -", timeout=900)
    line = next(line for line in reversed(ended.stdout.splitlines()) if line.startswith('{"understudy"'))
    reply: dict[str, list[dict[str, object]]] = json.loads(line)["reply"]
    return reply


def tick(host: LabHost) -> dict[str, dict[str, object]]:
    reply = agent(host, "backup", services=[SICK, WELL], repositories=["offsite"], confirm=True)
    return {str(row["service"]): row for row in reply["services"]}


def at(lab: Lab, host: LabHost, day: int) -> None:
    """It is that day, on the host and at the store."""
    lab.store.relay.set("offsite", Faults(date_shift=day * DAY))
    host.run(f"echo {day * DAY} >{CLOCK}", check=True)


def prune(project: Project, day: int) -> None:
    clock = {"UNDERSTUDY_CLOCK_OFFSET": str(day * DAY)}
    done = project.verb("repo", "prune", "--repo", "offsite", "--group", "critical", *LAB, environment=clock)
    assert done.code == 0, done.output


def count(host: LabHost) -> int:
    """Snapshots of both that the host sees."""
    program = (
        "from agent.data import plan; from agent.repo import repository, snapshots; from agent.root import Root; "
        "r = Root(); print(len(snapshots.listed(repository.open(r, plan.load(r), 'offsite', 'critical'))))"
    )
    return int(host.output(f'PYTHONPATH=/usr/lib/understudy/agent.pyz python3 -B -c "{program}"'))


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
