"""`replica down`: removes what our labels mark, in the order in which it can be removed; what is gone already is fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BadInput, Refused, UnderstudyError
from ..hetzner import Hetzner
from . import labels as labelling
from . import login, rotation
from .login import Door
from .model import Server, Thing
from .up import remove_server

Heard = Callable[[str], None]
ASK_SECONDS = 20.0
SERVING = "sh -c 'test -d /run/understudy/may || exit 0; ls /run/understudy/may'"


@dataclass(frozen=True)
class Belongings:
    """What is ours of one replica. ``kept`` outlives the server unless asked otherwise: addresses and disks."""

    servers: list[Server]
    walls: list[Thing]
    keys: list[Thing]
    addresses: list[Thing]
    volumes: list[Thing]

    def __bool__(self) -> bool:
        return bool(self.servers or self.walls or self.keys or self.addresses or self.volumes)


def belongings(api: Hetzner, stack: str, name: str) -> Belongings:
    """Everything that carries our labels of this replica."""
    chosen = labelling.selector(stack, name)
    return Belongings(
        api.servers(chosen),
        list(api.walls(chosen)),
        api.keys(chosen),
        api.addresses(chosen),
        api.volumes(chosen),
    )


def require_something(found: Belongings, api: Hetzner, stack: str, name: str) -> None:
    """BadInput when there is nothing of ours by that name, saying whether somebody else's is."""
    if found:
        return
    if api.server_named(name):
        raise Refused(
            f"the server {name} was not made by Understudy for the stack {stack}: it stays untouched"
        )
    raise BadInput(
        f"the stack {stack} has no replica {name} at Hetzner: `understudy replica list` shows what there is"
    )


def serving(servers: list[Server], user: str, key_file: str) -> str:
    """Why the replica must not be destroyed now, "" for no reason: it serves a group, or nobody can tell."""
    sudo = "" if user == "root" else "sudo "
    for server in servers:
        if server.labels.get("state") != labelling.READY:
            continue  # it never finished, so it never served
        door = Door(server.ip, user=user, key_file=key_file)
        try:
            key = login.trusted_key(door, rotation.marks(server.labels))
            with login.opened(door, key) as client:
                groups = login.run(client, sudo + SERVING, ASK_SECONDS).split()
        except UnderstudyError as error:
            return f"whether {server.name} serves anything could not be read: {error}"
        if groups:
            return f"{server.name} serves {', '.join(groups)} now: bring that back first (`understudy switchover`)"
    return ""


def down(api: Hetzner, found: Belongings, everything: bool, heard: Heard) -> list[str]:
    """Remove the replica; returns what stays, a sentence each. ``everything``: addresses and disks too."""
    for server in found.servers:
        heard(f"deleting the server {server.name}")
        remove_server(api, server, heard)
    for volume in found.volumes if everything else ():
        heard(f"deleting the volume {volume.name}")
        api.delete("volumes", volume.id)
    for address in found.addresses if everything else ():
        heard(f"giving the address {address.ip} back")
        api.delete("primary_ips", address.id)
    for wall in found.walls:
        heard(f"deleting the firewall {wall.name}")
        api.delete("firewalls", wall.id)
    for key in found.keys:
        heard(f"deleting the SSH key {key.name}")
        api.delete("ssh_keys", key.id)
    if everything:
        return []
    kept = [f"the volume {volume.name} ({volume.size} GB)" for volume in found.volumes]
    return [*kept, *(f"the address {address.ip}" for address in found.addresses)]
