"""Pending reactions: restarts that changed files still ask for, remembered across kills and boots."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterable, Mapping

from .disk import Disk
from .root import PENDING, STATE, Root

__all__ = ["UPDATES", "add", "clear", "open_updates", "pending", "tokens"]

UPDATES = f"{STATE}/update"


def _path(reaction: str) -> str:
    return f"{PENDING}/{urllib.parse.quote(reaction, safe='')}"


def pending(root: Root) -> list[str]:
    """All reactions that wait, sorted."""
    try:
        names = os.listdir(root.at(PENDING))
    except FileNotFoundError:
        return []
    return sorted(urllib.parse.unquote(name) for name in names if not name.startswith("."))


def tokens(root: Root) -> dict[str, str]:
    """Which transaction each pending reaction comes from last; ``clear`` takes this to spare newer ones."""
    found = {}
    for reaction in pending(root):
        try:
            with open(root.at(_path(reaction)), encoding="utf-8") as stream:
                found[reaction] = stream.read().strip()
        except FileNotFoundError:
            continue
    return found


def add(disk: Disk, reactions: Iterable[str], token: str) -> None:
    """Mark reactions, durably; one that already waits now belongs to the newer transaction."""
    disk.private_dir(PENDING)
    for reaction in reactions:
        disk.replace(_path(reaction), f"{token}\n".encode())


def clear(disk: Disk, done: Iterable[str] | Mapping[str, str]) -> list[str]:
    """Remove the markers of reactions that happened; with tokens, only where nothing newer asks again."""
    now = tokens(disk.root)
    cleared = [
        name for name in done if name in now and (not isinstance(done, Mapping) or done[name] == now[name])
    ]
    for name in cleared:
        disk.unlink(_path(name))
    if cleared:
        disk.sync_dirs([PENDING])
    return cleared


def open_updates(root: Root) -> list[str]:
    """Services with an update that nobody has judged yet (agent/update.py)."""
    try:
        names = os.listdir(root.at(UPDATES))
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != ".")
