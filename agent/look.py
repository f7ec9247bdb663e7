"""What stands at a path right now, without following a link at its end."""

from __future__ import annotations

import functools
import grp
import hashlib
import os
import pwd
import stat
from dataclasses import dataclass
from typing import Any

from .errors import AgentError, because
from .root import Root

__all__ = ["MISSING", "Seen", "fingerprint", "hash_file", "is_empty", "link", "look", "record"]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Seen:
    """One path as observed. ``mode`` is the permission bits; links have none of their own."""

    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    sha256: str = ""
    target: str = ""


MISSING = Seen("missing")


def fingerprint(seen: Seen | dict[str, Any]) -> str:
    """Content identity in ``expect``, ``delete`` and manifests: a sha256, "missing", or "" for the rest.

    A link's sha256 is that of its target. Takes a ``Seen`` or a survey record.
    """
    values = seen.__dict__ if isinstance(seen, Seen) else seen
    return "missing" if values["kind"] == "missing" else str(values.get("sha256") or "")


def hash_file(path: str) -> str:
    """sha256 of a regular file's content. Never follows a final link and never blocks on a pipe."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def look(root: Root, path: str) -> Seen:
    """Observe one host path. Raises AgentError where it cannot be read: that is never "nothing there"."""
    try:
        return _observe(root.at(path))
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {because(error)}", "io") from error


def _observe(real: str) -> Seen:
    try:
        info = os.lstat(real)
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    return _describe(real, info)


def _describe(real: str, info: os.stat_result) -> Seen:
    mode = stat.S_IMODE(info.st_mode)
    if stat.S_ISREG(info.st_mode):
        return Seen("file", mode, info.st_uid, info.st_gid, sha256=hash_file(real))
    if stat.S_ISLNK(info.st_mode):
        return link(os.readlink(real), info.st_uid, info.st_gid)
    kind = "dir" if stat.S_ISDIR(info.st_mode) else "other"
    return Seen(kind, mode, info.st_uid, info.st_gid)


def link(target: str, uid: int, gid: int) -> Seen:
    """A symbolic link to ``target``."""
    return Seen("link", 0, uid, gid, hashlib.sha256(os.fsencode(target)).hexdigest(), target)


def is_empty(root: Root, path: str) -> bool:
    """Whether a directory holds nothing at all."""
    with os.scandir(root.at(path)) as entries:
        return next(entries, None) is None


def record(root: Root, path: str) -> dict[str, Any]:
    """One survey record: kind, mode ("0644"), uid, gid, user, group, size; by kind sha256, target, empty."""
    real = root.at(path)
    try:
        info = os.lstat(real)
        seen = _describe(real, info)
        facts: dict[str, Any] = {"empty": is_empty(root, path)} if seen.kind == "dir" else {}
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "missing"}
    except OSError as error:
        return {"kind": "unreadable", "reason": because(error)}
    names = {"user": _user_name(seen.uid), "group": _group_name(seen.gid)}
    return {**seen.__dict__, **names, **facts, "mode": f"{seen.mode:04o}", "size": info.st_size}


@functools.cache
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.cache
def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
