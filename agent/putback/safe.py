"""Looks through what came out of a snapshot, once, before any of it is live (protocol.md §5).

Refused: device nodes; setuid and setgid programs and links out of the mount that neither the manifest records nor
the live tree has in the same place: a stolen key must not plant them, and a restore must not lose the owner's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import AgentError

__all__ = ["Found", "leaves", "look", "refuse"]

_SHOWN = 5
_PROGRAM = stat.S_ISUID | stat.S_ISGID


@dataclass
class Found:
    """What a tree holds: regular files and their bytes, and paths (relative to the tree) that need a reason."""

    files: int = 0
    bytes: int = 0
    devices: list[str] = field(default_factory=list)
    setuid: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


def look(new: str, live: str, special: dict[str, Any], skip: frozenset[str] = frozenset()) -> Found:
    """Walk the real folder ``new``; ``live`` is the real folder it would replace.

    ``special`` is the manifest's record: {"setuid": [paths], "links": {path: goal}}. ``skip``: top-level names.
    """
    found = Found()
    known = set(special.get("setuid") or ())
    goals = special.get("links") or {}
    for path, entry in _walk(new, "", skip):
        info = entry.stat(follow_symlinks=False)
        mode = info.st_mode
        if stat.S_ISREG(mode):
            found.files += 1
            found.bytes += info.st_size
            if mode & _PROGRAM and path not in known and not _same_rights(f"{live}/{path}", info):
                found.setuid.append(path)
        elif stat.S_ISLNK(mode):
            goal = os.readlink(entry.path)
            if leaves(path, goal) and goals.get(path) != goal and not _same_link(f"{live}/{path}", goal):
                found.links.append(path)
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            found.devices.append(path)
    return found


def _walk(folder: str, prefix: str, skip: frozenset[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not prefix and entry.name in skip:
                continue
            path = f"{prefix}{entry.name}"
            yield path, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{path}/", skip)


def leaves(path: str, goal: str) -> bool:
    """Whether a link at ``path`` (relative to its mount) to ``goal`` leads out of the mount, by its words."""
    if goal.startswith("/"):
        return True
    way = os.path.normpath(os.path.join(os.path.dirname(path), goal))
    return way == ".." or way.startswith("../")


def _same_rights(live: str, info: os.stat_result) -> bool:
    try:
        now = os.lstat(live)
    except OSError:
        return False
    same = (now.st_mode, now.st_uid, now.st_gid) == (info.st_mode, info.st_uid, info.st_gid)
    return same and now.st_size == info.st_size


def _same_link(live: str, goal: str) -> bool:
    try:
        return os.readlink(live) == goal
    except OSError:
        return False


def refuse(service: str, found: dict[str, Found], allow: bool) -> None:
    """Raise AgentError kind "refused" for the first bad thing in the trees (by mount key).

    ``allow``: the owner looked at programs and links and wants them; device nodes are refused always.
    """
    for key, tree in found.items():
        if tree.devices:
            raise AgentError(
                f"{service}: the snapshot holds {_named(tree.devices, 'device node')} in {key}, which are never "
                "restored; exclude them from the backup; nothing was changed"
            )
        for paths, what in ((tree.setuid, "setuid program"), (tree.links, "link out of the mount")):
            if paths and not allow:
                raise AgentError(
                    f"{service}: the snapshot holds {_named(paths, what)} in {key} that this host does not have there: "
                    "look at them with a restore to a scratch folder, then repeat with allow_special; "
                    "nothing was changed",
                    paths=paths[:100],
                )


def _named(paths: list[str], what: str) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{len(paths)} {what}{'s' if len(paths) > 1 else ''} ({', '.join(paths[:_SHOWN])}{more})"
