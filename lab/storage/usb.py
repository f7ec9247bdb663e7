"""Disks that can be plugged in and pulled out: files behind loop devices, shown to one host at a time.

A lab has a few loop devices of its own, by number, and its hosts may use no others. There is no udev in a host, so
what it would make (the device and its name by label) is made and taken away here. Needs root on this machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab.facts import HostFacts
from lab.settings import Settings
from lab.shell import LabError, run
from lab.ssh import on_host

LOOP_MAJOR, FIRST_MINOR, PER_LAB, LABS = 7, 1000, 4, 1000
LOOP_CTL_ADD = 0x4C80


def minors(project: str) -> range:
    """The numbers of a lab's own loop devices."""
    first = FIRST_MINOR + int(hashlib.sha256(project.encode()).hexdigest(), 16) % LABS * PER_LAB
    return range(first, first + PER_LAB)


def device_rules(project: str) -> list[str]:
    """The docker flags that let a host use the lab's loop devices once they are there."""
    return [f"--device-cgroup-rule=b {LOOP_MAJOR}:{minor} rwm" for minor in minors(project)]


def backing_file(minor: int) -> str:
    """The file behind a loop device, "" without one."""
    try:
        return Path(f"/sys/block/loop{minor}/loop/backing_file").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Disk:
    """One disk of a lab, known by its file system label. It keeps its content while it is pulled out."""

    settings: Settings
    label: str

    @property
    def image(self) -> Path:
        return self.settings.state / "disks" / f"{self.label}.img"

    def make(self, megabytes: int = 64) -> None:
        """A new, empty ext4 of that size; whatever the disk held is gone. LabError while it is plugged in."""
        if self.minor() is not None:
            raise LabError(f"the disk {self.label} is plugged in: pull it out first")
        self.image.parent.mkdir(parents=True, exist_ok=True)
        self.image.unlink(missing_ok=True)
        with self.image.open("wb") as file:
            file.truncate(megabytes * 1024 * 1024)
        run(["mkfs.ext4", "-q", "-F", "-m", "0", "-L", self.label, str(self.image)])

    def minor(self) -> int | None:
        """The number of the loop device it is on, None when it is pulled out."""
        mine = str(self.image)
        return next((minor for minor in minors(self.settings.project) if backing_file(minor) == mine), None)

    def attach(self, host: HostFacts) -> str:
        """Plugs the disk into the host, again after the host's restart; returns its device there."""
        minor = self.minor()
        if minor is None:
            minor = self._connect()
        device, link = f"/dev/loop{minor}", f"/dev/disk/by-label/{self.label}"
        script = (
            f"[ -b {device} ] || mknod -m 0660 {device} b {LOOP_MAJOR} {minor}; "
            f"mkdir -p /dev/disk/by-label && ln -sfn ../../loop{minor} {link} && blkid {device} >/dev/null"
        )
        done = on_host(self.settings, host.ip, script, check=False)
        if done.returncode != 0:
            raise LabError(
                f"the host at {host.ip} cannot use {device}: made by an older lab? `understudy lab reset`"
            )
        return device

    def _connect(self) -> int:
        if os.geteuid() != 0:
            raise LabError("disks of the lab need root: they are loop devices of this machine")
        free = [minor for minor in minors(self.settings.project) if not backing_file(minor)]
        if not free:
            raise LabError(f"a lab has {PER_LAB} disks at most plugged in at once")
        add_loop_device(free[0])
        run(["losetup", f"/dev/loop{free[0]}", str(self.image)])
        return free[0]

    def detach(self, host: HostFacts) -> None:
        """Pulls the disk out of the host, mounted or not; open files there get errors."""
        minor = self.minor()
        if minor is None:
            return
        script = (
            f'for at in $(findmnt -rno TARGET -S /dev/loop{minor}); do umount -l "$at"; done; '
            f"rm -f /dev/disk/by-label/{self.label} /dev/loop{minor}"
        )
        on_host(self.settings, host.ip, script)
        release(minor)

    def mount(self, host: HostFacts, path: str) -> None:
        """Plugs the disk in and mounts it at a folder of the host: a small disk is soon a full one."""
        device = self.attach(host)
        on_host(self.settings, host.ip, f"mkdir -p '{path}' && mount {device} '{path}'")

    def fill(self, host: HostFacts, path: str, leave: int = 0) -> None:
        """Fills the disk mounted at `path` on the host until only `leave` bytes are free."""
        count = f"$(($(stat -f -c '%a * %S' '{path}') - {leave}))"
        script = f"free={count}; [ $free -le 0 ] || fallocate -l $free '{path}/filler' || true; sync"
        on_host(self.settings, host.ip, script)


def add_loop_device(minor: int) -> None:
    """Makes the kernel's loop device of that number and its node, unless they are there."""
    if not Path(f"/sys/block/loop{minor}").exists():
        with Path("/dev/loop-control").open("rb") as control:
            fcntl.ioctl(control, LOOP_CTL_ADD, minor)
    node = Path(f"/dev/loop{minor}")
    if not node.exists():
        os.mknod(node, 0o660 | 0o060000, os.makedev(LOOP_MAJOR, minor))


def release(minor: int) -> None:
    """Takes the file away from a loop device; the device goes too, once nothing has it open."""
    run(["losetup", "-d", f"/dev/loop{minor}"], check=False)


def remove_disks(settings: Settings) -> None:
    """Pulls out and throws away every disk of the lab; its hosts are gone already."""
    folder = settings.state / "disks"
    for minor in minors(settings.project):
        if backing_file(minor).startswith(f"{folder}/"):
            release(minor)
    shutil.rmtree(folder, ignore_errors=True)
