"""How much lies in each place, and which SQLite databases are in it; the walk is bounded over all of them."""

from __future__ import annotations

import os
import re
import stat
import time
from typing import Any

from ..root import Root

__all__ = ["read"]

_MOST_ENTRIES, _MOST_SECONDS, _MOST_DATABASES = 500_000, 45.0, 100
_HEADER = b"SQLite format 3\0"
# What a container is shown of the host itself: nobody's data, and endless.
_SYSTEM = re.compile(
    r"^/$|^/(proc|sys|dev|run|var/run|tmp|lib/modules|usr|boot|etc|var/lib/docker|home|mnt|var)/?$|^/(proc|sys|dev|run)/"
)


def read(root: Root, paths: list[str]) -> dict[str, dict[str, Any]]:
    """Path to {"bytes", "files", "newest" (mtime), "sqlite": [paths below it], "complete"} or {"error"}.

    "single" is there for a path that is one file.
    """
    until, left = time.monotonic() + _MOST_SECONDS, [_MOST_ENTRIES]
    wanted = [path for path in dict.fromkeys(paths) if not _SYSTEM.search(path)]
    return {path: _measure(root, path, until, left) for path in wanted}


def _measure(root: Root, path: str, until: float, left: list[int]) -> dict[str, Any]:
    real = root.at(path)
    found: dict[str, Any] = {"bytes": 0, "files": 0, "newest": 0.0, "sqlite": [], "complete": True}
    try:
        info = os.stat(real)
    except OSError as error:
        return {"error": (error.strerror or str(error)).lower()}
    if stat.S_ISREG(info.st_mode):
        _count(found, real, "", info)
        return {**found, "single": True}
    if not stat.S_ISDIR(info.st_mode):
        return {"error": "is neither a file nor a folder"}

    def refused(error: OSError) -> None:
        found["complete"] = False

    for top, folders, files in os.walk(real, onerror=refused):
        left[0] -= len(folders) + len(files)
        if left[0] < 0 or time.monotonic() > until:
            found["complete"] = False
            break
        for name in files:
            full = f"{top}/{name}"
            try:
                info = os.lstat(full)
            except OSError:
                continue
            if stat.S_ISREG(info.st_mode):
                _count(found, full, full[len(real) :], info)
    return found


def _count(found: dict[str, Any], full: str, relative: str, info: os.stat_result) -> None:
    found["bytes"] += info.st_size
    found["files"] += 1
    found["newest"] = max(found["newest"], info.st_mtime)
    if (
        info.st_size >= 512
        and info.st_size % 512 == 0
        and len(found["sqlite"]) < _MOST_DATABASES
        and _is_sqlite(full)
    ):
        found["sqlite"].append(relative)


def _is_sqlite(path: str) -> bool:
    try:
        # O_NOATIME: looking at a file must not even change the time of its last reading.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME)
    except OSError:
        return False
    try:
        return os.read(descriptor, 16) == _HEADER
    finally:
        os.close(descriptor)
