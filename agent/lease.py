"""Renews the leases of what this host serves in auto mode, by its own timer: a guard that is busy for long must not lose them.

Request: {"words": []} renews; ["check"] finds out whether the store keeps conditions. Reply: {"groups": {GROUP: {"good", "left":
seconds of the right to serve, "why"}}} or {"conditional": true}; "error" when a right is over. A group whose right is over
is fenced here and now; the guard, which is woken, stops it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from . import alarm, may, process
from .data import plan as plans
from .errors import AgentError
from .owner import fences, objects, state, storelease
from .owner.plan import Plan, load
from .owner.storelease import Right
from .root import Root
from .say import say

__all__ = ["run"]

_GUARD = "understudy-guard.service"


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    plan = load(root)
    if plan.auto is None:
        raise AgentError(f"{plan.host} is in no auto mode: there is no lease", "no-auto")
    if list(request.get("words") or ()) == ["check"]:
        objects.conditional(storelease.place_of(root, plan.auto), plan.host)
        return {"conditional": True}
    rights = {name: _renewed(root, plan, name) for name in plan.groups if _ours(root, plan, name)}
    over = [f"{name}: {right.why or 'the lease is over'}" for name, right in rights.items() if not right.good]
    groups = {
        name: {"good": right.good, "left": round(right.until - state.boottime(), 1), "why": right.why}
        for name, right in rights.items()
    }
    return {"groups": groups, "error": over[0], "kind": "lease"} if over else {"groups": groups}


def _ours(root: Root, plan: Plan, name: str) -> bool:
    """Whether the guard lets it run here: it took the lease before that."""
    return plan.leased(name) is not None and may.allowed(root, name) not in ("", may.GRANTED)


def _renewed(root: Root, plan: Plan, name: str) -> Right:
    auto = plan.leased(name)
    assert auto is not None
    right = storelease.renew(root, auto, name, plan.host, state.load(root, name).epoch)
    if not right.good and not state.off(root):
        say(f"lease of {name}: {right.why or 'over'}: fenced")
        first = not fences.standing(name)
        if first:
            fences.up(root, plan, name)
        process.run(["systemctl", "start", "--no-block", _GUARD], 20)
        if first:
            with suppress(AgentError, OSError):  # the line may be what is dead
                alarm.tell(root, plans.load(root), f"{name} stops here: {right.why or 'its lease is over'}")
    return right
