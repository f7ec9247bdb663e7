"""Removable disks: recognised by the label of their file system, never by where they were plugged in."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from .. import mounts, process
from ..data.plan import Disk
from ..errors import AgentError
from ..root import Root
from ..say import say

__all__ = ["BY_LABEL", "Found", "device_of", "eject", "look", "mount_argv", "ready"]

BY_LABEL = "/dev/disk/by-label"
_TIMEOUT = 60


@dataclass(frozen=True)
class Found:
    """What is at the mount point: ``label`` "" when nothing of ours; ``present`` are the plan's labels now plugged in."""

    mounted: bool
    label: str
    present: tuple[str, ...]


def mount_argv(device: str, point: str) -> list[str]:
    """Only data lives there: no programs, devices or setuid files."""
    return ["mount", "-o", "nosuid,nodev,noexec,noatime", device, point]


def device_of(root: Root, label: str) -> str:
    """The block device with this label, "" when it is not plugged in."""
    link = root.at(f"{BY_LABEL}/{_escaped(label)}")
    if os.path.exists(link):
        return os.path.realpath(link)
    # Without udev (containers, early boot) the devices themselves are read. Not by `blkid -L` or findfs: for minutes
    # they still name the disk that was there before.
    return next((device for device in _partitions() if _label_on(device) == label), "")


def _partitions() -> list[str]:
    with open("/proc/partitions", encoding="ascii") as stream:
        names = [line.split()[3] for line in stream if len(line.split()) == 4 and line.split()[0].isdigit()]
    return [f"/dev/{name}" for name in names if os.path.exists(f"/dev/{name}")]


def _label_on(device: str) -> str:
    if not shutil.which("blkid"):
        raise AgentError("blkid is not installed, and without it no disk can be told from another", "no-disk")
    return process.run(["blkid", "-p", "-s", "LABEL", "-o", "value", device], _TIMEOUT).out.strip()


def look(root: Root, disk: Disk) -> Found:
    """The state of a disk, without changing it."""
    device = _mounted_device(root, disk.mount)
    devices = {label: device_of(root, label) for label in disk.labels}
    here = next((label for label, found in devices.items() if found and found == device), "")
    return Found(bool(device), here, tuple(label for label, found in devices.items() if found))


def ready(root: Root, disk: Disk, name: str) -> tuple[str, bool]:
    """The label of the disk at its mount point, mounting it if need be, and whether that was done here.

    Raises AgentError kind "no-disk": not plugged in, or another disk is in its place.
    """
    found = look(root, disk)
    wanted = " or ".join(disk.labels)
    if found.mounted and not found.label:
        stranger = _mounted_device(root, disk.mount)
        raise AgentError(
            f"repository {name}: {stranger} is mounted at {disk.mount}, which is not the disk {wanted}",
            "no-disk",
        )
    if found.mounted:
        return found.label, False
    if not found.present:
        raise AgentError(f"repository {name}: plug in the disk {wanted}; none of them is here", "no-disk")
    label = found.present[0]
    if len(found.present) > 1:
        say(f"repository {name}: {' and '.join(found.present)} are plugged in; {label} is used")
    os.makedirs(root.at(disk.mount), mode=0o700, exist_ok=True)
    ended = process.run(mount_argv(device_of(root, label), root.at(disk.mount)), _TIMEOUT)
    if not ended.ok:
        raise AgentError(
            f"repository {name}: disk {label} cannot be mounted at {disk.mount}: {ended.why(1)}", "no-disk"
        )
    return label, True


def eject(root: Root, point: str) -> None:
    """Unmount what ``ready`` mounted; a disk that is still in use stays and is named."""
    ended = process.run(["umount", root.at(point)], _TIMEOUT)
    if not ended.ok:
        say(f"{point} stays mounted: {ended.why(1)}")


def _mounted_device(root: Root, point: str) -> str:
    """The device at a mount point, "" when nothing is mounted there; the last mount is the visible one."""
    real = root.at(point)
    sources: Sequence[str] = [mount.source for mount in mounts.mounted() if mount.point == real]
    return os.path.realpath(sources[-1]) if sources else ""


def _escaped(label: str) -> str:
    """udev writes what is not plain as \\x20."""
    return re.sub(r"[^0-9A-Za-z#+.:=@_-]", lambda m: "".join(f"\\x{b:02x}" for b in m[0].encode()), label)
