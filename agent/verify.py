"""Reads repositories back, a part each time, so that ``parts`` runs read everything.

Request: {"repositories": [], "groups": [], "parts": settings.verify_parts or 12}. Reply: {"repositories":
[{"repository", "group", "part": "3/12", "ok", "error", "packs", "services": {NAME: [paths]}, "seconds"}]}, with
"error" when any is damaged or could not be read.
"""

from __future__ import annotations

import json
import time
from typing import Any

from . import lock
from .data import ledger
from .data import plan as plans
from .data.plan import Plan
from .data.state import FOLDER, seen
from .disk import Disk
from .errors import AgentError
from .repo import checkup, repository, store
from .root import Root
from .say import say

__all__ = ["BOOK", "next_part", "run"]

BOOK = f"{FOLDER}/verify.json"
_PARTS = 12
_TIMEOUT = 6 * 3600


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb. It takes no lock that a tick waits for."""
    plan = plans.load(root)
    parts = int(request.get("parts") or plan.settings.get("verify_parts") or _PARTS)
    names = [str(n) for n in request.get("repositories") or request.get("words") or plan.repositories]
    groups = [str(g) for g in request.get("groups") or dict.fromkeys(s.group for s in plan.services.values())]
    with (
        lock.exclusive(root, "verify", "verify", float(request.get("lock_wait", 60)), say),
        repository.attached(root, plan, names) as missing,
    ):
        rows = [_one(root, plan, name, group, parts, missing) for name in names for group in groups]
    failed = [row["error"] for row in rows if not row["ok"]]
    reply: dict[str, Any] = {"repositories": rows}
    return {**reply, "error": failed[0], "kind": "failed"} if failed else reply


def next_part(counter: int, parts: int) -> int:
    """The part after the one that ``counter`` stands for: 1, 2, ... parts, 1 ..."""
    return counter % parts + 1


def _one(
    root: Root, plan: Plan, name: str, group: str, parts: int, missing: dict[str, AgentError]
) -> dict[str, Any]:
    begun, counters = time.monotonic(), seen(root, BOOK) or {}
    row: dict[str, Any] = {
        "repository": name,
        "key": name,
        "group": group,
        "ok": False,
        "packs": [],
        "services": {},
    }
    try:
        if name in missing:
            raise missing[name]
        repo = repository.open(root, plan, name, group)
        store.date(repo)
        mark = f"{repo.key}/{group}"
        part = next_part(int(counters.get(mark) or 0), parts)
        row |= {"key": repo.key, "part": f"{part}/{parts}"}
        say(f"reading part {part} of {parts} of {repo.title}")
        found = checkup.check(repo, part, parts, _TIMEOUT)
        # Only a part that was read counts; a damaged one was.
        disk = Disk(root)
        disk.private_dir(FOLDER)
        disk.replace(BOOK, json.dumps({**counters, mark: part}, sort_keys=True).encode())
        row |= {
            "ok": found.ok,
            "error": _sentence(repo.title, found),
            "packs": found.packs,
            "services": found.services,
        }
    except AgentError as error:
        row["error"] = error.sentence
    row["seconds"] = round(time.monotonic() - begun, 3)
    ledger.add(root, "verify", **row)
    return row


def _sentence(title: str, found: checkup.Checkup) -> str | None:
    if found.ok:
        return None
    if not found.packs:
        return f"{title} did not pass its check: {found.error}"
    hit = ", ".join(sorted(found.services)) or "none that its newest snapshots hold"
    return f"{title} is damaged: {len(found.packs)} packs; services hit: {hit}"
