"""Restore onto the live folders by difference, where there is no room for two copies. The way back is a snapshot.

Only after a snapshot of the current state succeeded in the same run, and with the service stopped.
"""

from __future__ import annotations

import os
from typing import Any

from ..data import patterns
from ..data.plan import Plan, Service
from ..disk import Disk
from ..errors import AgentError
from ..repo import repository, snapshots
from ..repo.restic import Repo
from ..root import Root
from . import arrive, carry, fetch, listing
from .journal import Journal
from .places import Layout, SourceOf, layout
from .sources import source_of
from .target import NEW, OLD, Target

__all__ = ["onto_live", "put", "undo"]

_TIMEOUT = 86400.0


def onto_live(root: Root, plan: Plan, found: Layout) -> Layout:
    """The same layout with the live folders in place of new ones; single files still come by exchange."""
    folders = [target for target in found.targets if not target.only]
    moved = {target.new: target.live for target in folders}
    found.binds = {stage: _moved(path, moved) for stage, path in found.binds.items()}
    found.files = {stage: _moved(path, moved) for stage, path in found.files.items()}
    found.trees = {key: _moved(path, moved) for key, path in found.trees.items()}
    found.empty = {key: _moved(path, moved) for key, path in found.empty.items()}
    for target in folders:
        found.spared += _spared(root, plan, found, target)
    found.targets = [target for target in found.targets if target.only]
    return found


def _moved(path: str, moved: dict[str, str]) -> str:
    for new, live in moved.items():
        if path == new or path.startswith(f"{new}/"):
            return live + path[len(new) :]
    return path


def _spared(root: Root, plan: Plan, found: Layout, target: Target) -> list[str]:
    base = f"/{found.service.name}/data/{patterns.escaped(target.key)}"
    names = [*target.keep, *carry.carried(root, plan, found, target)]
    rules = [rule for key, rule in carry.excluded(found.service) if key == target.key]
    ours = [patterns.escaped(NEW) + "*", patterns.escaped(OLD) + "*"]
    return [f"{base}/{name.strip('/')}" for name in [*map(patterns.escaped, names), *rules, *ours]]


def put(
    disk: Disk,
    plan: Plan,
    repo: Repo,
    snapshot: str,
    found: Layout,
    manifest: dict[str, Any],
    others: list[str],
    work: str,
    timeout: float,
) -> tuple[dict[str, Any], dict[str, listing.Wrong]]:
    """Make the live folders what the snapshot holds; the service is stopped and the journal says so."""
    for folder in found.binds.values():
        os.makedirs(disk.root.at(folder), mode=0o700, exist_ok=True)
    summary, wrong = fetch.run(disk, repo, snapshot, [found], others, work, timeout, in_place=True)
    name = found.service.name
    arrive.place_files(disk, found.service, manifest, found.trees, f"{work}/{name}", timeout)
    arrive.caches(disk, manifest, found.trees)
    return summary, wrong


def undo(disk: Disk, plan: Plan, journal: Journal, source: SourceOf = source_of) -> None:
    """Put back the snapshot of before. Raises AgentError when the repository does not answer."""
    service = plan.services.get(journal.service)
    if service is None:
        raise AgentError(f"the plan has no service {journal.service} any more")
    repo = repository.open(disk.root, plan, journal.repository, journal.group)
    work = f"{journal.work}.before"
    disk.private_dir(work)
    manifest = fetch.peek(disk, repo, journal.before, [service.name], work, _TIMEOUT)[service.name]
    sums = listing.take(repo, journal.before, _keys(service), f"{disk.root.at(work)}.list", _TIMEOUT)
    types = {key: part.type for key, part in sums[service.name].items() if part.type}
    found = onto_live(disk.root, plan, layout(disk.root, plan, service, journal.before, types, source))
    # Single files went by exchange and come back by it.
    found.files, found.targets = {}, []
    listed = {one.id: one for one in snapshots.listed(repo)}
    others = fetch.others(listed[journal.before], [service.name]) if journal.before in listed else []
    put(disk, plan, repo, journal.before, found, manifest, others, work, _TIMEOUT)


def _keys(service: Service) -> dict[str, list[str]]:
    return {service.name: [mount.key for mount in service.mounts]}
