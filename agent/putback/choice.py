"""Which repository answers, and which snapshot holds each service."""

from __future__ import annotations

from dataclasses import dataclass

from ..data import guards
from ..data import state as states
from ..data.plan import Plan, Service
from ..data.state import State
from ..errors import AgentError
from ..owner import accept
from ..repo import repository, snapshots
from ..repo.restic import Repo
from ..repo.snapshots import Snapshot
from ..root import Root
from ..say import say
from .asked import Asked

__all__ = ["Batch", "batches", "ordered"]


@dataclass
class Batch:
    """Services of one group that come from one snapshot of one repository, in the order they start."""

    repo: Repo
    snapshot: Snapshot
    services: list[Service]


def ordered(plan: Plan, names: tuple[str, ...]) -> list[Service]:
    """The named services (none: all), each after those it needs. Raises AgentError for unknown names."""
    unknown = [name for name in names if name not in plan.services]
    if unknown:
        raise AgentError(
            f"{unknown[0]} is not in this host's plan; it holds {', '.join(plan.services) or 'nothing'}",
            "bad-request",
        )
    wanted, found = set(names or plan.services), list[Service]()

    def add(name: str, above: frozenset[str]) -> None:
        service = plan.services.get(name)
        if service is None or name in above or service in found:
            return
        for need in service.needs:
            add(need, above | {name})
        found.append(service)

    for name in plan.services:
        add(name, frozenset())
    return [service for service in found if service.name in wanted]


def batches(root: Root, plan: Plan, asked: Asked) -> tuple[list[Batch], dict[str, AgentError]]:
    """One batch per group and snapshot; and the services for which there is none, with the reason."""
    found: dict[tuple[str, str], Batch] = {}
    without: dict[str, AgentError] = {}
    known: dict[str, tuple[Repo, list[Snapshot]] | AgentError] = {}
    state = states.load(root)
    for service in ordered(plan, asked.services):
        try:
            if service.group not in known:
                known[service.group] = _answering(root, plan, service.group, asked)
            repo, listed = _or_raise(known[service.group])
            snapshot = snapshots.choose(listed, service.name, asked.time, asked.snapshot or None)
            if not asked.snapshot and asked.time is None:
                _whole(state, plan, repo, snapshot, service.name, asked)
        except AgentError as error:
            known.setdefault(service.group, error)
            without[service.name] = error
            continue
        batch = found.setdefault((service.group, snapshot.id), Batch(repo, snapshot, []))
        batch.services.append(service)
    return list(found.values()), without


def _whole(state: State, plan: Plan, repo: Repo, snapshot: Snapshot, service: str, asked: Asked) -> None:
    """The newest may be the loss itself: the tick that kept it said so. Raises AgentError unless into a folder."""
    pair = state.before_loss(repo.key, service, snapshot.id)
    how = pair and guards.lost(pair[0], pair[1].files, pair[1].bytes, pair[1].rows, plan.settings)
    if not pair or not how:
        return
    before = pair[0].snapshot[:8]
    if asked.to:
        say(f"{service}: its newest snapshot {how}; the one before is {before}")
        return
    raise AgentError(
        f"{service}: its newest snapshot, {snapshot.id[:8]}, {how}; nothing was changed: `understudy restore {service}"
        f" --snapshot {before}` brings back the one before, `--snapshot {snapshot.id[:8]}` this one",
        "refused",
    )


def _or_raise(known: tuple[Repo, list[Snapshot]] | AgentError) -> tuple[Repo, list[Snapshot]]:
    if isinstance(known, AgentError):
        raise known
    return known


def _answering(root: Root, plan: Plan, group: str, asked: Asked) -> tuple[Repo, list[Snapshot]]:
    """The named repository, or the first of the plan that answers and holds snapshots of the group."""
    names = [asked.repository] if asked.repository else list(plan.repositories)
    if not names:
        raise AgentError("the plan names no repository to restore from", "no-repository")
    failed: list[AgentError] = []
    for name in names:
        try:
            repo = repository.open(root, plan, name, group)
            listed = snapshots.listed(repo)
            if not asked.snapshot:
                # One named by its id is what the owner wants, diverged or not.
                listed = accept.of_group(root, group, listed)
        except AgentError as error:
            if error.kind == "refused":
                raise  # another repository may only not have it yet
            failed.append(error)
            say(f"repository {name} is passed over: {error.sentence}")
            continue
        if listed or len(names) == 1:
            return repo, listed
        failed.append(AgentError(f"repository {name} holds no snapshot of group {group}", "no-snapshot"))
    raise failed[0]
