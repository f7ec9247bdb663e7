"""Stops the applications of a group for a while, so that nothing is written while its last snapshot is made.

Request: {"words": [GROUP]} or {"group", "id": "", "seconds": 180, "servers": false, "again": false, "lock_wait": 60}. Database
servers go on unless "servers"; "again": only if this freeze has stood until now. Reply: {"group", "until_in": seconds, "stopped":
{service: [what]}, "seconds"}. It thaws itself when the time is over (``thaw`` before that), also when this agent is killed;
after a reboot it begins anew. ``id`` is the switchover's
word: while one has frozen the group another cannot.
"""

from __future__ import annotations

import time
from typing import Any

from . import backup, lock, may
from .data import ledger
from .disk import Disk
from .errors import AgentError
from .owner import thawing
from .owner.plan import load
from .root import Root
from .say import say

__all__ = ["run", "wanted"]

_LEASE = 180.0


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    plan, group, began = load(root), wanted(request), time.monotonic()
    plan.group(group)
    if not may.allowed(root, group):
        raise AgentError(
            f"{group} does not run on this host: there is nothing to freeze; nothing was changed", "not-owner"
        )
    # A tick between its stop and its start would be undone by the thaw.
    with lock.exclusive(root, backup.LOCK, f"freeze {group}", float(request.get("lock_wait", 60)), say):
        frozen = thawing.freeze(
            Disk(root),
            plan,
            group,
            float(request.get("seconds", _LEASE)),
            bool(request.get("servers")),
            str(request.get("id") or ""),
            bool(request.get("again")),
        )
    seconds = round(time.monotonic() - began, 3)
    ledger.add(root, "freeze", group=group, seconds=seconds, stopped=frozen.stopped)
    return {"group": group, "until_in": round(frozen.left, 1), "stopped": frozen.stopped, "seconds": seconds}


def wanted(request: dict[str, Any]) -> str:
    """The one group of a request. Raises AgentError."""
    words = [str(word) for word in request.get("words") or []]
    group = str(request.get("group") or (words[0] if words else ""))
    if not group:
        raise AgentError("which group? give its name", "bad-request")
    return group
