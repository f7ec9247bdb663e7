"""Keeps the control machine's journal of a switchover on the target, so that another control machine can go on.

Request: {"group", "keep": {...} | null, "over": "", "record": {...} for the ledger}. ``keep`` is the journey with its
"id" and "ended"; while one of another id is open here it is refused, unless ``over`` names that id. Reply: {"group",
"journey": what is kept now | null, "boottime": seconds by CLOCK_BOOTTIME, against which a grant is counted, "host", "at":
by this host's clock, "services": [of the group], "epoch", "owner", "may", "offered": what could be promoted
(agent/replica/slots.py), "unsaved": epochs after which this host alone holds what it wrote,
"silence": seconds since a resolver last answered the guard, null for not since the boot}.
"""

from __future__ import annotations

import json
from typing import Any

from . import lock, may
from .data import clock, ledger
from .data import plan as plans
from .data.state import seen
from .disk import Disk
from .errors import AgentError
from .freeze import wanted
from .owner import state
from .owner.plan import load
from .replica import diverged
from .replica.slots import offered
from .root import Root
from .say import say

__all__ = ["run"]


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    group, keep = wanted(request), request.get("keep")
    path = f"{state.FOLDER}/journey-{group}.json"
    with lock.exclusive(root, f"journey-{group}", "a switchover's journal", 10, say):
        known: dict[str, Any] | None = seen(root, path)
        if keep is not None:
            _check(group, known, keep, str(request.get("over") or ""))
            disk = Disk(root)
            disk.private_dir(state.FOLDER)
            disk.replace(path, json.dumps(keep).encode())
            known = keep
    if request.get("record"):
        ledger.add(root, "switchover", **_recorded(request["record"]))
    owned, held = load(root), state.load(root, group)
    return {
        "group": group,
        "journey": known,
        "boottime": state.boottime(),
        "host": owned.host,
        "at": round(clock.now(root), 3),
        "services": [name for name, one in plans.load(root).services.items() if one.group == group],
        "epoch": held.epoch,
        "owner": held.owner,
        "may": may.allowed(root, group),
        "offered": offered(root, group),
        "silence": state.silence(root, group),
        "unsaved": [one["epoch"] for one in diverged.pending(held)],
    }


def _recorded(raw: dict[str, Any]) -> dict[str, Any]:
    kept = ("group", "source", "target", "mode", "epoch", "base", "ended", "why", "seconds")
    return {"ok": raw.get("ended") == "moved", **{key: raw.get(key) for key in kept}}


def _check(group: str, known: dict[str, Any] | None, keep: dict[str, Any], over: str) -> None:
    if known and not known.get("ended") and known.get("id") not in (keep.get("id"), over):
        raise AgentError(
            f"another switchover of {group} is open here ({known.get('id')}, to {known.get('target')}, at "
            f"{known.get('at')}): go on with it (--resume), or take it back (--abort); nothing was changed",
            "busy",
        )
