"""What is staged, as .lab/lab.json tells it."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass, field

from lab.settings import PRIMARY, Settings
from lab.ssh import write_atomically

FIRST_ADDRESS = 10


@dataclass
class HostFacts:
    """One staged host. `role` is primary or replica."""

    ip: str
    container: str
    role: str


@dataclass
class Facts:
    """The staged world: its network in CIDR notation and its hosts by name."""

    project: str
    subnet: str
    hosts: dict[str, HostFacts] = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        return self.address(1)

    def address(self, number: int) -> str:
        """The network's n-th address."""
        return str(ipaddress.ip_network(self.subnet)[number])


def read_facts(settings: Settings) -> Facts | None:
    """The staged world, or None when nothing is (or the file is of another shape)."""
    try:
        raw = json.loads(settings.facts.read_text())
        hosts = {name: HostFacts(**host) for name, host in raw["hosts"].items()}
        return Facts(raw["project"], raw["subnet"], hosts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_facts(settings: Settings, facts: Facts) -> None:
    settings.state.mkdir(parents=True, exist_ok=True)
    write_atomically(settings.facts, json.dumps(asdict(facts), indent=2) + "\n")


def place_host(settings: Settings, facts: Facts, name: str) -> HostFacts:
    """The host's facts, with the address it had before or the next free one."""
    if name not in facts.hosts:
        taken = {host.ip for host in facts.hosts.values()}
        network = ipaddress.ip_network(facts.subnet)
        address = next(str(network[n]) for n in range(FIRST_ADDRESS, 250) if str(network[n]) not in taken)
        role = "primary" if name == PRIMARY else "replica"
        facts.hosts[name] = HostFacts(address, settings.container(name), role)
    return facts.hosts[name]
