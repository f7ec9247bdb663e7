"""The machines behind servers: lab hosts that run the real cloud-init on a server's user_data."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lab import hosts
from lab.disks import copy_store
from lab.engine import docker
from lab.facts import HostFacts
from lab.hetzner.image import ensure_image
from lab.settings import Settings
from lab.shell import run

SEED = "var/lib/cloud/seed/nocloud"


@dataclass(frozen=True)
class Machine:
    """One server's machine. ``keys`` are public keys for root; ``user_data`` is what its cloud-init runs."""

    id: int
    name: str
    ip: str
    user_data: str
    keys: tuple[str, ...] = field(default=())

    @property
    def place(self) -> str:
        """The name of its container and disk within the lab."""
        return f"hcloud-{self.id}"


class Machines(Protocol):
    """What servers are made of. Every call may be made again: it looks at what is there."""

    def create(self, machine: Machine) -> None:
        """The machine is there, switched off."""

    def start(self, machine: Machine) -> None:
        """It is on; it may still be booting."""

    def stop(self, machine: Machine, hard: bool) -> None:
        """It is off."""

    def destroy(self, machine: Machine) -> None:
        """It is gone, with its disk."""


class NoMachines:
    """For tests of the API alone: servers without machines."""

    def create(self, machine: Machine) -> None:
        """Nothing to make."""

    def start(self, machine: Machine) -> None:
        """Nothing to start."""

    def stop(self, machine: Machine, hard: bool) -> None:
        """Nothing to stop."""

    def destroy(self, machine: Machine) -> None:
        """Nothing to remove."""


@dataclass(frozen=True)
class LabMachines:
    """Lab hosts without an identity of their own: cloud-init gives them host key and logins."""

    settings: Settings
    gateway: str
    store: Callable[[], str | None]

    def create(self, machine: Machine) -> None:
        facts = self._facts(machine)
        if hosts.state_of(facts.container) not in ("absent", "created"):
            return
        hosts.destroy(self.settings, machine.place)
        volume, image, store = self.settings.volume(machine.place), ensure_image(), self.store()
        docker("volume", "create", "--label", self.settings.label, volume)
        if store:
            copy_store(store, volume, image)
        command = hosts.create_command(self.settings, machine.place, facts, self.gateway, image)
        command[command.index("--hostname") + 1] = machine.name
        run(command)
        docker("cp", "-", f"{facts.container}:/", stdin=seed(machine))

    def start(self, machine: Machine) -> None:
        container = self._facts(machine).container
        if hosts.state_of(container) != "running":
            hosts.start(container)

    def stop(self, machine: Machine, hard: bool) -> None:
        container = self._facts(machine).container
        if hosts.state_of(container) == "running":
            (hosts.power_cut if hard else hosts.stop)(container)

    def destroy(self, machine: Machine) -> None:
        hosts.destroy(self.settings, machine.place)

    def _facts(self, machine: Machine) -> HostFacts:
        return HostFacts(machine.ip, self.settings.container(machine.place), "replica")


def seed(machine: Machine) -> bytes:
    """A tar of the NoCloud seed: what Hetzner's metadata service would tell cloud-init."""
    meta = {
        "instance-id": str(machine.id),
        "local-hostname": machine.name,
        "public-keys": {str(number): key for number, key in enumerate(machine.keys)},
    }
    files = {"meta-data": json.dumps(meta), "user-data": machine.user_data or "#cloud-config\n{}\n"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(f"{SEED}/{name}")
            entry.mode, entry.size = 0o600, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
