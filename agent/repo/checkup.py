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
FOLDERS = "(folders of it)"
_SHOWN = 20
_AT_ONCE = 10_000
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
    try:
        return _paths(_found(repo, commands.find("pack", packs, _ids(among)), timeout), among)
    except AgentError:
        # restic's search ends at the first pack whose own header is gone; the index still knows what was in it.
        return _by_index(repo, packs, among, timeout)


def latest_of_each(found: list[Snapshot]) -> dict[str, Snapshot]:
    """Service to its newest snapshot."""
    return {name: snapshot for snapshot in found for name in snapshot.services}


def _ids(among: dict[str, Snapshot]) -> list[str]:
    return sorted({snapshot.id for snapshot in among.values()})


def _found(repo: Repo, argv: list[str], timeout: float) -> list[dict[str, Any]]:
    result = restic.run(repo, argv, timeout)
    return [entry for line in result.lines if isinstance(line, list) for entry in line]


def _by_index(
    repo: Repo, packs: list[str], among: dict[str, Snapshot], timeout: float
) -> dict[str, list[str]]:
    """The same, asked for each piece that the index places in these packs."""
    try:
        files, folders = _blobs(repo, packs, timeout)
        hit: dict[str, list[str]] = {}
        for at in range(0, len(files), _AT_ONCE):
            entries = _found(repo, commands.find("blob", files[at : at + _AT_ONCE], _ids(among)), timeout)
            for name, paths in _paths(entries, among).items():
                hit.setdefault(name, []).extend(paths[: _SHOWN - len(hit.get(name, []))])
    except AgentError:
        return {name: [UNSEARCHED] for name in among}
    for name, snapshot in among.items() if folders else ():
        if not _walks(repo, snapshot, name, timeout):
            hit.setdefault(name, []).insert(0, FOLDERS)
    return hit


def _blobs(repo: Repo, packs: list[str], timeout: float) -> tuple[list[str], list[str]]:
    """(pieces of files, folders) in these packs, by the index. Raises AgentError when it does not know them all."""
    left, files, folders = set(packs), list[str](), list[str]()
    for index in restic.run(repo, commands.indexes(), timeout).lines:
        for text in restic.run(repo, commands.index(str(index)), timeout).lines:
            for pack in text.get("packs") or () if isinstance(text, dict) else ():
                if pack["id"] in left:
                    left.discard(pack["id"])
                    for blob in pack["blobs"]:
                        (folders if blob["type"] == "tree" else files).append(blob["id"])
        if not left:
            return files, folders
    raise AgentError(f"no index of {repo.title} knows {len(left)} of the damaged packs", "failed")


def _walks(repo: Repo, snapshot: Snapshot, service: str, timeout: float) -> bool:
    """Whether every folder of the service can be read. restic says of none which it was, and may even crash."""
    try:
        restic.run(repo, commands.walk(snapshot.id, service), timeout)
    except ResticError as error:
        if error.kind in ("unreachable", "interrupted", "password"):
            raise
        return False
    return True


def _paths(entries: list[dict[str, Any]], among: dict[str, Snapshot]) -> dict[str, list[str]]:
    hit: dict[str, list[str]] = {}
    for entry in entries:
        path = str(entry.get("path") or "")
        service = path.strip("/").split("/")[0]
        if service in among and among[service].id == entry.get("snapshot"):
            paths = hit.setdefault(service, [])
            if path not in paths and len(paths) < _SHOWN:
                paths.append(path)
    return hit
