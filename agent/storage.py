"""Free space and mount points."""

from __future__ import annotations

import os
from typing import Any

from .mounts import Mount, mounted
from .root import checked

__all__ = ["disks", "mounts"]


def disks(wanted: list[str]) -> dict[str, dict[str, int]]:
    """Bytes and inodes of "/", of every mounted block device and of the requested mount points.

    Other mounts are not asked: a dead network mount would hang. inodes_total is 0 where there is no limit.
    """
    places = {"/": "/"}
    for mount in mounted():
        asked = mount.source.startswith("/dev/") or mount.point in wanted
        if asked and os.path.isdir(mount.point):
            places.setdefault(mount.device, mount.point)
    found = {place: _space(place) for place in places.values()}
    return {place: found[place] for place in sorted(found)}


def _space(place: str) -> dict[str, int]:
    disk = os.statvfs(place)
    return {
        "free": disk.f_bavail * disk.f_frsize,
        "total": disk.f_blocks * disk.f_frsize,
        "inodes_free": disk.f_favail,
        "inodes_total": disk.f_files,
    }


def mounts(paths: list[str]) -> dict[str, dict[str, Any]]:
    """Whether something is mounted exactly at each path, and what."""
    known: dict[str, Mount] = {mount.point: mount for mount in mounted()}
    return {checked(path): _mount(known.get(path)) for path in paths}


def _mount(mount: Mount | None) -> dict[str, Any]:
    if mount is None:
        return {"mounted": False, "source": None, "fstype": None}
    return {"mounted": True, "source": mount.source, "fstype": mount.fstype}
