"""What becomes of a restore that was killed: before Docker starts, and after."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

from .. import fence, may
from ..data import ledger
from ..data import plan as plans
from ..data.plan import Plan
from ..disk import Disk
from ..errors import AgentError, because
from ..root import Root
from ..say import say
from . import inplace, turn
from . import journal as journals
from .journal import FOLDER, Journal

__all__ = ["before_docker", "resume", "sweep_work"]

Report = dict[str, Any]


def before_docker(disk: Disk) -> list[Report]:
    """Files and fences only (table in journal.py); the caller holds the lock "data". Never raises for one service."""
    disk.drop_unfinished(FOLDER)
    reports = [
        _guarded(disk, name, lambda journal: _early(disk, journal)) for name in journals.names(disk.root)
    ]
    sweep_work(disk)
    return reports


def resume(root: Root, disk: Disk | None = None) -> list[Report]:
    """All the way, with Docker running; the caller holds the lock "data". Never raises for one service."""
    disk = disk or Disk(root)
    names = journals.names(root)
    disk.drop_unfinished(FOLDER)
    if not names:
        sweep_work(disk)
        return []
    plan = plans.load(root)
    reports = [_guarded(disk, name, lambda journal: _late(disk, plan, journal)) for name in names]
    sweep_work(disk)
    for report in reports:
        ok = report["outcome"] != "broken"
        facts = {key: report[key] for key in ("service", "snapshot", "outcome")}
        ledger.add(root, "restore", **facts, ok=ok, error=report["error"], resumed=True, seconds=0.0)
    return reports


def _guarded(disk: Disk, name: str, work: Callable[[Journal], str]) -> Report:
    report: Report = {"service": name, "snapshot": "", "state": "", "outcome": "broken", "error": None}
    try:
        journal = journals.load(disk.root, name)
        if journal is None:
            return {**report, "outcome": "undone"}
        report |= {"snapshot": journal.snapshot, "state": journal.state}
        say(f"{name}: a restore of {journal.snapshot[:8]} was interrupted ({journal.state})")
        report["outcome"] = work(journal)
    except AgentError as error:
        report["error"] = error.sentence
    except OSError as error:
        report["error"] = f"{name}: {error.filename or FOLDER}: {because(error)}"
    say(f"{name}: {report['error'] or report['outcome']}")
    return report


def _early(disk: Disk, journal: Journal) -> str:
    if journal.state == "committed":
        turn.close(disk, journal)
        return "finished"
    mixture = journal.mode == "in_place" and journal.state == "swapping"
    if journal.state in ("prepared", "swapping") and not mixture:
        turn.files_back(disk, journal)
        if not journal.databases and not journal.stopped:
            journals.erase(disk, journal)
        return "undone"
    if journal.state == "undone":
        return "undone"
    fence.up(journal.service, journal.ports)
    return "fenced"


def _late(disk: Disk, plan: Plan, journal: Journal) -> str:
    service = plan.services.get(journal.service)
    if journal.state == "committed":
        turn.close(disk, journal)
        return "finished"
    # Forward means to start it: only where the guard lets it.
    forward = journal.state in ("databases", "swapped", "started") and not may.waits(
        disk.root, journal.service
    )
    if forward and service is not None:
        try:
            turn.finish(disk, plan, service, journal, turn.Phases())
            return "finished"
        except AgentError as error:
            if _committed(journal):
                raise
            say(f"{journal.service}: the restore cannot be finished, going back: {error.sentence}")
    turn.back(disk, plan, service, journal, lambda open_one: inplace.undo(disk, plan, open_one))
    return "undone"


def _committed(journal: Journal) -> bool:
    return journal.state == "committed"


def sweep_work(disk: Disk) -> None:
    """Remove the folders of restores that have no journal any more."""
    top = f"{FOLDER}/work"
    open_ones = {j.work for n in journals.names(disk.root) if (j := _quietly(disk, n)) is not None}
    try:
        names = os.listdir(disk.root.at(top))
    except FileNotFoundError:
        return
    for name in names:
        path = f"{top}/{name}"
        if not any(path == work or path.startswith(f"{work}.") for work in open_ones):
            real = disk.root.at(path)
            shutil.rmtree(real, ignore_errors=True) if os.path.isdir(real) else os.unlink(real)


def _quietly(disk: Disk, name: str) -> Journal | None:
    try:
        return journals.load(disk.root, name)
    except AgentError:
        return None
