"""Mount points, and the way from "/" to a path."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

from .errors import AgentError, because
from .root import Root

__all__ = ["Mount", "missing_parents", "mounted", "points"]


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    point: str
    source: str
    fstype: str
    device: str


def mounted() -> list[Mount]:
    """Everything that is mounted, in mount order (the last one at a point is the visible one)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        return [_mount(line) for line in stream]


def _mount(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    fields, (fstype, source, *_) = left.split(), right.split()
    return Mount(_plain(fields[4]), _plain(source), fstype, fields[2])


def _plain(field: str) -> str:
    """mountinfo writes blanks and backslashes as octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def points(root: Root) -> set[str]:
    """Host paths that are mount points (a single file can be one too)."""
    prefix = "" if root.base == "/" else root.base.rstrip("/")
    return {mount.point[len(prefix) :] for mount in mounted() if mount.point.startswith(f"{prefix}/")}


def missing_parents(root: Root, path: str) -> list[str]:
    """The folders above a path that do not exist yet, top first. Refuses a way that is not safe to walk."""
    parts = path.split("/")[1:-1]
    for depth in range(1, len(parts) + 1):
        parent = "/" + "/".join(parts[:depth])
        if not _passable(root, parent, path):
            return ["/" + "/".join(parts[:count]) for count in range(depth, len(parts) + 1)]
    return []


def _passable(root: Root, parent: str, path: str) -> bool:
    real = root.at(parent)
    try:
        info = os.lstat(real)
        if stat.S_ISLNK(info.st_mode):
            _refuse_foreign_link(info, os.stat(real), parent, path)
            info = os.stat(real)
    except FileNotFoundError:
        if os.path.lexists(real):
            raise AgentError(f"{path}: {parent} is a symbolic link to nothing; nothing was changed") from None
        return False
    except OSError as error:
        raise AgentError(f"{path}: {parent} cannot be read: {because(error)}", "io") from error
    if not stat.S_ISDIR(info.st_mode):
        raise AgentError(f"{path}: {parent} is not a directory: move it away; nothing was changed")
    return True


def _refuse_foreign_link(link: os.stat_result, goal: os.stat_result, parent: str, path: str) -> None:
    # A service that owns its folder could point a link at /etc and have root write there.
    if link.st_uid not in (0, os.geteuid(), goal.st_uid):
        raise AgentError(
            f"{path}: {parent} is a link made by user {link.st_uid} into another user's folder; refused"
        )
