"""Pays what a killed tick owes: starts what was stopped for a backup, and only that. For ExecStopPost= and the boot.

Reply: {"lifted": [services], "failed": [sentences]}; with "error" when something could not be started.
"""

from __future__ import annotations

from typing import Any

from . import lock
from .data import owed
from .disk import Disk
from .errors import AgentError
from .root import Root
from .say import say

__all__ = ["run"]

_LOCK = "data"


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb. While a tick or restore runs, nothing is owed yet: it does it itself."""
    if not any(owed.debts(root)):
        return {"lifted": [], "failed": []}
    lifted, failed = [], []
    with lock.exclusive(root, _LOCK, "lift", float(request.get("lock_wait", 5)), say):
        for debt in list(owed.debts(root)):
            try:
                owed.pay(Disk(root), debt)
                lifted.append(debt["service"])
            except AgentError as error:
                failed.append(error.sentence)
    reply: dict[str, Any] = {"lifted": lifted, "failed": failed}
    return {**reply, "error": failed[0], "kind": "owed"} if failed else reply
