"""Everything converge needs to know about a host, in one call that changes nothing but a cache.

Request, all optional: {"paths", "packages", "units", "users", "mounts", "programs", "devices", "groups",
"read": [paths], "recover": bool,
"stacks": [{"service", "project", "path", "files", "env_file", "profiles", "inputs"?}]}.
Reply: one key per part below; a part that could not be read is {"unreadable": reason}. ``files`` also covers what
the manifest on the host lists. With "recover" an interrupted apply is finished or undone first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from . import (
    containers,
    journal,
    lock,
    losses,
    manifest,
    markers,
    may,
    network,
    read,
    recover,
    remembered,
    stack_hashes,
    storage,
    system,
)
from .look import record
from .parts import gather
from .root import Root, checked

__all__ = ["run"]

_TIMEOUT = 60.0


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    started = time.monotonic()
    recovered = recover.files(request, root) if request.get("recover") else None
    paths = [checked(path) for path in request.get("paths") or []]
    docker = containers.Docker()
    readers: dict[str, Callable[[], Any]] = {
        "docker": docker.info,
        "containers": docker.containers,
        "stack_hashes": partial(stack_hashes.read, root, request.get("stacks") or []),
        "volumes": docker.volumes,
        "images": docker.images,
        "units": partial(system.units, request.get("units") or []),
        "packages": partial(system.packages, request.get("packages") or []),
        "files": partial(_files, root, paths),
        "programs": partial(_programs, root, [checked(path) for path in request.get("programs") or []]),
        "devices": partial(_present, root, [checked(path) for path in request.get("devices") or []]),
        "manifest": partial(manifest.load, root),
        "pending": partial(markers.pending, root),
        "markers": partial(markers.tokens, root),
        "updates": partial(markers.open_updates, root),
        "journal": partial(journal.summary, root),
        "may": partial(may.seen, root),
        "line": partial(losses.report, root),
        "owners": partial(remembered.known, root, request.get("groups") or []),
        "busy": partial(lock.holder, root, "apply"),
        "listeners": network.listeners,
        "disks": partial(storage.disks, request.get("mounts") or []),
        "mounts": partial(storage.mounts, request.get("mounts") or []),
        "contents": partial(read.contents, root, request.get("read") or []),
        "users": partial(system.users, request.get("users") or []),
        **system.READERS,
    }
    reply = gather(readers, _TIMEOUT)
    return {**reply, "recovered": recovered, "seconds": round(time.monotonic() - started, 3)}


def _files(root: Root, paths: list[str]) -> dict[str, Any]:
    known = manifest.entries(manifest.load(root))
    return _records(root, sorted({*paths, *known}))


def _programs(root: Root, paths: list[str]) -> dict[str, Any]:
    """Like files, but through links: what would run."""
    prefix = "" if root.base == "/" else os.path.realpath(root.base)
    return {path: record(root, os.path.realpath(root.at(path))[len(prefix) :]) for path in paths}


def _present(root: Root, paths: list[str]) -> dict[str, bool]:
    return {path: os.path.exists(root.at(path)) for path in paths}


def _records(root: Root, paths: list[str]) -> dict[str, Any]:
    return {path: record(root, path) for path in paths}
