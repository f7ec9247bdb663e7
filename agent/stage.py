"""Unpacks a request and lays it out under a private folder for the validators."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import shutil
import tarfile
import zlib

from .disk import Disk
from .errors import AgentError
from .look import look
from .plan import wanted
from .request import Entry, Request
from .root import STAGING

__all__ = ["lay_out", "sweep", "unpack"]


def unpack(request: Request) -> dict[str, bytes]:
    """Host path to content, each checked against its sha256. Files not in the archive are not here either."""
    members = _members(request.archive) if request.archive else {}
    contents = {}
    for entry in request.entries:
        if entry.kind != "file" or str(entry.index) not in members:
            continue
        content = members[str(entry.index)]
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise AgentError(
                f"{entry.path} arrived damaged: its checksum is not the declared one; nothing was changed"
            )
        contents[entry.path] = content
    return contents


def _members(archive: str) -> dict[str, bytes]:
    try:
        packed = base64.b64decode(archive, validate=True)
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
            return {member.name: _content(tar, member) for member in tar}
    except (tarfile.TarError, OSError, EOFError, zlib.error, binascii.Error, ValueError) as error:
        raise AgentError(
            f"the archive arrived damaged ({error}); nothing was changed", "bad-request"
        ) from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member) if member.isreg() else None
    if stream is None:
        raise ValueError(f"{member.name} is not a regular file")
    return stream.read()


def lay_out(disk: Disk, request: Request, contents: dict[str, bytes]) -> str:
    """Write the staged tree and return its real root, the value of ``{stage}``."""
    sweep(disk)
    top = f"{STAGING}/{request.release}"
    disk.private_dir(STAGING)
    disk.private_dir(top)
    for path in request.context:
        _copy_live(disk, top, path)
    for entry in request.entries:
        _stage(disk, top, entry, contents)
    return disk.root.at(top)


def _stage(disk: Disk, top: str, entry: Entry, contents: dict[str, bytes]) -> None:
    new, place = wanted(disk.root, entry), top + entry.path
    _folder(disk, place if entry.kind == "dir" else os.path.dirname(place))
    if entry.kind == "dir":
        disk.set_meta(place, entry.mode, new.uid, new.gid)
    elif entry.kind == "link":
        _stage_link(disk, top, entry.target, place)
    elif entry.path in contents:
        disk.create(place, [contents[entry.path]], new.mode, new.uid, new.gid, durable=False)
    else:
        _copy_live(disk, top, entry.path)


def _folder(disk: Disk, place: str) -> None:
    os.makedirs(disk.root.at(place), mode=0o755, exist_ok=True)


def _stage_link(disk: Disk, top: str, target: str, place: str) -> None:
    """A link to a staged file must lead to the staged one, or the check would read the live file."""
    staged = disk.root.at(top + target) if target.startswith("/") else ""
    disk.symlink(staged if staged and os.path.lexists(staged) else target, place, os.geteuid(), os.getegid())


def _copy_live(disk: Disk, top: str, path: str) -> None:
    live, place = look(disk.root, path), top + path
    if live.kind == "dir":
        _folder(disk, place)
        return
    _folder(disk, os.path.dirname(place))
    if live.kind == "link":
        _stage_link(disk, top, live.target, place)
    elif live.kind == "file":
        disk.copy(path, place, live.mode, live.uid, live.gid, durable=False)
    else:
        raise AgentError(
            f"{path} is needed for the checks and is {live.kind} on the host: compare again", "stale"
        )


def sweep(disk: Disk) -> None:
    """Remove every staged tree (they hold secrets)."""
    shutil.rmtree(disk.root.at(STAGING), ignore_errors=True)
    disk.checkpoint(f"sweep {STAGING}")
