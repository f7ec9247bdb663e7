"""Pays what killed runs owe, with Docker running: starts what was stopped for a backup, and only that; finishes or

undoes interrupted restores. For ExecStopPost= and the boot.

Reply: {"lifted": [services], "failed": [sentences], "restores": [{"service", "outcome", "error", ...}]}; with "error"
when something is not as it should be yet.
"""

from __future__ import annotations

from typing import Any

from . import lock, may, scratch
from .backup import LOCK
from .data import owed
from .data import plan as plans
from .disk import Disk
from .errors import AgentError
from .putback import journal
from .root import Root
from .say import say

__all__ = ["run"]


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb. While a tick or restore runs, nothing is owed yet: it does it itself."""
    scratch.cleanup(root)
    if not any(owed.debts(root)) and not journal.names(root):
        return {"lifted": [], "failed": [], "restores": []}
    with lock.exclusive(root, LOCK, "lift", float(request.get("lock_wait", 5)), say):
        # Restores first: a service with a half-exchanged tree must not be started by an older debt.
        restores = journal.resume(root)
        lifted, failed = _pay(root, set(journal.names(root)))
    failed += [report["error"] for report in restores if report["error"]]
    reply: dict[str, Any] = {"lifted": lifted, "failed": failed, "restores": restores}
    return {**reply, "error": failed[0], "kind": "owed"} if failed else reply


def _pay(root: Root, still_open: set[str]) -> tuple[list[str], list[str]]:
    """(services started, sentences of those that could not be)."""
    lifted, failed = [], []
    for debt in _due(root):
        if may.waits(root, debt["service"]):
            continue
        if debt["service"] in still_open:
            failed.append(f"{debt['service']} is not started: its restore is unfinished")
            continue
        try:
            owed.pay(Disk(root), debt)
            lifted.append(debt["service"])
        except AgentError as error:
            failed.append(error.sentence)
    return lifted, failed


def _due(root: Root) -> list[dict[str, Any]]:
    """Also on a host whose backups were switched off meanwhile: then every debt stands."""
    try:
        plan = plans.load(root)
    except AgentError:
        return list(owed.debts(root))
    return owed.due(Disk(root), plan)
