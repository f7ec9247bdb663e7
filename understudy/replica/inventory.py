"""Replicas in an inventory: found at Hetzner by their labels, or left out with a clear word when that cannot be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import project
from ..errors import BadInput, UnderstudyError
from ..hetzner import ENDPOINT, Access, Hetzner
from ..secrets import Store
from ..settings import HostSettings
from ..spec import SecretSpec
from . import labels as labelling
from . import login, rotation
from .identity import known_hosts_line, mark
from .login import Door
from .model import Server
from .wish import Wish, wish_of

TOKEN, ADDRESS = "HCLOUD_TOKEN", "HCLOUD_ENDPOINT"
SECRETS = "hetzner"
SPECS = {TOKEN: SecretSpec(optional=True, why="an API token of the project, Read & Write")}
PINS = Path(".understudy") / "known_hosts"
QUICK = {"read": 8.0, "patience": 10.0}
USUAL_KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")


def access(settings_data: Mapping[str, Any], **limits: float) -> Access:
    """The project's token: HCLOUD_TOKEN, else that name in secrets/hetzner.yaml. "" where there is none."""
    token = os.environ.get(TOKEN, "")
    if not token:
        folder = project.root() / str(settings_data.get("secrets_dir", "secrets"))
        if (folder / f"{SECRETS}.yaml").exists():
            token = Store(folder).load(SECRETS).get(TOKEN, "")
    return Access(token, os.environ.get(ADDRESS) or ENDPOINT, **limits)


@dataclass(frozen=True)
class Cloud:
    """What one inventory says about Hetzner. ``data`` is what every replica gets beside group_data."""

    data: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def all_data(self) -> dict[str, Any]:
        """As a host of the group replica will have it."""
        return {**project.group_data(["replica"]), **self.data}

    @property
    def stack(self) -> str:
        return str(self.all_data.get("stack") or HostSettings.model_fields["stack"].default)

    @property
    def user(self) -> str:
        return str(self.all_data.get("ssh_user") or "root")

    @property
    def key_file(self) -> str:
        return os.path.expanduser(str(self.all_data.get("ssh_key") or ""))

    @property
    def token(self) -> str:
        """The project's token, "" for none."""
        return access(self.all_data).token

    @property
    def asks_for_one(self) -> bool:
        """Whether group_data describes a replica at Hetzner."""
        return bool(self.all_data.get("hetzner"))

    def wish(self, **chosen: Any) -> Wish:
        return wish_of(self.all_data, **chosen)

    def public_keys(self) -> list[str]:
        """Texts of the login keys: those the wish names, that of ``ssh_key``, or the first of the usual ones."""
        named = [Path(os.path.expanduser(name)) for name in self.wish().ssh_keys]
        if not named and self.key_file:
            named = [Path(f"{self.key_file}.pub")]
        usual = [Path.home() / ".ssh" / name for name in USUAL_KEYS]
        found = named or [path for path in usual if path.exists()][:1]
        return [_public_key(path) for path in found]

    def api(self, **limits: float) -> Hetzner:
        return Hetzner(access(self.all_data, **limits))

    def pins(self, key_mark: str, name: str = "") -> Path:
        """The known_hosts file of one key: a new one for a new key."""
        return project.root() / PINS / f"{name or self.wish().name}-{key_mark[:12]}"

    @cached_property
    def _found(self) -> tuple[list[Server], str]:
        """Finished replicas, and why none could be looked for, "" when they could."""
        reached = access(self.all_data, **QUICK)
        if not reached.token:
            return [], f"there is no {TOKEN}"
        try:
            servers = Hetzner(reached).servers(labelling.selector(self.stack))
        except UnderstudyError as error:
            print(f"{error} Replicas at Hetzner are left out; every other host is there.", file=sys.stderr)
            return [], str(error)
        return [server for server in servers if server.labels.get("state") == labelling.READY], ""

    @property
    def complete(self) -> bool:
        """Whether it is known which replicas there are. What could not be read is never "nothing there"."""
        return not self._found[1]

    def hosts(self) -> list[tuple[str, dict[str, Any]]]:
        """Every finished replica, in the shape an inventory takes."""
        return [(server.name, self._host(server)) for server in self._found[0]]

    def _host(self, server: Server) -> dict[str, Any]:
        return {
            **self.data,
            "role": "replica",
            "ssh_hostname": server.ip,
            "ssh_user": self.user,
            **({"ssh_key": self.key_file} if self.key_file else {}),
            "ssh_known_hosts_file": str(self._pinned(server)),
            "ssh_strict_host_key_checking": "yes",
            "metadata_service": True,
        }

    def _pinned(self, server: Server) -> Path:
        """The file that pins the server's host key. On a machine that has none yet, the label vouches for the key."""
        marks = rotation.marks(server.labels)
        for key_mark in marks:
            path = self.pins(key_mark, server.name)
            if path.exists() and path.read_text(encoding="utf-8").startswith(f"{server.ip} "):
                return path
        try:
            key = login.trusted_key(Door(server.ip, user=self.user), marks)
        except (login.NotYet, login.WrongKey) as error:
            print(f"{server.name}: {error}", file=sys.stderr)
            return self.pins("unknown", server.name)  # which is not there: nothing is trusted
        path = self.pins(mark(key), server.name)
        login.write_pin(path, known_hosts_line(server.ip, key))
        return path


def hetzner(data: Mapping[str, Any] | None = None) -> Cloud:
    """For inventories. Exits with code 2 where group_data asks for something wrong."""
    cloud = Cloud(dict(data or {}))
    with project.bad_input_exits():
        cloud.wish()
    return cloud


def cloud_of(names: Mapping[str, Any], inventory: str) -> Cloud:
    """The Cloud of an inventory file that was run. Raises BadInput for one without."""
    for value in names.values():
        if isinstance(value, Cloud):
            return value
    raise BadInput(
        f"{inventory} says nothing about Hetzner: add `_cloud = hetzner()` and `replica = _cloud.hosts()` as "
        "inventory/prod.py of Understudy's own repository has it"
    )


def _public_key(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadInput(f"the SSH public key {path} cannot be read: {error.strerror}") from error
    if len(text.split()) < 2 or "PRIVATE" in text:
        raise BadInput(f"{path} is not an SSH public key: name the file that ends in .pub")
    return text
