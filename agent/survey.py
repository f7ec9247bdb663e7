"""Everything converge needs to know about a host, in one call that changes nothing but a cache.

Request: {"paths", "packages", "units", "users", "mounts", "programs", "stacks": [{"service", "project", "path",
"files", "env_file", "profiles", "inputs"?}]}, all optional. Reply: one key per part below; a part that could not
be read is {"unreadable": reason}. ``files`` also covers what the manifest on the host lists.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from . import containers, journal, lock, manifest, markers, network, stack_hashes, storage, system
from .look import record
from .parts import gather
from .root import Root, checked

__all__ = ["run"]

_TIMEOUT = 60.0


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    started = time.monotonic()
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
        "programs": partial(_records, root, [checked(path) for path in request.get("programs") or []]),
        "manifest": partial(manifest.load, root),
        "pending": partial(markers.pending, root),
        "markers": partial(markers.tokens, root),
        "journal": partial(journal.summary, root),
        "busy": partial(lock.holder, root, "apply"),
        "listeners": network.listeners,
        "disks": partial(storage.disks, request.get("mounts") or []),
        "mounts": partial(storage.mounts, request.get("mounts") or []),
        "users": partial(system.users, request.get("users") or []),
        **system.READERS,
    }
    reply = gather(readers, _TIMEOUT)
    return {**reply, "seconds": round(time.monotonic() - started, 3)}


def _files(root: Root, paths: list[str]) -> dict[str, Any]:
    known = manifest.entries(manifest.load(root))
    return _records(root, sorted({*paths, *known}))


def _records(root: Root, paths: list[str]) -> dict[str, Any]:
    return {path: record(root, path) for path in paths}
