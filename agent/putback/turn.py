"""The transaction of one service, from a finished new tree to the commit or all the way back.

Every function takes the open journal, does the next thing it allows and writes the state that holds from there on;
called again after a kill it goes on from what it finds (table in journal.py).
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import fence, may, probe
from ..data import clock
from ..data.plan import Plan, Service
from ..disk import Disk
from ..dumps import kinds
from ..errors import AgentError, because
from ..http_call import local
from ..say import say
from . import journal as journals
from . import old, running, swap
from .arrive import database_of
from .journal import Journal, State

__all__ = ["Phases", "back", "begin", "close", "exchange", "files_back", "finish", "load", "stop", "sync"]

_PATIENCE = 120.0

Undo = Callable[[Journal], None]


class Phases(dict[str, float]):
    """Seconds by name."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self[name] = round(self.get(name, 0.0) + time.monotonic() - started, 3)


def to(disk: Disk, journal: Journal, state: State) -> None:
    """The next state, durably."""
    journal.state = state
    journals.save(disk, journal)


def load(
    disk: Disk, plan: Plan, service: Service, journal: Journal, timeout: float
) -> dict[str, dict[str, int]]:
    """Load the servers' databases beside the live ones. Returns database to rows; raises AgentError."""
    rows = {}
    if journal.databases:
        running.servers_up(service, plan)
    for one in journal.databases:
        database = database_of(service, one["name"])
        assert database is not None
        say(f"{service.name}: loading {one['name']}")
        rows[one["name"]] = kinds.load(disk.root, database, one["facts"], one["file"], "", timeout).rows
        disk.checkpoint(f"load {one['name']}")
    return rows


def stop(disk: Disk, service: Service, journal: Journal) -> None:
    """Note what runs, then stop it."""
    journal.running = running.look(service)
    journal.stopped = True
    journals.save(disk, journal)
    running.stop(disk, service, journal.running)


def exchange(disk: Disk, journal: Journal) -> None:
    """The files of all targets; the service is down."""
    to(disk, journal, "swapping")
    for target in journal.targets:
        swap.forward(disk, target, lambda: journals.save(disk, journal))
    to(disk, journal, "databases" if journal.databases else "swapped")


def finish(disk: Disk, plan: Plan, service: Service, journal: Journal, phases: Phases) -> None:
    """From ``databases`` or later to the commit. Raises AgentError while going back is still right."""
    if journal.state == "databases":
        with phases.timed("databases"):
            running.servers_up(service, plan)
            _swap_databases(disk, service, journal)
        to(disk, journal, "swapped")
    if journal.state in ("swapped", "started"):
        with phases.timed("start"):
            _start(disk, plan, service, journal)
        with phases.timed("probe"):
            _probe(disk, service)
        old.note(disk, journal, journal.until)
        to(disk, journal, "committed")
    close(disk, journal)


def _swap_databases(disk: Disk, service: Service, journal: Journal) -> None:
    for one in journal.databases:
        database = database_of(service, one["name"])
        if database is None:
            raise AgentError(f"{service.name}: the plan no longer has the database {one['name']}")
        kinds.swap(database, one["facts"], journal.token)
        disk.checkpoint(f"swap {one['name']}")


def _start(disk: Disk, plan: Plan, service: Service, journal: Journal) -> None:
    if journal.state == "swapped":
        failed = running.run_hooks(service, "after_load", offline=True)
        if failed:
            raise AgentError(failed[0], "hook")
    fence.up(service.name, journal.ports)
    running.start_all(disk, plan, service)
    to(disk, journal, "started")


def _probe(disk: Disk, service: Service) -> None:
    asked = [_behind_the_fence(one) for one in service.probes]
    if not asked:
        return
    results = probe.run({"probes": asked}, disk.root)["results"]
    bad = [result for result in results if not result["ok"]]
    if bad:
        raise AgentError(f"{service.name} does not serve the restored data: {bad[0]['error']}", "probe")


def _behind_the_fence(one: dict[str, Any]) -> dict[str, Any]:
    """From the one address that the fence lets through. A probe that names no wait gets time for migrations."""
    wait = one.get("wait")
    patient = {**one, "wait": _PATIENCE if wait is None else float(wait)}
    return {**patient, "source": fence.SOURCE} if local(str(one.get("url", ""))) else patient


def close(disk: Disk, journal: Journal) -> None:
    """After the commit: the fence goes, then what the exchange left, then the journal."""
    fence.down(journal.service, journal.ports)
    _clean(disk, journal)
    journals.erase(disk, journal)


def _clean(disk: Disk, journal: Journal) -> None:
    """What came and did not stay, and the folder for old content where there was none."""
    for target in journal.targets:
        swap.remove_new(disk, target)
        disk.remove_dir(target.old)
        disk.remove_dir(os.path.dirname(target.old))


def files_back(disk: Disk, journal: Journal) -> None:
    """The files as they were; needs no Docker, and the service must not run. For states prepared and swapping."""
    for target in reversed(journal.targets):
        swap.backward(disk, target, lambda: journals.save(disk, journal))
    _clean(disk, journal)
    to(disk, journal, "undone")


def back(
    disk: Disk, plan: Plan, service: Service | None, journal: Journal, by_difference: Undo | None = None
) -> None:
    """All the way back from any state before the commit. ``by_difference``: the way back of an in-place restore.

    Raises AgentError kind "broken" when even that fails: the journal stays, and ``resume`` tries again.
    """
    try:
        _back(disk, plan, service, journal, by_difference)
    except (OSError, AgentError) as error:
        why = error.sentence if isinstance(error, AgentError) else because(error)
        raise AgentError(
            f"{journal.service}: the restore could not be undone yet ({why}). Repair that and run lift; "
            f"the old data is at {', '.join(target.old for target in journal.targets) or journal.before}",
            "broken",
        ) from error


def _back(
    disk: Disk, plan: Plan, service: Service | None, journal: Journal, by_difference: Undo | None
) -> None:
    if journal.state in ("databases", "swapped", "started"):
        to(disk, journal, "undoing")
    if journal.state in ("undoing", "swapping") and service is not None:
        # Whoever started it meanwhile (Docker at boot, a converge): nothing may run while files move.
        running.stop(disk, service, running.look(service))
    if journal.state == "undoing":
        _undo_databases(disk, plan, service, journal)
        to(disk, journal, "swapping")
    if journal.state == "swapping" and journal.mode == "in_place" and by_difference is not None:
        by_difference(journal)
    if journal.state in ("prepared", "swapping"):
        files_back(disk, journal)
    _undo_databases(disk, plan, service, journal)
    old.forget(disk, journal)
    if journal.stopped and service is not None and not may.waits(disk.root, service.name):
        running.start_again(service, journal.running)
    fence.down(journal.service, journal.ports)
    journals.erase(disk, journal)


def _undo_databases(disk: Disk, plan: Plan, service: Service | None, journal: Journal) -> None:
    if not journal.databases:
        return
    if service is None:
        raise AgentError(f"the plan has no service {journal.service} to undo the databases of")
    running.servers_up(service, plan)
    for one in journal.databases:
        database = database_of(service, one["name"])
        if database is not None:
            kinds.undo(database, one["facts"], journal.token)
            disk.checkpoint(f"undo {one['name']}")


def begin(disk: Disk, service: Service, snapshot: str, repository: str, keep_old_days: float) -> Journal:
    """A new journal, not yet on the disk."""
    now = round(clock.now(disk.root), 3)
    until = now + keep_old_days * 86400
    return Journal(
        service.name, snapshot, repository, service.group, since=now, until=until, ports=list(service.ports)
    )


def sync(disk: Disk, folders: list[str]) -> None:
    """Have what was restored on the disk before it counts."""
    devices: dict[int, str] = {}
    for folder in folders:
        real = disk.root.at(folder)
        if os.path.isdir(real):
            devices.setdefault(os.stat(real).st_dev, real)
    libc = ctypes.CDLL(None, use_errno=True)
    for real in devices.values():
        descriptor = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if libc.syncfs(descriptor) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), real)
        finally:
            os.close(descriptor)
