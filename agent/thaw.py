"""Ends a freeze: starts exactly what it stopped.

Request: {"words": [GROUP]} or {"group", "id": ""}. With an ``id`` only the freeze of that switchover is ended. Reply:
{"group", "thawed": whether there was one, "error" when something did not start: the guard tries again}. Where the guard
does not let the group run any more, nothing is started.
"""

from __future__ import annotations

from typing import Any

from . import lock, may
from .freeze import wanted
from .owner import lease, thawing
from .owner.plan import load
from .root import Root
from .say import say

__all__ = ["run"]


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    plan, group = load(root), wanted(request)
    plan.group(group)
    with lock.exclusive(root, "guard", f"thaw {group}", float(request.get("lock_wait", 60)), say):
        known = lease.load(root, group)
        was = known is not None and str(request.get("id") or known.id) == known.id
        if not was:
            return {"group": group, "thawed": False}
        if not may.allowed(root, group):
            thawing.drop(root, group)
            return {"group": group, "thawed": False}
        failed = thawing.thaw(root, plan, group)
    reply: dict[str, Any] = {"group": group, "thawed": was}
    return {**reply, "error": failed[0], "kind": "unit"} if failed else reply
