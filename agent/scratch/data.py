"""The data of a scratch copy: measured, restored, compared with its snapshot and its manifest, databases loaded."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..data import manifest as manifests
from ..data import patterns
from ..data.plan import Database, Plan, Service
from ..dumps import kinds, sqlite
from ..dumps.common import Loaded, sha256_of
from ..errors import AgentError, because
from ..putback import fetch, listing, safe
from ..putback.listing import Part
from ..repo import restic
from ..repo.restic import Repo
from ..root import Root
from .copies import make_folder

__all__ = ["BUDGET", "Dumped", "check_dumps", "dumped", "load", "measure", "place_files", "restore", "room"]

BUDGET = 20 << 30
TOKEN = "drill"  # noqa: S105 (names the one swap of a scratch server)


@dataclass(frozen=True)
class Dumped:
    """A dump of the snapshot: its name and facts in the manifest, the plan's database, its host path."""

    name: str
    facts: dict[str, Any]
    database: Database
    file: str

    @property
    def by_server(self) -> bool:
        """Whether it is loaded into a running server."""
        return kinds.in_database_server(str(self.facts["kind"]))


def measure(repo: Repo, snapshot: str, service: Service, spool: str, timeout: float) -> dict[str, Part]:
    """What the snapshot holds of a service, by part; the list goes to the real path ``spool``. Raises AgentError."""
    keys = [mount.key for mount in service.mounts]
    return listing.take(repo, snapshot, {service.name: keys}, spool, timeout)[service.name]


def room(root: Root, plan: Plan, service: str, parts: Mapping[str, Part], folder: str) -> None:
    """Refuse what is too big for a drill, before a byte is fetched. Raises AgentError kind "budget"."""
    # A server's dump is loaded as well, and takes its own size again, with its indexes often more.
    needed = sum(part.bytes for part in parts.values()) + 2 * sum(
        p.bytes for k, p in parts.items() if k == "dumps"
    )
    allowed = int(plan.settings.get("drill_budget_bytes") or BUDGET)
    disk = os.statvfs(root.at(folder))
    free = disk.f_bavail * disk.f_frsize
    if needed > allowed:
        raise AgentError(
            f"{service}: a scratch copy takes {_gib(needed)}, a drill may take {_gib(allowed)}: "
            "raise drill_budget_bytes, or rehearse this one by hand on a bigger disk",
            "budget",
        )
    if needed > free // 2:
        raise AgentError(
            f"{service}: a scratch copy takes {_gib(needed)} and {folder} has {_gib(free)} free, "
            "of which a drill takes half at most",
            "budget",
        )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def restore(
    root: Root, repo: Repo, snapshot: str, service: Service, folder: str, timeout: float
) -> dict[str, Any]:
    """Restore below ``folder`` (host path), compare every path with the list ``FOLDER.list``. Returns the manifest.

    Raises AgentError: a path that is missing or differs, a device node, a manifest that is not usable.
    """
    real = root.at(folder)
    restic.run(repo, fetch.include_argv(snapshot, real, [f"/{patterns.escaped(service.name)}"]), timeout)
    wrong = listing.compare(f"{real}.list", real, (), [service.name])[service.name]
    if wrong.count:
        raise AgentError(
            f"{service.name}: {wrong.count} paths differ from the snapshot: {'; '.join(wrong.paths[:3])}",
            "mismatch",
        )
    try:
        manifest = manifests.read(f"{real}/{service.name}/manifest.json")
        found = {"data": safe.look(f"{real}/{service.name}/data", "/nonexistent", {})}
    except (OSError, ValueError) as error:
        why = because(error) if isinstance(error, OSError) else str(error)
        raise AgentError(f"{service.name}: the snapshot has no usable manifest: {why}", "mismatch") from error
    # Programs and links stay within the copy; device nodes are refused, as any restore refuses them.
    safe.refuse(service.name, found, allow=True)
    return manifest


def dumped(service: Service, manifest: Mapping[str, Any], folder: str) -> list[Dumped]:
    """The dumps of a snapshot below ``folder``. Raises AgentError for one that the plan does not know.

    A database that the plan has and the snapshot lacks is a mismatch as well.
    """
    found = []
    for name, facts in (manifest.get("databases") or {}).items():
        database = _planned(service, name, str(facts["kind"]))
        if database is None:
            raise AgentError(
                f"{service.name}: the snapshot holds the database {name}, which the plan does not name",
                "mismatch",
            )
        found.append(Dumped(name, facts, database, f"{folder}/{facts['file']}"))
    # All of a server may be nothing where other services name each of its databases.
    lacking = {d.name for d in service.databases if not d.besides} - {d.database.name for d in found}
    if lacking:
        raise AgentError(f"{service.name}: the snapshot lacks the database {sorted(lacking)[0]}", "mismatch")
    return found


def _planned(service: Service, name: str, kind: str) -> Database | None:
    fitting = (
        d for d in service.databases if d.kind == kind and (name == d.name or name.startswith(f"{d.name}/"))
    )
    return max(fitting, key=lambda database: len(database.name), default=None)


def check_dumps(root: Root, service: str, dumps: Sequence[Dumped]) -> None:
    """Each dump is the one its manifest names. Raises AgentError kind "mismatch"."""
    for dump in dumps:
        try:
            same = sha256_of(root.at(dump.file)) == dump.facts["sha256"]
        except OSError as error:
            raise AgentError(
                f"{service}: the dump of {dump.name} is gone: {because(error)}", "mismatch"
            ) from error
        if not same:
            raise AgentError(
                f"{service}: the dump of {dump.name} is not the one its manifest names", "mismatch"
            )


def place_files(
    root: Root, dumps: Sequence[Dumped], manifest: Mapping[str, Any], folder: str, timeout: float
) -> list[Loaded]:
    """Put SQLite and Redis dumps where their programs look for them. Raises AgentError kind "mismatch"."""
    placed = []
    for dump in dumps:
        mount = dump.database.mount or dump.database.data_mount
        # A Redis without a volume has nowhere to read from: it is a cache, and starts empty.
        if dump.by_server or not mount:
            continue
        tree = f"{folder}/data/{mount}"
        if dump.facts["kind"] == "sqlite" and dump.facts["extra"].get("path") in ("", "."):
            done = sqlite.place(root, dump.facts, dump.file, tree, timeout, dump.name)
        else:
            make_folder(root, tree, ((manifest.get("mounts") or {}).get(mount) or {}).get("owner"))
            done = kinds.load(root, dump.database, dump.facts, dump.file, tree, timeout)
        placed.append(replace(done, name=dump.name))
    return placed


def load(
    root: Root, dumps: Sequence[Dumped], servers: Mapping[tuple[str, str], tuple[str, str]], timeout: float
) -> list[Loaded]:
    """Load the other dumps, roles included, into scratch servers; each is compared with its manifest.

    ``servers``: (project, container) of the plan to those of the scratch project, and to nothing live, ever.
    """
    loaded, deadline = [], time.monotonic() + timeout
    for dump in dumps:
        if not dump.by_server:
            continue
        project, container = servers[dump.database.project, dump.database.container]
        scratch = replace(dump.database, project=project, container=container)
        left = max(1.0, deadline - time.monotonic())
        done = kinds.load(root, scratch, dump.facts, dump.file, "", left)
        kinds.swap(scratch, dump.facts, TOKEN)
        loaded.append(replace(done, name=dump.name))
    return loaded
