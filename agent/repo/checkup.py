"""Reads a part of a repository back and says which services damage would hit."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ..errors import AgentError
from . import commands, restic, snapshots
from .restic import Repo, ResticError, Result
from .snapshots import Snapshot

__all__ = ["Checkup", "check", "services_hit"]

EVERY = "*"
UNSEARCHED = "(the damage could not be searched: take all of it for damaged)"
# Other ids in such a line are of blobs, or of what the pack looks like now.
_PACK = re.compile(r"^pack ([0-9a-f]{64})\b", re.MULTILINE)


@dataclass
class Checkup:
    """What a check found. ``services`` maps each service that is hit to paths of its newest snapshot;

    ``packs`` are damaged or missing files of the store.
    """

    ok: bool
    error: str | None = None
    packs: list[str] = field(default_factory=list)
    services: dict[str, list[str]] = field(default_factory=dict)


def check(repo: Repo, part: int, parts: int, timeout: float) -> Checkup:
    """Check the structure and read part ``part`` of ``parts`` back. Raises AgentError when that cannot be done."""
    try:
        restic.run(repo, commands.check(part, parts), timeout)
        return Checkup(True)
    except ResticError as error:
        if error.kind != "failed":
            raise
        packs = damaged_packs(error.result)
        first = next((e["message"].strip() for e in error.result.errors), error.sentence)
        return Checkup(False, first, packs, services_hit(repo, packs, timeout))


def damaged_packs(result: Result) -> list[str]:
    """Ids of packs from the summary and from messages about single packs."""
    found = [str(pack) for pack in result.summary.get("broken_packs") or []]
    found += _PACK.findall("\n".join([result.err, *(error["message"] for error in result.errors)]))
    return sorted(dict.fromkeys(found))


def services_hit(repo: Repo, packs: list[str], timeout: float) -> dict[str, list[str]]:
    """Service to paths (at most 20 each) that lie in these packs, in the newest snapshot of each service."""
    if not packs:
        return {}
    try:
        among = latest_of_each(snapshots.listed(repo, timeout=timeout))
    except AgentError:
        return {EVERY: [UNSEARCHED]}
    entries, searched = _found(repo, packs, among, timeout)
    hit = _paths(entries, among)
    # restic's search ends at the first pack whose own header is gone: then nothing can be said to be whole.
    return hit if searched else {name: hit.get(name, [UNSEARCHED]) for name in among}


def latest_of_each(found: list[Snapshot]) -> dict[str, Snapshot]:
    """Service to its newest snapshot."""
    return {name: snapshot for snapshot in found for name in snapshot.services}


def _found(
    repo: Repo, packs: list[str], among: dict[str, Snapshot], timeout: float
) -> tuple[list[dict[str, Any]], bool]:
    """(what restic found, whether it searched to the end)."""
    searched = True
    ids = sorted({snapshot.id for snapshot in among.values()})
    try:
        result = restic.run(repo, commands.find_packs(packs, ids), timeout)
    except ResticError as error:
        # It complains about what it cannot read and still lists what it found.
        result, searched = error.result, False
    return [entry for line in result.lines if isinstance(line, list) for entry in line], searched


def _paths(entries: list[dict[str, Any]], among: dict[str, Snapshot]) -> dict[str, list[str]]:
    hit: dict[str, list[str]] = {}
    for entry in entries:
        path = str(entry.get("path") or "")
        service = path.strip("/").split("/")[0]
        if service in among and among[service].id == entry.get("snapshot"):
            paths = hit.setdefault(service, [])
            if path not in paths and len(paths) < 20:
                paths.append(path)
    return hit
