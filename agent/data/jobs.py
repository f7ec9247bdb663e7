"""What a tick is asked to do, and what became of each service in each repository."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .. import may
from ..errors import AgentError
from ..root import Root
from .plan import Plan, Service
from .tree import Tree

if TYPE_CHECKING:
    from ..dumps.common import Dump

__all__ = ["Ask", "Job", "Row", "asked", "jobs_of", "owned_only", "targets"]


@dataclass(frozen=True)
class Ask:
    """``tier`` "" for a request by name. ``confirm``: big first backups may go on. ``quiesce``: stop now, not at night.

    ``left_out``: services whose group the guard does not let run here.
    """

    tier: str
    services: tuple[str, ...]
    repositories: tuple[str, ...] = ()
    reason: str = "timer"
    confirm: bool = False
    quiesce: bool = False
    lock_wait: float = 300.0
    left_out: tuple[str, ...] = ()


@dataclass
class Row:
    """One service in one repository. ``added`` are the bytes it newly takes there; ``started`` when its dump began."""

    service: str
    repository: str
    key: str
    group: str
    tier: str
    ok: bool = False
    error: str | None = None
    snapshot: str | None = None
    epoch: int = 0
    seq: int = 0
    started: float = 0.0
    seconds: float = 0.0
    files: int = 0
    bytes: int = 0
    added: int = 0
    rows: int | None = None
    unavailable: float | None = None
    shrank: str | None = None


@dataclass
class Job:
    """One service in this tick. ``error`` fails it everywhere. ``sources``: mount key to host path.

    ``started`` by the host's clock, ``real`` the same moment by the kernel's. ``unavailable``: seconds it was stopped.
    """

    service: Service
    repositories: tuple[str, ...]
    error: str | None = None
    sources: dict[str, str] = field(default_factory=dict)
    started: float = 0.0
    real: float = 0.0
    dumps: list[Dump] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    unavailable: float | None = None
    rows: list[Row] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.service.name

    @property
    def dump_bytes(self) -> int:
        return sum(dump.bytes for dump in self.dumps)

    @property
    def dump_rows(self) -> int | None:
        """Rows of all tables of all its databases; None without a database that counts."""
        counted = [sum(dump.rows.values()) for dump in self.dumps if dump.rows]
        return sum(counted) if counted else None


def asked(request: dict[str, Any], plan: Plan) -> Ask:
    """The request, checked: {"words": [TIER]} of a timer, or {"services", "repositories", "reason", "confirm", ...}.

    Raises AgentError kind "bad-request" for names that the plan does not know.
    """
    words = [str(word) for word in request.get("words") or []]
    tier = words[0] if words else str(request.get("tier") or "")
    if tier and tier not in plan.tiers:
        raise AgentError(f"there is no tier {tier!r}; known: {', '.join(plan.tiers)}", "bad-request")
    named = tuple(str(name) for name in request.get("services") or ())
    chosen = named or tuple(s.name for s in (plan.of_tier(tier) if tier else plan.services.values()))
    repositories = tuple(str(name) for name in request.get("repositories") or ())
    _known("service", named, tuple(plan.services))
    _known("repository", repositories, tuple(plan.repositories))
    copied = next((name for name in repositories if plan.repositories[name].copy_from), None)
    if copied:
        goal = plan.repositories[copied].copy_from
        raise AgentError(
            f"{copied} is filled by copying from {goal}: `understudy copies` does that", "bad-request"
        )
    return Ask(
        tier,
        chosen,
        repositories,
        str(request.get("reason") or ("timer" if words else "request")),
        bool(request.get("confirm")),
        bool(request.get("quiesce")),
        float(request.get("lock_wait", plan.settings.get("lock_wait", 300))),
    )


def owned_only(root: Root, plan: Plan, ask: Ask, named: bool) -> Ask:
    """The request without what another host may own: its backups are that host's. Raises AgentError for one that was ``named``."""
    out = tuple(name for name in ask.services if may.waits(root, name))
    if out and named:
        raise AgentError(
            f"{out[0]} is not this host's now (group {plan.services[out[0]].group}): its owner backs it up",
            "not-owner",
        )
    kept = tuple(name for name in ask.services if name not in out)
    return replace(ask, services=kept, left_out=out)


def _known(what: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise AgentError(
            f"there is no {what} {unknown!r}; known: {', '.join(known) or 'none'}", "bad-request"
        )


def targets(plan: Plan, service: Service, only: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The repositories that a tick writes a service to."""
    fitting = (r.name for r in plan.repositories.values() if not r.copy_from and service.tier in r.tiers)
    return only or tuple(fitting)


def jobs_of(plan: Plan, ask: Ask) -> list[Job]:
    """A job for each service; one that no repository takes has failed already."""
    found = []
    for name in ask.services:
        service = plan.services[name]
        where = targets(plan, service, ask.repositories)
        error = None if where else f"{name}: no repository takes tier {service.tier}"
        found.append(Job(service, where, error))
    return found
