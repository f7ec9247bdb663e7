"""Commands and wall time of an audit as a host grows: the hand-made lab host, then 20 projects on it.

python tests/measure/audit_size.py      (stages a lab host of its own and throws it away)
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "lab"), str(Path(__file__).parents[2])]

import messy  # noqa: E402
from conftest import LabHost  # noqa: E402
from test_import import CONFIG, NAME  # noqa: E402

from lab import hosts, staging  # noqa: E402
from lab.progress import Progress  # noqa: E402
from lab.settings import find_settings  # noqa: E402
from understudy.live import judge  # noqa: E402
from understudy.live.reach import Reach  # noqa: E402

ROUNDS, PROJECTS = 5, 20


def measured(reach: Reach) -> str:
    """Wall time of several audits and what one sent."""
    walls = []
    for _ in range(ROUNDS):
        start, reach.sent = time.monotonic(), 0
        census = reach.census({})
        report = judge.judge(census, NAME, "")
        walls.append(time.monotonic() - start)
    projects = sum(app.kind == "project" for app in report.apps)
    return (
        f"{projects:3} projects, {len(report.apps):3} applications, {len(report.places):3} places: {reach.sent} SSH command, "
        f"{report.commands} programs on the host, {statistics.median(walls):.2f} s (median of {ROUNDS}, "
        f"{min(walls):.2f} to {max(walls):.2f})"
    )


def main() -> None:
    """Stage, measure, grow, measure."""
    settings = find_settings()
    facts = staging.up(settings, [NAME], Progress(quiet=True), fresh=True)
    host = LabHost(settings, NAME, facts.hosts[NAME])
    try:
        for script in messy.MESS:
            host.run(f"bash -s <<'MESS'\n{script}\nMESS", timeout=600, check=True)
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "config"
            config.write_text(
                CONFIG.format(address=host.ip, known_hosts=settings.known_hosts, key=settings.key)
            )
            reach = Reach(f"root@{host.ip}", str(config))
            print(measured(reach), flush=True)
            for number in range(PROJECTS - len(messy.PROJECTS)):
                host.run(messy.compose_of(number), check=True)
            print(measured(reach), flush=True)
    finally:
        hosts.destroy(settings, NAME)


if __name__ == "__main__":
    main()
