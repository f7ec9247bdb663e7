"""Fills repositories from others (``copy_from``): a second place, a disk in a drawer. Snapshots keep their tags.

Request: {"repositories": [] (all with copy_from), "groups": []}. Of each day the last snapshot of each service goes,
and the newest of all. Reply: {"repositories": [{"repository", "group", "ok", "error", "copied", "seconds"}]}, with
"error" when any failed.
"""

from __future__ import annotations

import json
import time
from typing import Any

from . import lock
from .data import clock, ledger
from .data import plan as plans
from .data.plan import Plan
from .data.state import FOLDER, seen
from .disk import Disk
from .errors import AgentError
from .repo import commands, repository, restic, snapshots, store
from .repo.restic import Repo
from .repo.snapshots import Snapshot
from .root import Root
from .say import say

__all__ = ["BOOK", "run", "wanted"]

BOOK = f"{FOLDER}/copies.json"
_TIMEOUT = 12 * 3600


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb. It takes no lock that a tick waits for: a first copy may take hours."""
    plan = plans.load(root)
    named = [str(name) for name in request.get("repositories") or request.get("words") or ()]
    names = named or [r.name for r in plan.repositories.values() if r.copy_from]
    groups = [str(g) for g in request.get("groups") or dict.fromkeys(s.group for s in plan.services.values())]
    with (
        lock.exclusive(root, "copies", "copies", float(request.get("lock_wait", 60)), say),
        repository.attached(root, plan, sorted({*names, *_sources(plan, names)})) as missing,
    ):
        rows = [_one(root, plan, name, group, missing) for name in names for group in groups]
    failed = [row["error"] for row in rows if not row["ok"]]
    reply: dict[str, Any] = {"repositories": rows}
    return {**reply, "error": failed[0], "kind": "failed"} if failed else reply


def _sources(plan: Plan, names: list[str]) -> list[str]:
    for name in names:
        if not repository.get(plan, name).copy_from:
            raise AgentError(f"{name} is not filled by copying: ticks write it", "bad-request")
    return [repository.get(plan, name).copy_from for name in names]


def wanted(source: list[Snapshot], target: list[Snapshot]) -> list[Snapshot]:
    """What is to be copied, oldest first: of each UTC day each service's last snapshot, and its newest.

    What is older than the target's newest of that host is not asked for again: it may have been forgotten there.
    """
    have = {(s.host, s.order, s.services) for s in target}
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    for snapshot in target:
        for service in snapshot.services:
            newest[snapshot.host, service] = max(newest.get((snapshot.host, service), (0, 0)), snapshot.order)
    chosen: dict[str, Snapshot] = {}
    last: dict[tuple[str, str, int], Snapshot] = {}
    for snapshot in source:
        for service in snapshot.services:
            if snapshot.order > newest.get((snapshot.host, service), (0, 0)):
                last[snapshot.host, service, int(snapshot.time // 86400)] = snapshot
    for snapshot in last.values():
        if (snapshot.host, snapshot.order, snapshot.services) not in have:
            chosen[snapshot.id] = snapshot
    return sorted(chosen.values(), key=lambda s: (s.order, s.time))


def _one(root: Root, plan: Plan, name: str, group: str, missing: dict[str, AgentError]) -> dict[str, Any]:
    begun = time.monotonic()
    row: dict[str, Any] = {
        "repository": name,
        "key": name,
        "group": group,
        "ok": False,
        "error": None,
        "copied": 0,
    }
    try:
        for each in (name, repository.get(plan, name).copy_from):
            if each in missing:
                raise missing[each]
        target = repository.open(root, plan, name, group)
        source = repository.open(root, plan, repository.get(plan, name).copy_from, group)
        row["key"] = target.key
        row["copied"] = _copy(root, source, target)
        row["ok"] = True
    except AgentError as error:
        row["error"] = error.sentence
    row["seconds"] = round(time.monotonic() - begun, 3)
    ledger.add(root, "copy", **row)
    return row


def _copy(root: Root, source: Repo, target: Repo) -> int:
    for repo in (source, target):
        store.date(repo)
    there = snapshots.listed(target)
    missing = wanted(snapshots.listed(source), there)
    if missing:
        say(f"copying {len(missing)} snapshots from {source.title} to {target.title}")
        both, read = repository.paired(target, source)
        restic.run(both, commands.copy(read.source, [snapshot.id for snapshot in missing]), _TIMEOUT)
        there = snapshots.listed(target)
        have = {(s.host, s.order, s.services) for s in there}
        lost = next((s for s in missing if (s.host, s.order, s.services) not in have), None)
        if lost:
            raise AgentError(f"{target.title} does not hold snapshot {lost.id[:8]} after the copy", "failed")
    _note(root, target, there)
    return len(missing)


def _note(root: Root, target: Repo, there: list[Snapshot]) -> None:
    """What the copy holds now, for status, which asks no repository."""
    book = seen(root, BOOK) or {}
    services = {
        name: {"snapshot": s.id, "seq": s.seq, "epoch": s.epoch, "at": s.time}
        for s in there
        for name in s.services
    }
    book[f"{target.key}/{target.group}"] = {
        "repository": target.name, "key": target.key, "group": target.group,
        "copied_at": round(clock.now(root), 3), "services": services,
    }  # fmt: skip
    disk = Disk(root)
    disk.private_dir(FOLDER)
    disk.replace(BOOK, json.dumps(book, indent=1, sort_keys=True).encode())
