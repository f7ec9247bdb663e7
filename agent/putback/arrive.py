"""Makes a restored tree complete: databases that are files in their places, caches empty, everything looked at."""

from __future__ import annotations

import os
from typing import Any

from ..data.plan import Database, Service
from ..disk import Disk
from ..dumps import kinds
from ..errors import AgentError, because
from . import safe
from .places import Layout

__all__ = ["caches", "database_of", "inspect", "place_files", "served"]


def database_of(service: Service, name: str) -> Database | None:
    """The plan's entry for a database of a manifest (one entry may have given several, NAME/ITEM)."""
    fitting = [d for d in service.databases if name == d.name or name.startswith(f"{d.name}/")]
    return max(fitting, key=lambda database: len(database.name), default=None)


def served(
    service: Service, manifest: dict[str, Any]
) -> tuple[list[tuple[str, Database, dict[str, Any]]], list[str]]:
    """The manifest's databases that live in a server: (name, plan's entry, facts), and notes on others left out."""
    found, notes = [], []
    for name, facts in sorted((manifest.get("databases") or {}).items()):
        database = database_of(service, name)
        if database is None:
            notes.append(f"the database {name} of the snapshot is not in the plan any more and is left out")
        elif name.removeprefix(f"{database.name}/") in database.besides:
            notes.append(
                f"the database {name} of the snapshot is kept by another service now and stays as it is"
            )
        elif kinds.in_database_server(facts["kind"]):
            found.append((name, database, facts))
    return found, notes


def place_files(
    disk: Disk, service: Service, manifest: dict[str, Any], trees: dict[str, str], work: str, timeout: float
) -> dict[str, dict[str, int]]:
    """Put SQLite and Redis dumps into the new trees (mount key to host folder). Returns database to rows.

    ``work`` is the service's host folder that holds ``dumps``. Raises AgentError kind "mismatch" for a dump that is
    not what its manifest says.
    """
    rows = {}
    for name, facts in sorted((manifest.get("databases") or {}).items()):
        database = database_of(service, name)
        if database is None or kinds.in_database_server(facts["kind"]):
            continue
        key = database.mount or database.data_mount
        if key not in trees:
            raise AgentError(
                f"{service.name}: the snapshot has the database {name} and not its mount {key}: take another one",
                "mismatch",
            )
        file = f"{work}/{facts['file']}"
        if not os.path.isfile(disk.root.at(file)):
            raise AgentError(f"{service.name}: the dump {facts['file']} is not in the snapshot", "mismatch")
        rows[name] = kinds.load(disk.root, database, facts, file, trees[key], timeout).rows
        disk.checkpoint(f"place {name}")
    return rows


def caches(disk: Disk, manifest: dict[str, Any], trees: dict[str, str]) -> list[str]:
    """Make the empty folders of caches, with the owner and mode they had. Returns their host paths."""
    made = []
    for cache in manifest.get("caches") or []:
        place = _in_tree(str(cache["path"]).removeprefix("data/"), trees)
        if place is None or not _safe_way(disk.root.at(place[0]), place[1]):
            continue
        folder = f"{place[0]}/{place[1]}"
        uid, gid, mode = cache["owner"]
        try:
            os.makedirs(disk.root.at(folder), mode=0o755, exist_ok=True)
            disk.set_meta(folder, mode, *disk.root.owner(int(uid), int(gid)))
        except OSError as error:
            raise AgentError(f"the cache {folder} cannot be made: {because(error)}", "io") from error
        made.append(folder)
    return made


def _in_tree(path: str, trees: dict[str, str]) -> tuple[str, str] | None:
    keys = [key for key in trees if path.startswith(f"{key}/")]
    if not keys:
        return None
    key = max(keys, key=len)
    return trees[key], path[len(key) + 1 :]


def _safe_way(real: str, path: str) -> bool:
    """No link on the way (a link in a restored tree could lead anywhere), and no way up."""
    so_far = real
    for part in path.split("/"):
        so_far = f"{so_far}/{part}"
        if part in ("", ".", "..") or os.path.islink(so_far):
            return False
    return True


def inspect(disk: Disk, found: Layout, manifest: dict[str, Any], allow: bool) -> tuple[int, int]:
    """Look through the new trees; raises AgentError for what must not become live. Returns files and bytes."""
    seen: dict[str, safe.Found] = {}
    for target in found.targets:
        special = (manifest.get("mounts") or {}).get(target.key, {}).get("special") or {}
        skip = frozenset(target.keep)
        seen[target.key] = safe.look(disk.root.at(target.new), disk.root.at(target.live), special, skip)
    safe.refuse(found.service.name, seen, allow)
    return sum(tree.files for tree in seen.values()), sum(tree.bytes for tree in seen.values())
