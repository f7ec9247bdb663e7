"""A service as it is shown to restic: STAGE/GROUP/SERVICE with manifest.json, dumps, config and data.

The stage is persistent and lies at the same path on every host, so that snapshots are host-independent. Its data
folders are empty mount points; only inside a tick's private mounts do they show the service's own folders.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator

from ..disk import Disk
from ..errors import AgentError, because
from ..root import STATE, Root
from . import engine, namespace, patterns
from .plan import Database, Mount, Rule, Service

__all__ = [
    "DUMPS",
    "STAGE",
    "bind_all",
    "bound",
    "cache_rules",
    "database_files",
    "excluded",
    "excludes",
    "folder",
    "keep_config",
    "make",
    "publish",
    "source_of",
    "workshop",
]

STAGE = f"{STATE}/stage"
DUMPS = f"{STATE}/dumps"
"""Where dumps are made. Temporary files come and go there; in the stage they would change the folder's times, and

with them the tree, of every idle tick."""
_LEFT_OUT = ("media", "cache", "none")
_SIDE_FILES = ("", "-wal", "-shm", "-journal")
_CONFIG_FILES = 2000
_CONFIG_BYTES = 64 << 20


def folder(group: str, service: str = "") -> str:
    """The host path of a group's or a service's stage."""
    return f"{STAGE}/{group}/{service}".rstrip("/")


def source_of(mount: Mount) -> str | None:
    """The host path that a mount shows; None for a volume that does not exist. Raises AgentError when Docker is mute."""
    return mount.source if mount.kind == "bind" else engine.mountpoint_of(mount.source)


def workshop(group: str, service: str) -> str:
    """The host path of the folder in which a service's dumps are made and kept; ``publish`` shows them in the stage."""
    return f"{DUMPS}/{group}/{service}/dumps"


def publish(disk: Disk, service: Service) -> None:
    """Link the kept dumps into the stage; what is there already is not touched, what is kept no more goes."""
    made = disk.root.at(workshop(service.group, service.name))
    shown = disk.root.at(f"{folder(service.group, service.name)}/dumps")
    kept = {name for name in os.listdir(made) if not name.startswith(".")} if os.path.isdir(made) else set()
    for name in sorted(kept):
        if not (os.path.exists(f"{shown}/{name}") and os.path.samefile(f"{made}/{name}", f"{shown}/{name}")):
            temp = f"{shown}/.{name}.link"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp)
            os.link(f"{made}/{name}", temp)
            os.rename(temp, f"{shown}/{name}")
            disk.checkpoint(f"publish {name}")
    for name in sorted(set(os.listdir(shown)) - kept):
        os.unlink(f"{shown}/{name}")


def bound(service: Service) -> list[Mount]:
    """The mounts whose content is kept by the file walk, parents first.

    Not media, caches and what is marked none; not the own files of a database, which are kept as its dump.
    """
    owned = {database.data_mount for database in service.databases if database.data_mount}
    owned |= {d.mount for d in service.databases if d.kind == "sqlite" and d.path in ("", ".")}
    kept = [m for m in service.mounts if m.class_ not in _LEFT_OUT and m.key not in owned]
    return sorted(kept, key=lambda mount: mount.key.split("/"))


def make(disk: Disk, service: Service) -> None:
    """The service's stage with its folders; mount points that no mount of the plan has any more are removed."""
    base = folder(service.group, service.name)
    for name in ("", "/dumps", "/config", "/data"):
        disk.private_dir(base + name)
    _prune_points(disk.root.at(f"{base}/data"), {mount.key for mount in service.mounts})


def _prune_points(data: str, keys: set[str]) -> None:
    """Bottom up; only what is empty goes, as only mount points may stand there."""
    for top, folders, files in os.walk(data, topdown=False):
        for name in (*folders, *files):
            place = f"{top}/{name}"
            key = os.path.relpath(place, data)
            if not any(wanted == key or wanted.startswith(f"{key}/") for wanted in keys):
                with contextlib.suppress(OSError):
                    os.unlink(place) if name in files and os.path.getsize(place) == 0 else os.rmdir(place)


def bind_all(root: Root, service: Service, sources: dict[str, str]) -> None:
    """Inside private mounts: show the service's folders below its stage, read-only. Raises AgentError.

    ``sources`` maps the keys of mounts to host paths; mounts that are not in it show as empty folders.
    """
    base = folder(service.group, service.name)
    kept = {mount.key for mount in bound(service)}
    for mount in sorted(service.mounts, key=lambda mount: mount.key.split("/")):
        source = sources.get(mount.key) if mount.key in kept else None
        target = root.at(f"{base}/data/{mount.key}")
        try:
            _point(target, bool(source) and not os.path.isdir(root.at(source or "")))
            if source:
                namespace.bind(root.at(source), target, read_only=True)
        except OSError as error:
            raise AgentError(
                f"{service.name}: {mount.source} cannot be shown to restic: {because(error)}", "io"
            ) from error


def _point(target: str, as_file: bool) -> None:
    """An empty file or folder to mount on. Below another bind it is there already, as what that bind shows."""
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    if os.path.lexists(target) and stat.S_ISDIR(os.lstat(target).st_mode) == as_file:
        _clear(target)
    if as_file and not os.path.lexists(target):
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    elif not as_file:
        os.makedirs(target, mode=0o700, exist_ok=True)


def _clear(target: str) -> None:
    """A mount point of the other kind, from an earlier plan: it is empty, or it is not ours to remove."""
    os.rmdir(target) if os.path.isdir(target) else os.unlink(target)


# What a restore sets aside lies inside a mount that is a mount point itself (agent/putback).
OURS = ("**/.understudy-old-*", "**/.understudy-restore*")


def excludes(root: Root, service: Service) -> list[str]:
    """Lines of restic's exclude file for a service, anchored at its stage."""
    base = patterns.escaped(root.at(f"{folder(service.group, service.name)}/data"))
    lines = [f"{base}/{pattern}" for pattern in (*OURS, *excluded(service))]
    kept = [f"!{base}/{pattern}" for pattern in _kept(service)]
    return [patterns.line(text) for text in (*lines, *kept)]


def excluded(service: Service) -> list[str]:
    """Patterns, relative to the service's data folder, of what the file walk leaves out."""
    found: list[str] = []
    for mount in bound(service):
        key = patterns.escaped(mount.key)
        for rule in mount.rules:
            if rule.class_ != "keep":
                # A cache with survivors is walked for them; its own folder is then in the snapshot.
                found.append(f"{key}/{rule.path.strip('/')}" + ("/*" if rule.keep else ""))
        found += [f"{key}/{pattern}" for pattern in _hidden_below(service, mount)]
    return found + [pattern for database in service.databases for pattern in database_files(database)]


def database_files(database: Database) -> list[str]:
    """Patterns, relative to the data folder, of a database's own files where it lives in files."""
    if database.kind != "sqlite" or not database.mount or database.path in ("", "."):
        return []
    place = f"{patterns.escaped(database.mount)}/{database.path.strip('/')}"
    return [place + end for end in _SIDE_FILES]


def _hidden_below(service: Service, mount: Mount) -> Iterator[str]:
    """Folders of other mounts of the service that lie inside this one's and are not kept."""
    kept = {other.key for other in bound(service)}
    for other in service.mounts:
        if (
            other.kind == mount.kind == "bind"
            and other.key not in kept
            and other.source.startswith(f"{mount.source}/")
        ):
            yield patterns.escaped(os.path.relpath(other.source, mount.source))


def _kept(service: Service) -> list[str]:
    """What comes back although an earlier line excludes it."""
    found = []
    for mount in bound(service):
        key = patterns.escaped(mount.key)
        for rule in mount.rules:
            place = f"{key}/{rule.path.strip('/')}"
            found += [f"{place}/{name}" for name in rule.keep] + ([place] if rule.class_ == "keep" else [])
    return found


def cache_rules(service: Service) -> list[tuple[str, Rule]]:
    """Patterns, relative to the data folder, of folders that are recreated empty."""
    return [
        (f"{patterns.escaped(mount.key)}/{rule.path.strip('/')}", rule)
        for mount in bound(service)
        for rule in mount.rules
        if rule.class_ == "cache"
    ]


def keep_config(disk: Disk, service: Service) -> list[str]:
    """Copy the service's small files to its stage, each only when it changed, and drop what is listed no more.

    Returns sentences about files that are missing or unreadable: data is kept all the same.
    """
    base = f"{folder(service.group, service.name)}/config"
    wanted: dict[str, str] = {}
    complaints: list[str] = []
    for path in service.config:
        try:
            wanted.update({base + found: found for found in _files(disk.root, path)})
        except OSError as error:
            complaints.append(f"{service.name}: {path} is not kept: {because(error)}")
    for target, source in wanted.items():
        try:
            _copy(disk.root, source, target)
        except OSError as error:
            complaints.append(f"{service.name}: {source} is not kept: {because(error)}")
    _prune_config(disk.root.at(base), {disk.root.at(target) for target in wanted})
    return complaints


def _files(root: Root, path: str) -> Iterator[str]:
    """A file itself, or the files of a folder as far as they are few and small."""
    real = root.at(path)
    if not stat.S_ISDIR(os.stat(real).st_mode):
        yield path
        return
    count = size = 0
    for top, folders, files in os.walk(real):
        folders.sort()
        for name in sorted(files):
            size += os.lstat(f"{top}/{name}").st_size
            count += 1
            if count > _CONFIG_FILES or size > _CONFIG_BYTES:
                raise OSError(0, "it is too big for configuration; keep it as data")
            yield os.path.normpath(f"{path}/{os.path.relpath(top, real)}/{name}")


def _copy(root: Root, source: str, target: str) -> None:
    old, new = root.at(source), root.at(target)
    info = os.lstat(old)
    os.makedirs(os.path.dirname(new), mode=0o700, exist_ok=True)
    if os.path.isdir(new) and not os.path.islink(new):
        shutil.rmtree(new)
    if _same(old, new, info):
        return
    temp = f"{new}.understudy-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temp)
    shutil.copy2(old, temp, follow_symlinks=False)
    os.chown(temp, info.st_uid, info.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(temp, stat.S_IMODE(info.st_mode))
    os.rename(temp, new)


def _same(old: str, new: str, info: os.stat_result) -> bool:
    try:
        have = os.lstat(new)
    except FileNotFoundError:
        return False
    if (have.st_mode, have.st_uid, have.st_gid) != (info.st_mode, info.st_uid, info.st_gid):
        return False
    if stat.S_ISLNK(info.st_mode):
        return os.readlink(old) == os.readlink(new)
    if have.st_size != info.st_size:
        return False
    with open(old, "rb") as left, open(new, "rb") as right:
        return left.read() == right.read()


def _prune_config(base: str, wanted: set[str]) -> None:
    for top, folders, files in os.walk(base, topdown=False):
        links = [name for name in folders if os.path.islink(f"{top}/{name}")]
        for name in (*files, *links):
            if f"{top}/{name}" not in wanted:
                os.unlink(f"{top}/{name}")
        if top != base and not os.listdir(top):
            os.rmdir(top)
