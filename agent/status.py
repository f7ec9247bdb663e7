"""How well this host's data is kept, from what the host itself knows: no repository is asked, none need answer.

Reply: {"host", "at", "ok", "services": [{"service", "group", "tier", "rpo", "objective", "next_due", "overdue", "error",
"proven": {"kind", "at", "age", "seconds", "snapshot"} | null, "repositories": [{"repository", "key", "copy", "at",
"age", "snapshot", "epoch", "seq", "files", "bytes", "rows", "pinned", "error"}]}], "overdue": [sentences],
"uncovered": [...], "coverage_at", "ticks": {TIER: record}, "verify": [...], "disks": [...], "locks": {NAME: holder},
"owed": [services], "clock_off", "replica": null | {...} (agent/owner/report.py)}.
Times in seconds since the epoch, ``rpo``, ``objective`` and ages in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import copies, coverage, lock, may
from .data import clock, ledger, owed
from .data import plan as plans
from .data import state as states
from .data.jobs import targets
from .data.plan import Plan, Service
from .data.state import State, seen
from .errors import AgentError
from .owner.report import report as owner_report
from .repo import disks
from .root import Root

__all__ = ["run"]

_PROOFS = ("restore", "drill")
_READ_EVERY = 15 * 86400  # seconds; it is read back weekly
_LOCKS = ("data", "apply", "verify", "copies")


class _Past:
    """The ledger, read once: of each thing the newest record."""

    def __init__(self, root: Root) -> None:
        self.proven: dict[str, dict[str, Any]] = {}
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.ticks: dict[str, dict[str, Any]] = {}
        self.verified: dict[tuple[str, str], dict[str, Any]] = {}
        self.read: dict[tuple[str, str], float] = {}
        self.first: dict[tuple[str, str], float] = {}
        for record in ledger.records(root):
            kind, service = record["kind"], str(record.get("service"))
            # A restore that a later run cleaned up after proves nothing, whatever it ended as.
            if kind in _PROOFS and record.get("ok") and not record.get("resumed"):
                self.proven.setdefault(service, record)
            elif kind == "backup":
                key = str(record.get("key", record.get("repository")))
                self.stored.setdefault((key, service), record)
                if record.get("ok"):
                    self.first[key, str(record.get("group"))] = record["at"]
            elif kind == "tick":
                self.ticks.setdefault(str(record.get("tier")), record)
            elif kind == "verify":
                pair = str(record.get("key")), str(record.get("group"))
                self.verified.setdefault(pair, record)
                if record.get("ok"):
                    self.read.setdefault(pair, record["at"])


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    plan, state, past, now = plans.load(root), states.load(root), _Past(root), clock.now(root)
    copied = seen(root, copies.BOOK) or {}
    mine = [service for service in plan.services.values() if not may.waits(root, service.name)]
    services = [_service(plan, service, state, past, copied, now) for service in mine]
    covered = seen(root, coverage.FILE) or {}
    owned = owner_report(root, plan, now)
    late = [sentence for service in services if (sentence := service["overdue"])]
    late += [group["stale"] for group in owned["groups"].values() if group["stale"]] if owned else []
    late += _unread(plan, past, now)
    return {
        "host": plan.host,
        "at": round(now, 3),
        "ok": not late and all(service["error"] is None for service in services),
        "services": services,
        "overdue": late,
        "uncovered": covered.get("uncovered") or [],
        "coverage_at": covered.get("at"),
        "ticks": past.ticks,
        "verify": list(past.verified.values()),
        "disks": list(_disks(root, plan)),
        "locks": {name: who for name in _LOCKS if (who := lock.holder(root, name))},
        "replica": owned,
        "owed": [debt["service"] for debt in owed.debts(root)],
        "clock_off": next(
            (t.get("clock_off") for t in past.ticks.values() if t.get("clock_off") is not None), None
        ),
    }


def _service(
    plan: Plan, service: Service, state: State, past: _Past, copied: dict[str, Any], now: float
) -> dict[str, Any]:
    places = [*_places(plan, service, state, past, now), *_copies(service, copied, now)]
    ages = [place["age"] for place in places if place["age"] is not None]
    tier = plan.tiers.get(service.tier)
    objective = tier.every * 2 if tier else None
    rpo = min(ages, default=None)
    ticked = past.ticks.get(service.tier)
    proof = past.proven.get(service.name)
    return {
        "service": service.name,
        "group": service.group,
        "tier": service.tier,
        "rpo": rpo,
        "objective": objective,
        "next_due": round(ticked["at"] + tier.every, 3) if ticked and tier else None,
        "overdue": _overdue(service, rpo, objective, places),
        "error": next((place["error"] for place in places if place["error"]), None),
        "proven": _proof(proof, now) if proof else None,
        "repositories": places,
    }


def _places(plan: Plan, service: Service, state: State, past: _Past, now: float) -> Iterator[dict[str, Any]]:
    """One for each repository; for each disk of a rotation that was ever written."""
    for name in targets(plan, service):
        keys = [key for key in state.good if key == name or key.startswith(f"{name}@")] or [name]
        for key in sorted(keys):
            good, last = state.last(key, service.name), past.stored.get((key, service.name))
            yield {
                "repository": name,
                "key": key,
                "copy": False,
                "at": good.at if good else None,
                "age": round(now - good.at, 1) if good else None,
                "snapshot": good.snapshot if good else None,
                "epoch": good.epoch if good else None,
                "seq": good.seq if good else None,
                "files": good.files if good else None,
                "bytes": good.bytes if good else None,
                "rows": good.rows if good else None,
                "pinned": state.pinned.get(key, {}).get(service.name),
                "error": last.get("error") if last and not last.get("ok") else None,
            }


def _copies(service: Service, copied: dict[str, Any], now: float) -> Iterator[dict[str, Any]]:
    for book in copied.values():
        held = book["services"].get(service.name) if book["group"] == service.group else None
        if held:
            yield {
                "repository": book["repository"],
                "key": book["key"],
                "copy": True,
                **held,
                "age": round(now - held["at"], 1),
                "files": None,
                "bytes": None,
                "rows": None,
                "pinned": None,
                "error": None,
            }


def _overdue(
    service: Service, rpo: float | None, objective: int | None, places: list[dict[str, Any]]
) -> str | None:
    """The sentence when data would be lost that the tier promises to keep; also when one repository alone is behind."""
    if rpo is None:
        return f"{service.name} was never backed up"
    if objective is None:
        return f"{service.name} is in tier {service.tier}, which the plan does not know: no timer backs it up"
    behind = [p for p in places if not p["copy"] and (p["age"] is None or p["age"] > objective)]
    if rpo > objective:
        return f"{service.name}: its last good backup began {rpo / 3600:.1f} h ago; {objective / 3600:.1f} h are promised"
    # Rotating disks lie in drawers: one of them up to date is what the plan asks.
    fresh = {p["repository"] for p in places if p["age"] is not None and p["age"] <= objective}
    stale = next((p for p in behind if p["repository"] not in fresh), None)
    if not stale:
        return None
    since = f"{stale['age'] / 3600:.1f} h ago" if stale["age"] is not None else "never"
    return f"{service.name}: {stale['key']} got it {since}; {objective / 3600:.1f} h are promised"


def _unread(plan: Plan, past: _Past, now: float) -> Iterator[str]:
    """Repositories that were found damaged, or were not read back for too long. Disks in a drawer cannot be."""
    for (key, group), first in past.first.items():
        known = plan.repositories.get(key.partition("@")[0])
        last = past.verified.get((key, group)) or {}
        since = past.read.get((key, group))
        if known and last.get("packs"):
            yield f"{last['error']}"
        elif known and not known.disk and now - (since or first) > _READ_EVERY:
            ago = f"for {(now - since) / 86400:.0f} days" if since else "ever"
            yield f"{key}/{group} was not read back {ago}: `systemctl status understudy-verify` on the host says why"


def _proof(record: dict[str, Any], now: float) -> dict[str, Any]:
    return {
        "kind": record["kind"],
        "at": record["at"],
        "age": round(now - record["at"], 1),
        "seconds": record.get("seconds"),
        "snapshot": record.get("snapshot"),
    }


def _disks(root: Root, plan: Plan) -> Iterator[dict[str, Any]]:
    for repository in plan.repositories.values():
        if repository.disk:
            facts: dict[str, Any] = {"repository": repository.name, "labels": list(repository.disk.labels)}
            try:
                found = disks.look(root, repository.disk)
                facts |= {"mounted": found.mounted, "label": found.label, "present": list(found.present)}
            except AgentError as error:
                facts |= {"error": error.sentence}
            yield facts
