"""Gives every source of a scratch project a place of its own below the drill folder.

Restored data is used where the snapshot holds it. What no snapshot holds is an empty folder with the right owner,
or, where containers only read it, a copy of what this host has.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data import stage
from ..data.plan import Mount, Service
from ..errors import AgentError, because
from ..root import Root
from .model import Places, Wanted

__all__ = ["MOST_BYTES", "MOST_FILES", "below", "caches", "copy", "make_folder", "place"]

MOST_BYTES = 64 << 20
MOST_FILES = 2000


@dataclass
class _Placer:
    """Where things go for one service. ``folder`` is its restored folder (host path), with the data below ``data``;

    ``kept`` are the keys of mounts whose files are in snapshots.
    """

    root: Root
    own: Service
    owners: dict[str, Any]
    folder: str
    kept: frozenset[str]
    notes: list[str]
    count: int = 0

    def spot(self) -> str:
        """A new host path of its own."""
        self.count += 1
        return f"{self.folder}/fresh/{self.count}"

    def _holds(self, mount: Mount) -> bool:
        """Whether the snapshot, or a dump that was placed, gives the mount its content.

        What a tick leaves out stands in a snapshot as an empty folder of the agent's own.
        """
        real = self.root.at(f"{self.folder}/data/{mount.key}")
        if mount.key in self.kept:
            return os.path.lexists(real)
        return os.path.isfile(real) or (os.path.isdir(real) and bool(os.listdir(real)))

    def bind(self, source: str, read_only: bool) -> str:
        """The place of a bind source, "" for none. Raises OSError."""
        restored = self._restored(source)
        if restored:
            return restored
        spot, live = self.spot(), self.root.at(source)
        mount = next((m for m in self.own.mounts if m.kind == "bind" and m.source == source), None)
        if os.path.isfile(live):
            copy(live, self.root.at(spot))
            return spot
        if os.path.lexists(live) and not os.path.isdir(live):
            self.notes.append(f"without {source}, which is neither a file nor a folder")
            return ""
        if read_only and os.path.isdir(live) and not (mount and mount.class_ in ("media", "cache")):
            if _is_small(live):
                copy(live, self.root.at(spot))
                return spot
            self.notes.append(
                f"{source} is empty in the copy: no snapshot holds it and it is too big to copy"
            )
        make_folder(self.root, spot, self.owners.get(mount.key if mount else "") or _owner(live))
        return spot

    def _restored(self, source: str) -> str:
        """The outermost restored folder: containers that share a file through two mounts go on sharing it."""
        for mount in sorted(self.own.mounts, key=lambda mount: len(mount.source)):
            if mount.kind == "bind" and (source == mount.source or source.startswith(f"{mount.source}/")):
                path = f"{self.folder}/data/{mount.key}{source[len(mount.source) :]}"
                if self._holds(mount) and os.path.lexists(self.root.at(path)):
                    return path
        return ""

    def volume(self, docker_name: str) -> str:
        """The place of a named volume. Raises OSError."""
        mount = next((m for m in self.own.mounts if m.kind == "volume" and m.source == docker_name), None)
        if mount and self._holds(mount):
            return f"{self.folder}/data/{mount.key}"
        path = self.spot()
        make_folder(self.root, path, self.owners.get(mount.key) if mount else None)
        return path

    def file(self, name: str, source: str) -> str:
        """The place of a secret or a configuration file. Raises AgentError, OSError."""
        path = f"{self.folder}/files/{name.replace('/', '.')}"
        _file(self.root, source, path)
        return path


def place(
    root: Root, own: Service, wanted: Wanted, manifest: Mapping[str, Any], folder: str, notes: list[str]
) -> Places:
    """Make all places below ``folder``, the service's restored folder (host path); real paths. Raises AgentError."""
    owners = {key: facts.get("owner") for key, facts in (manifest.get("mounts") or {}).items()}
    kept = frozenset(mount.key for mount in stage.bound(own))
    placer = _Placer(root, own, owners, folder, kept, notes)
    try:
        binds = {source: placer.bind(source, read_only) for source, read_only in sorted(wanted.binds.items())}
        volumes = {name: placer.volume(called) for name, called in sorted(wanted.volumes.items())}
        files = {name: placer.file(name, source) for name, source in sorted(wanted.files.items())}
    except OSError as error:
        raise AgentError(f"{own.name}: the scratch copy cannot be made: {because(error)}", "io") from error
    return Places(
        *({k: root.at(path) for k, path in found.items() if path} for found in (binds, volumes, files))
    )


def _owner(real: str) -> list[int] | None:
    try:
        info = os.stat(real)
    except OSError:
        return None
    return [info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)]


def make_folder(root: Root, path: str, owner: Sequence[int] | None) -> None:
    """An empty folder, or the one that is there. Raises OSError."""
    real = root.at(path)
    if os.path.lexists(real):
        return
    os.makedirs(os.path.dirname(real), mode=0o700, exist_ok=True)
    os.mkdir(real)
    if owner and root.may_own:
        os.chown(real, owner[0], owner[1])
    os.chmod(real, owner[2] if owner else 0o755)  # a unit's umask must not close it to the service


def _file(root: Root, source: str, path: str) -> None:
    """A secret or a configuration file: its owner kept, for nobody else to read, never to write."""
    real = root.at(path)
    os.makedirs(os.path.dirname(real), mode=0o700, exist_ok=True)
    try:
        with open(root.at(source), "rb") as stream:
            info, content = os.fstat(stream.fileno()), stream.read(MOST_BYTES)
    except OSError as error:
        raise AgentError(f"{source} cannot be read: {because(error)}: converge this host", "io") from error
    descriptor = os.open(real, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with open(descriptor, "wb") as out:
        out.write(content)
        if root.may_own:
            os.fchown(descriptor, info.st_uid, info.st_gid)
        os.fchmod(descriptor, 0o400 | (stat.S_IMODE(info.st_mode) & 0o044))


def _is_small(folder: str) -> bool:
    size = 0
    for count, (_, info) in enumerate(_walk(folder), 1):
        size += info.st_size
        if count > MOST_FILES or size > MOST_BYTES:
            return False
    return True


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)


def copy(source: str, target: str) -> None:
    """Copy a file or a small folder (real paths), owners and modes kept; sockets and devices stay behind.

    Only ``source`` itself may be a link that is followed. Raises OSError.
    """
    source = os.path.realpath(source)
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    _copy_one(source, target, os.lstat(source))
    if os.path.isdir(source):
        # A folder comes before what lies in it.
        for path, info in _walk(source):
            _copy_one(path, target + path[len(source) :], info)


def _copy_one(source: str, target: str, info: os.stat_result) -> None:
    if stat.S_ISDIR(info.st_mode):
        os.mkdir(target)
    elif stat.S_ISREG(info.st_mode):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(source, flags), "rb") as stream, open(target, "xb") as out:
            shutil.copyfileobj(stream, out)
    elif stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(source), target)
    else:
        return
    if os.geteuid() == 0:
        os.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(target, stat.S_IMODE(info.st_mode) & 0o1777)


def caches(root: Root, manifest: Mapping[str, Any], folder: str) -> None:
    """Folders whose content no snapshot holds, empty, with the owner they had. Raises AgentError, OSError."""
    for cache in manifest.get("caches") or ():
        path = below(root, folder, str(cache["path"]))
        make_folder(root, path, cache["owner"])


def below(root: Root, folder: str, relative: str) -> str:
    """The host path ``folder/relative``. Raises AgentError when it, links resolved, would lie elsewhere."""
    path = os.path.normpath(f"{folder}/{relative}")
    top = os.path.realpath(root.at(folder))
    if not os.path.realpath(root.at(path)).startswith(f"{top}/"):
        raise AgentError(
            f"the manifest names {relative!r}, which leads out of the snapshot's folder", "unsafe"
        )
    return path
