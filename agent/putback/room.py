"""Is there room for the new content beside the old one, on each file system it goes to?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ..errors import AgentError
from ..root import Root
from .listing import Part
from .places import Layout

__all__ = ["Need", "check", "needs"]

_RESERVE = 64 << 20
_PER_FILE = 4096


@dataclass
class Need:
    """Of one file system: a folder on it, bytes and files to come, bytes and inodes free (inodes 0: no limit)."""

    place: str
    bytes: int
    files: int
    free: int
    inodes: int

    @property
    def short(self) -> bool:
        return self.free < self.bytes + _RESERVE or (self.inodes > 0 and self.inodes < self.files + 100)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "short": self.short}


def needs(root: Root, layouts: list[Layout], sums: dict[str, dict[str, Part]], work: str) -> list[Need]:
    """What a restore into new folders needs."""
    found: dict[int, Need] = {}
    for layout in layouts:
        for name, part in sums[layout.service.name].items():
            place = _place(layout, name, work)
            _add(root, found, place, part.bytes + _PER_FILE * part.files, part.files)
            if name == "dumps":
                _placed(root, found, layout, part, work)
    return list(found.values())


def _placed(root: Root, found: dict[int, Need], layout: Layout, part: Part, work: str) -> None:
    """Databases in files are placed as a copy of their dump, on the file system of their mount."""
    keys = [d.mount or d.data_mount for d in layout.service.databases if d.kind in ("sqlite", "redis")]
    for key in keys[:1]:
        _add(root, found, _place(layout, key, work), part.bytes, 1)


def _place(layout: Layout, name: str, work: str) -> str:
    return layout.trees.get(name, work)


def _add(root: Root, found: dict[int, Need], place: str, size: int, files: int) -> None:
    folder = place
    while not os.path.isdir(root.at(folder)) and folder not in ("", "/"):
        folder = os.path.dirname(folder)
    real = root.at(folder or "/")
    device = os.stat(real).st_dev
    if device not in found:
        disk = os.statvfs(real)
        inodes = disk.f_favail if disk.f_files else 0
        found[device] = Need(folder, 0, 0, disk.f_bavail * disk.f_frsize, inodes)
    found[device].bytes += size
    found[device].files += files


def check(service: str, found: list[Need]) -> None:
    """Raise AgentError kind "space" for a file system that is short, saying what would fit instead."""
    for need in found:
        if need.short:
            raise AgentError(
                f"{service}: {need.free / 1e9:.1f} GB free and {need.bytes / 1e9:.1f} GB needed beside the old data on "
                f"the disk of {need.place}: make room, or restore with in_place (takes a fresh snapshot first and "
                "keeps no copy of the old data on this host); nothing was changed",
                "space",
                needs=[one.to_json() for one in found],
            )
