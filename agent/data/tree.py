"""One walk over what a snapshot of a service will hold: how much it is, what is new, whose it is, which caches it has."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import patterns

__all__ = ["Tree", "survey"]


@dataclass
class Tree:
    """``files`` and ``bytes`` of regular files; ``changed``: bytes of files whose inode changed after ``since``;

    ``written``: bytes of files whose content did. ``caches``: relative path to [uid, gid, mode].
    """

    files: int = 0
    bytes: int = 0
    changed: int = 0
    written: int = 0
    uids: set[int] = field(default_factory=set)
    gids: set[int] = field(default_factory=set)
    caches: dict[str, list[int]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def survey(base: str, excluded: list[str], caches: list[str], since: float) -> Tree:
    """Walk ``base`` (a real path); patterns are relative to it. ``since``: seconds since the epoch, by the kernel."""
    tree = Tree()
    inodes: set[tuple[int, int]] = set()
    for info in _walk(base, "", patterns.any_of(excluded), patterns.any_of(caches), tree):
        tree.uids.add(info.st_uid)
        tree.gids.add(info.st_gid)
        if not stat.S_ISREG(info.st_mode):
            continue
        tree.files += 1
        if info.st_nlink > 1:
            if (info.st_dev, info.st_ino) in inodes:
                continue
            inodes.add((info.st_dev, info.st_ino))
        tree.bytes += info.st_size
        tree.changed += info.st_size if info.st_ctime > since else 0
        tree.written += info.st_size if info.st_mtime > since else 0
    return tree


_Expression = re.Pattern[str] | None


def _walk(
    base: str, below: str, excluded: _Expression, caches: _Expression, tree: Tree
) -> Iterator[os.stat_result]:
    try:
        entries = list(os.scandir(f"{base}/{below}" if below else base))
    except OSError as error:
        # A folder that vanished is life; one that cannot be read is said.
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            tree.unreadable.append(below)
        return
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        try:
            is_folder, info = entry.is_dir(follow_symlinks=False), entry.stat(follow_symlinks=False)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                tree.unreadable.append(path)
            continue
        if is_folder and caches and caches.fullmatch(f"{path}/"):
            tree.caches[path] = [info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)]
        if excluded and excluded.fullmatch(f"{path}/"):
            continue
        yield info
        if is_folder:
            yield from _walk(base, path, excluded, caches, tree)
