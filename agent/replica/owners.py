"""Numeric owners of another host, as this one's users of the same name: native services have no image that fixes them."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Any

from ..data.plan import Service
from ..disk import Disk
from ..putback.places import Layout

__all__ = ["fit", "maps"]


def maps(manifest: dict[str, Any]) -> tuple[dict[int, int], dict[int, int]]:
    """(uid there to uid here, gid there to gid here) of those that differ."""
    names = manifest.get("owners") or {}
    return _of(names.get("uid") or {}, _uid), _of(names.get("gid") or {}, _gid)


def _of(names: dict[str, str], here: Any) -> dict[int, int]:
    found = {int(number): here(name) for number, name in names.items()}
    return {there: mine for there, mine in found.items() if mine is not None and mine != there}


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def fit(disk: Disk, service: Service, manifest: dict[str, Any], found: Layout) -> int:
    """Give a native service's files to this host's users. Each restore begins from the snapshot's numbers again."""
    uids, gids = maps(manifest)
    if not service.unit or not (uids or gids):
        return 0
    changed = 0
    for target in found.targets:
        real = disk.root.at(target.new)
        places = [real, *(f"{top}/{name}" for top, dirs, files in os.walk(real) for name in (*dirs, *files))]
        for place in places:
            info = os.lstat(place)
            uid, gid = uids.get(info.st_uid, info.st_uid), gids.get(info.st_gid, info.st_gid)
            if (uid, gid) != (info.st_uid, info.st_gid):
                os.chown(place, uid, gid, follow_symlinks=False)
                changed += 1
    return changed
