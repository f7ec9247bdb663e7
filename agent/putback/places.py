"""Where each mount of a service is restored to: new folders beside the live ones, on the same file system.

Beside ``/srv/app/data`` the new content is made in ``/srv/app/.understudy-restore/app.data`` and the old one kept in
``/srv/app/.understudy-old-SNAPSHOT/data``. Where the live folder is a mount point, both are inside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .. import mounts
from ..data.plan import Mount, Plan, Service
from ..dumps import kinds
from ..errors import AgentError
from ..root import Root
from .target import NEW, OLD, Target

__all__ = ["KEPT", "Layout", "layout", "resolve", "server_mounts"]

KEPT = ("keep", "shared")
SourceOf = Callable[[Mount], str]


@dataclass
class Layout:
    """What one restic run has to do for a service, and what is exchanged afterwards.

    ``binds``: path in the snapshot to the host folder that shows there. ``files``: path in the snapshot to the host
    path that the restored single file is moved to. ``trees``: mount key to the host folder of its new content.
    ``lives``: mount key to the live host path. ``skipped``: paths in the snapshot that come
    another way; ``spared``: patterns that a restore by difference must not delete.
    ``empty``: folders of new content that restic does not fill (mount key to host folder).
    """

    service: Service
    targets: list[Target] = field(default_factory=list)
    binds: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    trees: dict[str, str] = field(default_factory=dict)
    lives: dict[str, str] = field(default_factory=dict)
    empty: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def resolve(root: Root, path: str) -> str:
    """The host path behind links."""
    prefix = "" if root.base == "/" else os.path.realpath(root.base)
    real = os.path.realpath(root.at(path))
    if prefix and not real.startswith(f"{prefix}/"):
        raise AgentError(f"{path} leads out of {root.base}")
    return real[len(prefix) :]


def server_mounts(services: Iterable[Service]) -> set[tuple[str, str]]:
    """(service, key) of every mount that holds a PostgreSQL or MariaDB server's own files: those come by their dumps."""
    return {
        (service.name, database.data_mount)
        for service in services
        for database in service.databases
        if kinds.in_database_server(database.kind) and database.data_mount
    }


def layout(
    root: Root, plan: Plan, service: Service, snapshot: str, types: dict[str, str], source_of: SourceOf
) -> Layout:
    """``types``: mount key to "dir" or "file", as the snapshot has it; keys that are not there are missing.

    Raises AgentError for mounts that cannot be exchanged.
    """
    found = Layout(service)
    servers = server_mounts(plan.services.values())
    # A Redis dump is placed as a file although nothing else of its mount is in the snapshot.
    placed = {database.data_mount for database in service.databases if database.kind == "redis"}
    wanted = []
    for mount in service.mounts:
        if mount.class_ not in KEPT or (service.name, mount.key) in servers:
            continue
        kind = "dir" if mount.key in placed else types.get(mount.key, "")
        if not kind:
            found.notes.append(f"{mount.key} is not in the snapshot and stays as it is")
            continue
        found.lives[mount.key] = resolve(root, source_of(mount))
        wanted.append((mount, kind))
    # Outer folders first: what lies in them is part of their new content.
    for mount, kind in sorted(wanted, key=lambda item: (found.lives[item[0].key], item[1])):
        _place(root, found, mount, kind, snapshot)
        if mount.key in placed:
            found.empty[mount.key] = found.trees[mount.key]
            found.binds.pop(f"/{service.name}/data/{mount.key}", None)
    return found


def _place(root: Root, found: Layout, mount: Mount, kind: str, snapshot: str) -> None:
    live, stage = found.lives[mount.key], f"/{found.service.name}/data/{mount.key}"
    outer = _outer(root, found, live)
    if outer is not None:
        _inside(found, outer, mount, kind, stage)
        return
    target = _target(root, found.service, mount.key, live, kind, snapshot)
    if kind == "dir":
        target.keep = _mounted_below(root, found.service, live)
        found.binds[stage] = target.new
        found.trees[mount.key] = target.new
    else:
        base = os.path.basename(live)
        target.only = [base]
        found.trees[mount.key] = f"{target.new}/{base}"
        found.files[stage] = f"{target.new}/{base}"
    found.targets.append(target)


def _outer(root: Root, found: Layout, live: str) -> Target | None:
    """The target whose content this live path is part of."""
    for target in found.targets:
        if not target.only and live.startswith(f"{target.live}/"):
            top = live[len(target.live) + 1 :].split("/")[0]
            if top not in target.keep:
                return target
        if not target.only and live == target.live:
            raise AgentError(
                f"{found.service.name}: {live} is in two mounts of the service: exclude one of them"
            )
    return None


def _inside(found: Layout, outer: Target, mount: Mount, kind: str, stage: str) -> None:
    relative = found.lives[mount.key][len(outer.live) + 1 :]
    place = f"{outer.new}/{relative}"
    found.trees[mount.key] = place
    above = f"/{found.service.name}/data/{outer.key}"
    if stage == f"{above}/{relative}":
        # In the snapshot it lies where it lies on the host: it comes with the outer folder.
        return
    if kind == "dir":
        found.binds[stage] = place
        found.skipped.append(f"{above}/{relative}")
    else:
        found.files[stage] = place


def _target(root: Root, service: Service, key: str, live: str, kind: str, snapshot: str) -> Target:
    folder = live if kind == "dir" else os.path.dirname(live)
    made = not os.path.lexists(root.at(live))
    if not made and os.path.isdir(root.at(live)) != (kind == "dir"):
        raise AgentError(
            f"{service.name}: {live} is not a {'folder' if kind == 'dir' else 'file'} as in the snapshot: "
            "move it away; nothing was changed"
        )
    if not os.path.isdir(root.at(os.path.dirname(live))):
        raise AgentError(
            f"{service.name}: the folder {os.path.dirname(live)} is not there: converge this host first"
        )
    inside = kind == "dir" and not made and _own_file_system(root, live)
    parent = live if inside else os.path.dirname(live)
    base = os.path.basename(live)
    return Target(
        key,
        folder,
        f"{parent}/{NEW}/{service.name}.{base}",
        _old(root, parent, base, snapshot),
        made=made and kind == "dir",
    )


def _own_file_system(root: Root, live: str) -> bool:
    device = os.stat(root.at(live)).st_dev
    return live in mounts.points(root) or os.stat(root.at(os.path.dirname(live))).st_dev != device


def _old(root: Root, parent: str, base: str, snapshot: str) -> str:
    """A name that is free: an older copy is never touched."""
    count = 1
    while True:
        folder = f"{parent}/{OLD}{snapshot[:8]}{f'.{count}' if count > 1 else ''}"
        if not os.path.lexists(root.at(f"{folder}/{base}")):
            return f"{folder}/{base}"
        count += 1


def _mounted_below(root: Root, service: Service, live: str) -> list[str]:
    below = [point[len(live) + 1 :] for point in mounts.points(root) if point.startswith(f"{live}/")]
    deep = sorted(path for path in below if "/" in path)
    # One that lies in another mount point is out of the way.
    deep = [path for path in deep if path.split("/")[0] not in below]
    if deep:
        raise AgentError(
            f"{service.name}: something is mounted at {live}/{deep[0]}: unmount it, or restore with in_place; "
            "nothing was changed"
        )
    return sorted(path for path in below if "/" not in path)
