"""The fence of a move group: nothing reaches its services and nothing of them reaches out, until the guard lifts it.

One nftables table a group, ``inet understudy_owner_GROUP``: new connections to the ports (also from loopback and from
containers, seen before Docker's address translation), traffic of the projects' bridges into, out of and through the
host, and what native services' own users send. Probes of ours come from 127.0.0.254 (agent/fence.py). The bridges are
remembered, because at a boot the fence stands before Docker has made them again.
"""

from __future__ import annotations

import json
import pwd
import re
from collections.abc import Iterable, Sequence

from .. import process
from ..data.state import seen
from ..disk import Disk
from ..errors import AgentError
from ..fence import SOURCE, apply, possible, program
from ..root import Root
from .plan import Managed, Plan
from .state import FOLDER

__all__ = ["bridges", "down", "learn_bridges", "removal", "ruleset", "standing", "table", "up", "users"]

_BRIDGES = f"{FOLDER}/bridges.json"
_ASK = 30.0
_PROJECT = "com.docker.compose.project"


def table(group: str) -> str:
    """The name of a group's table; nothing in it has a meaning to nft."""
    return "understudy_owner_" + re.sub(r"[^A-Za-z0-9]", lambda match: f"_{ord(match[0]):x}_", group)


def ruleset(group: str, ports: Iterable[int], names: Iterable[str], uids: Iterable[int]) -> str:
    """What ``nft -f -`` is given: the fence as it should be, whatever was there before, in one transaction.

    ``names`` are bridges, ``uids`` the users of native services.
    """
    name = table(group)
    inside = "{ " + ", ".join(f'"{bridge}"' for bridge in sorted(set(names))) + " }"
    listed = ", ".join(str(port) for port in sorted(set(ports)))
    to_port = f"meta l4proto {{ tcp, udp }} th dport {{ {listed} }} ct state new fib daddr type local reject"
    arriving = [f'iifname "lo" ip saddr {SOURCE} accept', *([to_port] if listed else [])]
    leaving = [f"ip saddr {SOURCE} accept", *([to_port] if listed else [])]
    who = ", ".join(str(uid) for uid in sorted(set(uids)))
    if who:
        leaving.append(f'meta skuid {{ {who} }} oifname != "lo" ct state new reject')
    through = [f"iifname {inside} oifname != {inside} drop", f"oifname {inside} iifname != {inside} drop"]
    chains = [
        _chain("arriving", "prerouting", -150, arriving),
        _chain("leaving", "output", -150, leaving),
        *(
            [
                _chain("through", "forward", -10, through),
                _chain("into", "input", -10, [f"iifname {inside} ct state new drop"]),
            ]
            if names
            else []
        ),
    ]
    return f"table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n{''.join(chains)}}}\n"


def _chain(name: str, hook: str, priority: int, rules: Sequence[str]) -> str:
    lines = "".join(f"\t\t{rule}\n" for rule in rules)
    return (
        f"\tchain {name} {{\n\t\ttype filter hook {hook} priority {priority}; policy accept;\n{lines}\t}}\n"
    )


def removal(group: str) -> str:
    """What takes the fence away, and is right when there is none."""
    name = table(group)
    return f"table inet {name}\ndelete table inet {name}\n"


def up(root: Root, plan: Plan, group: str) -> None:
    """Put the fence up, or renew it. Raises AgentError: where it cannot stand, nothing may be started behind it."""
    if not possible():
        raise AgentError(
            "nft is not on this host, and without it no group can be fenced: converge it", "fence"
        )
    services = plan.of(group)
    ports = {port for service in services for port in service.ports}
    apply(
        ruleset(group, ports, bridges(root).get(group, []), users(services)),
        f"group {group} cannot be fenced",
    )


def down(group: str) -> None:
    """Lift the fence; none is as wanted. Raises AgentError."""
    if possible():
        apply(removal(group), f"the fence of group {group} cannot be lifted")


def standing(group: str) -> bool:
    """Whether the fence is up."""
    nft = program()
    return nft is not None and process.run([nft, "list", "table", "inet", table(group)], _ASK).ok


def users(services: Iterable[Managed]) -> list[int]:
    """The users of native services; one that does not exist yet has nothing running."""
    found = []
    for service in services:
        try:
            found += [pwd.getpwnam(service.user).pw_uid] if service.user not in ("", "root") else []
        except KeyError:
            continue
    return found


def bridges(root: Root) -> dict[str, list[str]]:
    """Group to the bridges of its projects' networks, as they were last seen."""
    found = seen(root, _BRIDGES, dict)
    return found if isinstance(found, dict) else {}


def learn_bridges(disk: Disk, plan: Plan) -> bool:
    """Look at the networks that Docker has now, in one call. Returns whether any is new or gone; raises AgentError."""
    form = f'{{{{.ID}}}}\t{{{{.Label "{_PROJECT}"}}}}'
    ended = process.run(["docker", "network", "ls", "--no-trunc", "--format", form], _ASK)
    if not ended.ok:
        raise AgentError(f"docker network ls: {ended.why(1)}", "docker")
    groups = {service.project: service.group for service in plan.services.values() if service.project}
    found: dict[str, list[str]] = {group: [] for group in plan.groups}
    for line in ended.out.splitlines():
        network, _, project = line.partition("\t")
        if project in groups:
            found.setdefault(groups[project], []).append(f"br-{network[:12]}")
    found = {group: sorted(names) for group, names in found.items()}
    if found == bridges(disk.root):
        return False
    disk.private_dir(FOLDER)
    disk.replace(_BRIDGES, json.dumps(found).encode())
    return True
