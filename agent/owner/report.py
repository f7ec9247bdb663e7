"""What status says of ownership and of the replica, from what this host knows: nobody is asked."""

from __future__ import annotations

from typing import Any

from .. import may
from ..data import ledger
from ..data.plan import Plan as Protection
from ..data.state import seen
from ..putback import old
from ..replica import slots
from ..root import Root
from . import lease, state
from .plan import Plan, guarded

__all__ = ["report"]

_DAY = 86400.0


def report(root: Root, protection: Protection, now: float) -> dict[str, Any] | None:
    """{"off", "groups": {GROUP: {"owner", "epoch", "may", "why", "answered", "frozen", "slots", "age", "stale", "moved"}},

    "kept": [what promotions set aside]}; None on a host without a guard. ``stale`` is the sentence of an alarm.
    """
    plan = guarded(root)
    if plan is None:
        return None
    looked = (seen(root, f"{state.HERE}/look.json", dict) or {}).get("groups") or {}
    last = _last_refreshes(root)
    groups = {
        name: _group(root, plan, protection, name, looked.get(name) or {}, last.get(name), now)
        for name in plan.groups
    }
    return {"off": state.off(root), "groups": groups, "kept": [_kept(one, now) for one in old.kept(root)]}


def _last_refreshes(root: Root) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for record in ledger.records(root, months=2):
        if record["kind"] == "refresh":
            found.setdefault(str(record.get("group")), record)
    return found


def _group(
    root: Root,
    plan: Plan,
    protection: Protection,
    name: str,
    looked: dict[str, Any],
    refreshed: dict[str, Any] | None,
    now: float,
) -> dict[str, Any]:
    held, runs, freeze = state.load(root, name), may.allowed(root, name), lease.load(root, name)
    age = _age(root, name, now)
    return {
        "owner": held.owner or plan.groups[name].first,
        "epoch": held.epoch,
        "may": runs,
        "why": looked.get("why", ""),
        "answered": held.at or None,
        "frozen": round(freeze.left, 1) if freeze else None,
        "slots": slots.offered(root, name),
        "age": age,
        "stale": None if runs else _stale(plan, protection, name, age, refreshed),
        "moved": [{**one, "until": one["at"] + plan.keep_days * _DAY} for one in held.moved],
    }


def _age(root: Root, name: str, now: float) -> float | None:
    published = slots.current(root, name)
    oldest = published.age if published else None
    return round(now - oldest, 1) if oldest is not None else None


def _stale(
    plan: Plan, protection: Protection, name: str, age: float | None, refreshed: dict[str, Any] | None
) -> str | None:
    """When a promotion would lose more than the tiers and the refresh promise together."""
    why = f": {refreshed['error']}" if refreshed and not refreshed.get("ok") else ""
    if age is None:
        return f"the replica of {name} on {plan.host} was never refreshed{why}"
    tiers = [
        protection.tiers[s.tier].every
        for s in protection.services.values()
        if s.group == name and s.tier in protection.tiers
    ]
    limit = 2 * (plan.groups[name].refresh + max(tiers, default=0))
    if age > limit:
        return f"the replica of {name} on {plan.host} holds what was {age / 60:.0f} min ago; {limit / 60:.0f} are promised{why}"
    return f"the last refresh of {name} on {plan.host} failed{why}" if why else None


def _kept(one: dict[str, Any], now: float) -> dict[str, Any]:
    return {
        "service": one["service"],
        "paths": one["paths"],
        "since": one["since"],
        "until": one["until"],
        "days": round((float(one["until"]) - now) / _DAY, 1),
    }
