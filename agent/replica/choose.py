"""Which snapshots a refresh takes: for each service of the group the newest that counts, from one list (one restic call)."""

from __future__ import annotations

from dataclasses import dataclass

from ..data.plan import Plan, Service
from ..errors import AgentError
from ..putback import choice
from ..putback.asked import Asked
from ..repo.restic import Repo
from ..repo.snapshots import Snapshot
from ..root import Root
from .slots import Slot

__all__ = ["Chosen", "choose", "stale"]


@dataclass
class Chosen:
    """``batches``: services of one snapshot each. ``missing``: services that no snapshot holds, with the reason."""

    repo: Repo | None
    batches: list[choice.Batch]
    missing: dict[str, str]

    @property
    def snapshots(self) -> dict[str, Snapshot]:
        """Service to its snapshot."""
        return {service.name: batch.snapshot for batch in self.batches for service in batch.services}


def services(plan: Plan, group: str) -> list[Service]:
    """The group's services of this host's plan, each after those it needs. Raises AgentError when there is none."""
    found = [service for service in choice.ordered(plan, ()) if service.group == group]
    if not found:
        raise AgentError(f"no service of group {group} keeps data on this host: there is nothing to refresh")
    return found


def choose(root: Root, plan: Plan, group: str, repository: str = "", snapshot: str = "") -> Chosen:
    """Ask the repository. Raises AgentError when none answers or none of the services is in any snapshot.

    ``snapshot``: take this one, whatever is newer (the base of a switchover).
    """
    wanted = tuple(service.name for service in services(plan, group))
    asked = Asked(services=wanted, repository=repository, snapshot=snapshot)
    batches, without = choice.batches(root, plan, asked)
    if not batches:
        raise next(iter(without.values()))
    missing = {name: error.sentence for name, error in without.items()}
    return Chosen(batches[0].repo, batches, missing)


def stale(slot: Slot | None, batch: choice.Batch) -> bool:
    """Whether a slot does not hold what this batch does, to the byte."""
    if slot is None:
        return True
    for service in batch.services:
        held = slot.services.get(service.name)
        if held is None or held.taken or not held.tree or held.tree != batch.snapshot.tree:
            return True
    return slot.state != "whole"
