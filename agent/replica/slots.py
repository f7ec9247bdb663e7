"""The two slots of a group: /var/lib/understudy/replica/GROUP/{a,b} and ``current``, a link to the published one.

A slot's folder holds what no mount does (manifests, dumps, configuration); the mounts' content lies beside the live
folders, on their file systems, in ``.understudy-restore-slot-a`` and ``-b``. ``a.json`` and ``b.json`` say what is in it.

    filling   restic may be at work: not promotable; where a group has one slot only, with what is torn named
    whole     restored, loaded, checked: promotable
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from ..data.plan import Plan, Service
from ..data.state import seen
from ..disk import Disk
from ..putback.places import Layout, layout
from ..putback.sources import source_of
from ..putback.target import NEW
from ..root import STATE, Root

__all__ = [
    "FOLDER",
    "Held",
    "Slot",
    "current",
    "folder",
    "idle",
    "laid_out",
    "load",
    "offered",
    "publish",
    "save",
]

FOLDER = f"{STATE}/replica"
NAMES = ("a", "b")


@dataclass
class Held:
    """One service in a slot. ``tree``: restic's id of the snapshot's content; ``types``: mount key to dir or file;

    ``databases``: name to the sha256 of the dump that was placed or checked. ``time``: when the snapshot's first dump
    began, by the clock of the host that made it. ``taken``: a promotion moved it out, and the slot has it no more.
    """

    snapshot: str
    repository: str
    host: str
    epoch: int
    seq: int
    time: float
    tree: str
    files: int = 0
    bytes: int = 0
    rows: int | None = None
    types: dict[str, str] = field(default_factory=dict)
    databases: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    taken: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.epoch, self.seq

    @property
    def name(self) -> str:
        """The snapshot as a record's base names it: HOST:EPOCH:SEQ."""
        return f"{self.host}:{self.epoch}:{self.seq}"


@dataclass
class Slot:
    """``services`` maps names to what the slot holds of them; ``at``: when it was published or last found up to date.

    ``sums``: services of one snapshot, by comma, to the files and bytes that restic counted in it. ``verified``: when all
    of it was last read, not only looked at by size and time.
    """

    group: str
    name: str
    state: str = "filling"
    at: float = 0.0
    services: dict[str, Held] = field(default_factory=dict)
    sums: dict[str, list[int]] = field(default_factory=dict)
    verified: float = 0.0

    @property
    def torn(self) -> list[str]:
        """Services that a refresh was at work on when it ended."""
        return sorted(name for name, held in self.services.items() if not held.tree)

    @property
    def age(self) -> float | None:
        """The oldest service's snapshot time; None when it holds nothing."""
        return min((held.time for held in self.services.values()), default=None)


def folder(group: str, slot: str = "") -> str:
    """The host path of a group's slots, or of one."""
    return f"{FOLDER}/{group}/{slot}".rstrip("/")


def current(root: Root, group: str) -> Slot | None:
    """The published slot, or None."""
    try:
        name = os.readlink(root.at(f"{folder(group)}/current"))
    except OSError:
        return None
    return load(root, group, name) if name in NAMES else None


def idle(root: Root, group: str) -> Slot:
    """The slot that is not published; what is known of it."""
    published = current(root, group)
    name = NAMES[1] if published and published.name == NAMES[0] else NAMES[0]
    return load(root, group, name) or Slot(group, name)


def load(root: Root, group: str, name: str) -> Slot | None:
    """What a slot holds, or None when that is not known: then it holds nothing that counts."""
    raw = seen(root, f"{folder(group)}/{name}.json")
    if not isinstance(raw, dict):
        return None
    try:
        held = {service: Held(**values) for service, values in raw.pop("services").items()}
        return Slot(**{**raw, "services": held})
    except (KeyError, TypeError):
        return None


def save(disk: Disk, slot: Slot) -> None:
    """Durably; what it says holds from here on."""
    disk.private_dir(folder(slot.group))
    values: dict[str, Any] = asdict(slot)
    disk.replace(f"{folder(slot.group)}/{slot.name}.json", json.dumps(values, indent=1).encode())


def publish(disk: Disk, slot: Slot) -> None:
    """One rename; the slot's own record is on the disk before it."""
    save(disk, slot)
    top = folder(slot.group)
    temp = f"{top}/.current.new"
    disk.symlink(slot.name, temp, os.geteuid(), os.getegid())
    disk.rename(temp, f"{top}/current")
    disk.sync_dirs([top])


def laid_out(root: Root, plan: Plan, service: Service, held: Held, slot: str) -> Layout:
    """Where a service's mounts lie in a slot. Raises AgentError for mounts that cannot be exchanged."""
    found = layout(root, plan, service, held.snapshot, held.types, source_of)
    moved = {target.new: target.new.replace(f"/{NEW}/", f"/{NEW}-slot-{slot}/") for target in found.targets}

    def put(path: str) -> str:
        for old, new in moved.items():
            if path == old or path.startswith(f"{old}/"):
                return new + path[len(old) :]
        return path

    for target in found.targets:
        target.new, target.spare = put(target.new), True
    for paths in (found.binds, found.files, found.trees, found.empty):
        for key, path in paths.items():
            paths[key] = put(path)
    return found


def offered(root: Root, group: str) -> list[dict[str, Any]]:
    """What could be promoted, the newest first: for status and for whoever asks before a failover."""
    found: list[dict[str, Any]] = []
    published = current(root, group)
    for name in NAMES:
        slot = load(root, group, name)
        if slot and slot.state == "whole" and not any(held.taken for held in slot.services.values()):
            found.append(
                {
                    "slot": name,
                    "published": published is not None and published.name == name,
                    "at": slot.at,
                    "oldest": slot.age,
                    "services": {
                        n: {"name": h.name, "time": h.time, "rows": h.rows} for n, h in slot.services.items()
                    },
                }
            )
    return sorted(found, key=lambda slot: not slot["published"])
