"""The staged practice world, shared by all tests of this folder: staged once, hosts talked to over SSH."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from lab import hosts, staging, tools
from lab.facts import Facts, HostFacts
from lab.progress import Progress
from lab.settings import DEFAULT_HOSTS, Settings, find_settings, refuse_cloud_credentials
from lab.shell import LabError
from lab.ssh import on_host
from lab.storage.stores import Store, find_store
from lab.storage.usb import Disk

# Two lists of files run side by side, each on a lab of its own (scripts/test.sh): these work on the converged primary,
# all others on hosts that they make anew. Which test comes after which is so the same on every machine.
ON_THE_PRIMARY = {
    "test_apps", "test_backup", "test_converge", "test_drill", "test_faults", "test_faults_store", "test_leaving",
    "test_restores", "test_stores",
}  # fmt: skip
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
if WORKER != "gw0":
    os.environ.setdefault("UNDERSTUDY_LAB", str(Path(__file__).resolve().parents[2] / ".lab" / WORKER))


@dataclass(frozen=True)
class LabHost:
    """One host as a test sees it."""

    settings: Settings
    name: str
    facts: HostFacts

    @property
    def ip(self) -> str:
        return self.facts.ip

    def run(
        self, command: str, *, timeout: float = 300, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Runs a shell command as root; `timeout` is in seconds. One that hangs is reported with all that runs there."""
        try:
            return on_host(self.settings, self.ip, command, timeout=timeout, check=check)
        except LabError as error:
            if "did not finish" not in str(error):
                raise
            processes = "ps axfww -o pid,stat,wchan:20,etime,args | grep -v ' \\[' | cut -c-200"
            seen = on_host(self.settings, self.ip, processes, timeout=30, check=False).stdout
            raise LabError(f"{error}; at work there:\n{seen}") from error

    def output(self, command: str, *, timeout: float = 300) -> str:
        """What a command that must succeed printed, stripped."""
        return self.run(command, timeout=timeout, check=True).stdout.strip()

    def hold_timers(self) -> None:
        """No timer starts anything from here on, and what one has started is over."""
        running = "systemctl list-units --plain --no-legend --state=activating 'understudy-*.service'"
        self.run(
            f"systemctl stop 'understudy-*.timer'; for i in $(seq 600); do {running} | grep -q . || exit 0; sleep 0.2; done; exit 1",
            check=True,
        )

    def start_timers(self) -> None:
        """As converged. A pattern matches only units that are loaded, and a stopped timer is not."""
        self.run("systemctl start $(cd /etc/systemd/system && ls -d understudy-*.timer)", check=True)

    def kill(self) -> None:
        """A power cut."""
        hosts.power_cut(self.facts.container)

    def start(self) -> None:
        """Switches the host on and waits until it has booted."""
        staging.switch_on(self.settings, self.facts)

    def pause(self) -> None:
        hosts.pause(self.facts.container)

    def unpause(self) -> None:
        hosts.unpause(self.facts.container)

    def disconnect(self) -> None:
        hosts.disconnect(self.settings, self.facts.container)

    def connect(self) -> None:
        hosts.connect(self.settings, self.name, self.facts)


@dataclass(frozen=True)
class Lab:
    """The staged world."""

    settings: Settings
    facts: Facts

    def host(self, name: str = "lemongrab") -> LabHost:
        return LabHost(self.settings, name, self.facts.hosts[name])

    @property
    def store(self) -> Store:
        """Where its hosts keep their backups, with the faults on the way there."""
        return find_store(self.settings, self.facts)

    def disk(self, label: str) -> Disk:
        """A USB disk by that label."""
        return Disk(self.settings, label)

    def reset(self, names: Sequence[str]) -> None:
        """Replaces hosts by new machines with empty disks; what a tick would leave in the store is another test's."""
        for name in names:
            with contextlib.suppress(LabError, KeyError):  # it may be off, or not be there yet
                self.host(name).hold_timers()
        staging.up(self.settings, names, Progress(quiet=True), fresh=True)


@pytest.fixture(scope="session")
def lab() -> Lab:
    """Stages the lab of this clone (or of UNDERSTUDY_LAB), reusing what is staged already."""
    refuse_cloud_credentials(dict(os.environ))
    tools.put_on_path()
    settings = find_settings()
    return Lab(settings, staging.up(settings, DEFAULT_HOSTS, Progress(quiet=True)))


def list_of(nodeid: str) -> str:
    """Which of the two lists a test is in."""
    return "primary" if Path(nodeid.partition("::")[0]).stem in ON_THE_PRIMARY else "own hosts"


class TwoLists(LoadScopeScheduling):  # type: ignore[misc]
    """One list a worker. (``--dist loadgroup`` would do it, but xdist 3.8's marks do not reach pytest 9.)"""

    def _split_scope(self, nodeid: str) -> str:
        return list_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoLists:
    return TwoLists(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How long each list took: the longer one is how long it all takes."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[list_of(report.nodeid)] += report.duration
    took = ", ".join(f"{name} {sum_:.0f} s" for name, sum_ in sorted(seconds.items()))
    terminalreporter.write_line(f"lists: {took}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs the lab, and staging it for the first time takes minutes."""
    for item in items:
        if "tests/lab/" in str(item.path):
            item.add_marker(pytest.mark.lab)
            item.add_marker(pytest.mark.timeout(1800))
