"""Is there data on this host that nobody keeps? Volumes, folders and databases that no service of the plan covers.

Reply (also in /var/lib/understudy/backup/coverage.json): {"at", "complete", "uncovered": [{"kind": "volume" | "path" |
"database" | "sqlite", "what", "service", "sentence"}]}. What the plan marks media, cache or none is a decision: covered.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Iterator
from typing import Any

from .containers import Docker
from .data import clock, patterns, stage
from .data import plan as plans
from .data.plan import Plan, Service
from .data.state import FOLDER, seen
from .disk import Disk
from .errors import AgentError
from .parts import Unreadable
from .root import MANIFEST, Root
from .server_kinds import INTERNAL, server_kind

__all__ = ["FILE", "look", "run", "servers", "uncovered_mounts", "unnamed_databases"]

FILE = f"{FOLDER}/coverage.json"
_HEADER = b"SQLite format 3\0"
_MOST_ENTRIES, _MOST_SECONDS = 300_000, 30.0
# What a container is shown of the host itself: nobody's data.
_SYSTEM = re.compile(
    r"^/$|^/(proc|sys|dev|run|var/run|tmp|lib/modules|usr|boot)(/|$)"
    r"|^/etc/(localtime|timezone|passwd|group|ssl|understudy|os-release|machine-id)(/|$)"
)
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb; it also says which declared repositories are missing ("unmade", agent/unmade.py)."""
    from . import unmade

    plan = plans.load(root)
    return {**look(root, plan), "unmade": unmade.look(root, plan)}


def look(root: Root, plan: Plan) -> dict[str, Any]:
    """Look at everything and save what was found. Raises AgentError when Docker does not answer."""
    docker = Docker()
    try:
        containers, volumes = docker.containers(), docker.volumes()
    except Unreadable as error:
        raise AgentError(str(error), "docker") from error
    found = list(uncovered_mounts(plan, containers, volumes, _managed(root)))
    found += servers(plan, containers)
    held, complete = _held(plan)
    found += unnamed_databases(plan, held)
    until, entries = time.monotonic() + _MOST_SECONDS, [0]
    for service in plan.services.values():
        for path in _unnamed_sqlite(root, service, entries):
            sentence = f"{path} is a SQLite database that {service.name} does not name: its copy may be torn"
            found.append(_finding("sqlite", path, service.name, sentence))
        if entries[0] > _MOST_ENTRIES or time.monotonic() > until:
            complete = False
            break
    reply = {"at": round(clock.now(root), 3), "complete": complete, "uncovered": found}
    disk = Disk(root)
    disk.private_dir(FOLDER)
    disk.replace(FILE, json.dumps(reply, indent=1).encode() + b"\n")
    return reply


def _finding(kind: str, what: str, service: str, sentence: str) -> dict[str, str]:
    return {"kind": kind, "what": what, "service": service, "sentence": sentence}


def _managed(root: Root) -> set[str]:
    """Files that converge wrote: they come from the description again."""
    return set((seen(root, MANIFEST) or {}).get("entries") or {})


def uncovered_mounts(
    plan: Plan, containers: list[dict[str, Any]], volumes: list[dict[str, Any]], managed: set[str]
) -> Iterator[dict[str, str]]:
    """Volumes and bind sources of any container, running or not, that no mount of the plan holds."""
    names = {m.source for s in plan.services.values() for m in s.mounts if m.kind == "volume"}
    paths = {m.source for s in plan.services.values() for m in s.mounts if m.kind == "bind"} | managed
    paths |= {path for s in plan.services.values() for path in s.config}
    users: dict[tuple[str, str], list[str]] = {}
    for volume in volumes:
        if not _ANONYMOUS.fullmatch(volume["name"]):
            users.setdefault(("volume", volume["name"]), [])
    for container in containers:
        for mount in container["mounts"]:
            if mount["type"] == "volume":
                users.setdefault(("volume", mount["name"]), []).append(container["name"])
            elif mount["type"] == "bind" and not _SYSTEM.search(mount["source"]):
                users.setdefault(("path", mount["source"]), []).append(container["name"])
    for (kind, what), who in sorted(users.items()):
        if what not in names if kind == "volume" else not _inside(what, paths):
            by = f"used by {', '.join(sorted(who))}" if who else "used by no container"
            yield _finding(kind, what, ", ".join(sorted(who)), f"the {kind} {what}, {by}, is in no backup")


def _inside(path: str, covered: set[str]) -> bool:
    """Whether it lies in something covered, or holds nothing but files that are (a folder of managed files)."""
    while path not in ("", "/"):
        if path in covered:
            return True
        path = os.path.dirname(path)
    return False


def servers(plan: Plan, containers: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Database servers, judged over all services: one that any of them names is covered by it."""
    named = {(d.project, d.container): d for s in plan.services.values() for d in s.databases if d.container}
    left = {m.source for s in plan.services.values() for m in s.mounts if m.class_ in ("none", "cache")}
    found = []
    for container in containers:
        kind = server_kind(str(container["image"] or ""))
        if not kind or (container["project"], container["service"]) in named or container["oneoff"]:
            continue
        kept = [m["name"] or m["source"] for m in container["mounts"] if m["rw"]]
        if kind == "redis" and all(source in left for source in kept):
            continue
        sentence = (
            f"{container['name']} is a {kind} server that no service's databases name: its data is not dumped"
        )
        found.append(_finding("database", container["name"], str(container["project"] or ""), sentence))
    return found


def _held(plan: Plan) -> tuple[dict[tuple[str, str], list[str]], bool]:
    """What each server that the plan names holds, by (project, container), and whether every one of them said."""
    from .dumps import kinds

    held: dict[tuple[str, str], list[str]] = {}
    complete = True
    for service in plan.services.values():
        for database in service.databases:
            where = (database.project, database.container)
            if kinds.in_database_server(database.kind) and where not in held:
                try:
                    held[where] = list(kinds.listed(database.kind, *where, database.user).databases)
                except AgentError:
                    complete = False
    return held, complete


def unnamed_databases(plan: Plan, held: dict[tuple[str, str], list[str]]) -> list[dict[str, str]]:
    """Databases beside the named ones in the same server: of other applications, found by nobody."""
    named: dict[tuple[str, str], set[str]] = {}
    for service in plan.services.values():
        for database in service.databases:
            named.setdefault((database.project, database.container), set()).add(database.database)
    found = []
    for where, databases in held.items():
        for name in databases:
            # "" stands for all of them; ours in the making or set aside are no data of anybody's.
            if (
                not named[where] & {"", name}
                and name not in INTERNAL
                and not name.endswith(("__new", "__old"))
            ):
                what = f"{'/'.join(where)}/{name}"
                found.append(
                    _finding(
                        "database",
                        what,
                        where[0],
                        f"the database {what} is named by no service: it is not dumped",
                    )
                )
    return found


def _unnamed_sqlite(root: Root, service: Service, entries: list[int]) -> Iterator[str]:
    """Host paths of SQLite files in kept folders that no entry names; the walk is bounded over all services."""
    out = patterns.any_of(stage.excluded(service))
    for mount in stage.bound(service):
        try:
            source = stage.source_of(mount)
        except AgentError:
            continue
        if source is None:
            continue
        real = root.at(source)
        for path in _files(real, mount.key, out, entries):
            if _is_sqlite(f"{real}{path}"):
                yield f"{source}{path}"


def _files(real: str, key: str, out: re.Pattern[str] | None, entries: list[int]) -> Iterator[str]:
    """Paths of files below ``real`` that are kept, each from its own "/"; "" for a source that is a file itself."""
    if not os.path.isdir(real):
        if os.path.isfile(real):
            yield ""
        return
    for top, folders, files in os.walk(real):
        below = os.path.relpath(top, real)
        prefix = "" if below == "." else f"/{below}"
        entries[0] += len(folders) + len(files)
        if entries[0] > _MOST_ENTRIES:
            return
        folders[:] = [f for f in folders if not (out and out.fullmatch(f"{key}{prefix}/{f}/"))]
        yield from (f"{prefix}/{f}" for f in files if not (out and out.fullmatch(f"{key}{prefix}/{f}/")))


def _is_sqlite(path: str) -> bool:
    """By size first: a database is whole pages, which most files are not."""
    try:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode) or info.st_size < 512 or info.st_size % 512:
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(descriptor, 16) == _HEADER
    finally:
        os.close(descriptor)
