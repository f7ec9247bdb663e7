"""Makes repositories: on purpose, by ``understudy repo init``, never by a tick.

Request: {"repositories": [] (all), "groups": [] (all of the plan), "again": false}. Reply: {"repositories":
[{"repository", "group", "state": "made" | "there" | "failed", "id", "error"}]}, with "error" when any failed.
A store that is reachable and empty although snapshots were stored there before is refused without ``again``.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from . import lock
from .backup import LOCK
from .data import ledger, state
from .data import plan as plans
from .data.plan import Plan
from .data.stores import had_snapshots
from .disk import Disk
from .errors import AgentError
from .repo import commands, repository, restic, store
from .repo.restic import Repo
from .root import Root
from .say import say

__all__ = ["run"]

_TIMEOUT = 300
_AT_ONCE = 4
_recording = threading.Lock()


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    plan = plans.load(root)
    names = [str(name) for name in request.get("repositories") or plan.repositories]
    groups = [str(g) for g in request.get("groups") or dict.fromkeys(s.group for s in plan.services.values())]
    # Sources before what is filled from them: the second takes over how the first cuts files.
    names.sort(key=lambda name: bool(repository.get(plan, name).copy_from))
    with (
        lock.exclusive(root, LOCK, "prepare", float(request.get("lock_wait", 300)), say),
        repository.attached(root, plan, names) as missing,
    ):
        rows: list[dict[str, Any]] = []
        for name in names:
            # Side by side: most of making one is the work that guards its key.
            one = partial(_one, root, plan, name, again=bool(request.get("again")), missing=missing)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                rows += pool.map(one, groups)
    failed = [row["error"] for row in rows if row["error"]]
    reply: dict[str, Any] = {"repositories": rows}
    return {**reply, "error": failed[0], "kind": "failed"} if failed else reply


def _one(
    root: Root, plan: Plan, name: str, group: str, again: bool, missing: dict[str, AgentError]
) -> dict[str, Any]:
    row: dict[str, Any] = {"repository": name, "group": group, "state": "failed", "id": None, "error": None}
    try:
        if name in missing:
            raise missing[name]
        repo = repository.open(root, plan, name, group)
        store.date(repo)
        row["id"] = identity(repo)
        row["state"] = "there" if row["id"] else "made"
        row["id"] = row["id"] or _make(root, plan, repo, again)
    except AgentError as error:
        row["state"], row["error"] = "failed", error.sentence
    return row


def identity(repo: Repo) -> str | None:
    """The id of a repository, None when there is none. Raises AgentError when it cannot be told."""
    try:
        result = restic.run(repo, commands.probe(), _TIMEOUT)
    except AgentError as error:
        if error.kind == "no-repository":
            return None
        raise
    return next(
        (line.partition('"id": "')[2].rstrip('",') for line in _texts(result.lines) if '"id"' in line),
        "there",
    )


def _texts(lines: list[Any]) -> list[str]:
    return [
        line if isinstance(line, str) else f'"id": "{line.get("id")}"'
        for line in lines
        if isinstance(line, (str, dict))
    ]


def _make(root: Root, plan: Plan, repo: Repo, again: bool) -> str:
    known = state.load(root)
    if not again and had_snapshots(root, known, repo):
        raise AgentError(
            f"{repo.title} at {repo.where} is gone, though this host stored snapshots there: find out why;"
            " with --again a new, empty one is made in its place",
            "vanished",
        )
    begun = time.monotonic()
    try:
        goal = repository.get(plan, repo.name).copy_from
        source = repository.open(root, plan, goal, repo.group) if goal else None
        both, read = repository.paired(repo, source) if source else (repo, None)
        result = restic.run(both, commands.init(read.source if read else None), _TIMEOUT)
    except AgentError as error:
        words = error.sentence
        with _recording:
            ledger.add(
                root, "init", repository=repo.name, key=repo.key, group=repo.group, ok=False, error=words
            )
        raise
    made = next((str(message.get("id")) for message in result.messages if message.get("id")), "")
    seconds = round(time.monotonic() - begun, 3)
    with _recording:
        known = state.load(root)
        known.forget(repo.key, repo.group)
        known.save(Disk(root))
        ledger.add(
            root,
            "init",
            repository=repo.name,
            key=repo.key,
            group=repo.group,
            id=made,
            again=again,
            seconds=seconds,
        )
    say(f"{repo.title} was made at {repo.where}")
    return made
