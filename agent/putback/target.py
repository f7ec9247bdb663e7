"""One place whose content is exchanged: what is live, what comes, where the old content goes.

A mount's folder itself stays (a container may hold it open, it may be a mount point): its entries move. A mount of
a single file is the same with one entry.
"""

from __future__ import annotations

import base64
import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from ..root import Root

__all__ = ["NEW", "OLD", "Meta", "Target", "entries", "meta_of", "ours", "set_meta"]

NEW = ".understudy-restore"
OLD = ".understudy-old-"

Meta = dict[str, Any]
"""{"uid", "gid", "mode", "mtime_ns", "xattrs": {name: base64}} of a folder."""


@dataclass
class Target:
    """``live``, ``new`` and ``old`` are host paths of folders on one file system; ``only`` names the entries of a

    mount of a single file, [] for all entries. ``keep`` are entries that never move (something is mounted there);
    ``carry`` are paths below ``live`` that snapshots do not hold and that move on into the new content. ``step``
    says how far the exchange is: waiting, aside, carry, in, done; and on the way back out, uncarry, back, undone.
    ``was`` is the folder's own owner, mode, time and attributes before, {} for a file mount. ``made``: the live
    folder did not exist before. ``spare``: new content that did not become live is kept (a replica's slot).
    """

    key: str
    live: str
    new: str
    old: str
    only: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    carry: list[str] = field(default_factory=list)
    step: str = "waiting"
    was: Meta = field(default_factory=dict)
    made: bool = False
    spare: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return asdict(self)


def ours(name: str) -> bool:
    """Whether a folder of this name belongs to a restore and not to the service."""
    return name.startswith((NEW, OLD))


def entries(root: Root, folder: str, target: Target) -> list[str]:
    """The names in ``folder`` that this exchange moves."""
    try:
        names = os.listdir(root.at(folder))
    except FileNotFoundError:
        return []
    if target.only:
        return [name for name in names if name in target.only]
    return sorted(name for name in names if name not in target.keep and not ours(name))


def meta_of(real: str) -> Meta:
    """Owner, mode, time and extended attributes (POSIX ACLs are such) of a folder."""
    info = os.stat(real)
    xattrs = {}
    with suppress(OSError):
        for name in os.listxattr(real):
            xattrs[name] = base64.b64encode(os.getxattr(real, name)).decode()
    mode = stat.S_IMODE(info.st_mode)
    return {
        "uid": info.st_uid,
        "gid": info.st_gid,
        "mode": mode,
        "mtime_ns": info.st_mtime_ns,
        "xattrs": xattrs,
    }


def set_meta(real: str, meta: Meta) -> None:
    """Make a folder's own attributes these; owner first, because a change of owner drops bits of the mode."""
    os.chown(real, meta["uid"], meta["gid"])
    os.chmod(real, meta["mode"])
    with suppress(OSError):
        for name in set(os.listxattr(real)) - set(meta["xattrs"]):
            os.removexattr(real, name)
        for name, value in meta["xattrs"].items():
            os.setxattr(real, name, base64.b64decode(value))
    os.utime(real, ns=(meta["mtime_ns"], meta["mtime_ns"]))
