"""Is there room for a transaction? Asked before anything is written."""

from __future__ import annotations

import os

from .errors import AgentError
from .plan import Plan
from .root import STATE, Root

__all__ = ["check"]

_RESERVE = 16 * 1024 * 1024
_INODES = 100


def check(root: Root, plan: Plan, contents: dict[str, bytes], context: list[str]) -> None:
    """Raise AgentError kind "space" when a file system cannot take staging, new files and saved old ones."""
    staged = sum(map(len, contents.values())) + sum(_size(root, path) for path in context)
    saved = sum(_size(root, path) for path in plan.paths("put", "delete"))
    need: dict[int, tuple[str, int, int]] = {}
    _add(need, root, STATE, staged + saved + 2 * len(plan.manifest), 2 * len(contents) + len(context))
    for path in plan.paths("put"):
        _add(need, root, path, len(contents.get(path, b"")), 1)
    for place, size, inodes in need.values():
        _require(root, place, size, inodes)


def _size(root: Root, path: str) -> int:
    try:
        return os.lstat(root.at(path)).st_size
    except OSError:
        return 0


def _add(need: dict[int, tuple[str, int, int]], root: Root, path: str, size: int, inodes: int) -> None:
    place = path
    while not os.path.isdir(root.at(place)) and place != "/":
        place = os.path.dirname(place)
    device = os.stat(root.at(place)).st_dev
    name, so_far, files = need.get(device, (place, 0, 0))
    # A small file takes a whole block.
    need[device] = (name, so_far + size + 4096 * inodes, files + inodes)


def _require(root: Root, place: str, size: int, inodes: int) -> None:
    disk = os.statvfs(root.at(place))
    free, wanted = disk.f_bavail * disk.f_frsize, size + _RESERVE
    if free < wanted:
        sizes = f"{free / 1e6:.1f} MB free, {wanted / 1e6:.1f} MB needed"
        raise AgentError(f"the disk of {place} is full: {sizes}; nothing was changed", "space")
    if disk.f_files and disk.f_favail < inodes + _INODES:
        raise AgentError(f"the disk of {place} has {disk.f_favail} inodes left; nothing was changed", "space")
