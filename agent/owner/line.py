"""How long this host's line was away, as its guard heard no resolver at all: what the length of a lease is held against."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from ..data import clock, ledger
from ..errors import AgentError
from ..may import note
from ..root import Root
from .plan import guarded
from .state import HERE, boottime

__all__ = ["LOOK", "heard", "report"]

LOOK = 30.0
"""Seconds between two looks of the guard: a loss may have begun so much before the first silent one."""
_DAYS = 30


def heard(root: Root, anybody: bool) -> None:
    """What one look of the guard heard; the end of a silence goes into the ledger."""
    path = root.at(f"{HERE}/line-silent")
    if not anybody:
        if not os.path.exists(path):
            note(path, f"{boottime():.1f}")
        return
    with suppress(OSError, ValueError):
        with open(path, encoding="ascii") as stream:
            since = float(stream.read())
        os.unlink(path)
        ledger.add(root, "line", seconds=round(boottime() - since + LOOK, 1))


def report(root: Root) -> dict[str, Any]:
    """{"longest": seconds of the last 30 days' longest silence, "at": when it ended, "auto": groups in auto mode now}."""
    now, longest, at = clock.now(root), 0.0, 0.0
    for record in ledger.records(root, months=2):
        if (
            record["kind"] == "line"
            and now - float(record["at"]) < _DAYS * 86400
            and record["seconds"] > longest
        ):
            longest, at = float(record["seconds"]), float(record["at"])
    with suppress(AgentError):
        plan = guarded(root)
        return {"longest": longest, "at": at, "auto": list(plan.auto.groups) if plan and plan.auto else []}
    return {"longest": longest, "at": at, "auto": []}
