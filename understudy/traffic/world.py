"""What the whole inventory says about traffic: hosts, their tunnels' names, and the public names of each move group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..catalog import Catalog
from ..errors import BadInput
from ..proxy import hostname
from ..settings import HostSettings
from .policy import Balancer

STAYS = "host"
"""The group of what every host has of its own: it has no owner, and its names follow the first real group."""
LEADING = "critical"


@dataclass(frozen=True)
class TrafficHost:
    """One host with a tunnel. ``groups`` are the move groups whose services it carries; ``port`` is its proxy's."""

    name: str
    primary: bool
    groups: frozenset[str]
    port: int


@dataclass(frozen=True)
class Health:
    """A request that only the host answers on which a group runs: a GET of ``path`` at the public ``name``.

    ``codes`` as Cloudflare's monitors take them.
    """

    name: str
    path: str
    codes: str


@dataclass(frozen=True)
class World:
    """``names`` maps a public name to its move group; ``groups`` are in the order of their first service.

    ``balancer`` None: no load balancers; ``health``: group to what its monitor asks for.
    """

    stack: str
    domain: str
    hosts: tuple[TrafficHost, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    balancer: Balancer | None = None
    health: Mapping[str, Health] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether Cloudflare's load balancers lead to the hosts."""
        return self.balancer is not None and self.balancer.enabled

    def tunnel_name(self, host: str) -> str:
        """The name of a host's tunnel: told apart from everybody else's by the stack's name."""
        return f"understudy-{self.stack}-{host}"

    def host_of_tunnel(self, name: str) -> str:
        """The host a tunnel is named after, "" for a tunnel that is not of this stack."""
        start = f"understudy-{self.stack}-"
        return name.removeprefix(start) if name.startswith(start) else ""

    def names_of(self, group: str) -> list[str]:
        """The public names that move with a group."""
        return sorted(name for name, owner in self.names.items() if owner == group)

    def first_owner(self, group: str) -> str:
        """Who owns a group that nobody has claimed yet: a primary that carries it. "" when there is none."""
        return next((host.name for host in self.hosts if host.primary and group in host.groups), "")


def world(hosts: Iterable[tuple[HostSettings, Catalog, list[str]]]) -> World:
    """``hosts``: settings, catalogue and the services placed, of every host of the inventory with edge: cloudflare.

    Raises BadInput when hosts differ in their domain or stack.
    """
    found, names, groups, health = list[TrafficHost](), dict[str, str](), list[str](), dict[str, Health]()
    first: HostSettings | None = None
    for settings, catalog, placed in hosts:
        first = first or settings
        _same(first, settings)
        carried = {catalog.services[name].block.group for name in placed} - {STAYS}
        groups += [group for group in sorted(carried) if group not in groups]
        names |= _names(settings, catalog, placed) if settings.parts.dns else {}
        health = {**_health(settings, catalog, placed), **health}
        first_owner = settings.role == "primary"
        found.append(TrafficHost(settings.name, first_owner, frozenset(carried), settings.proxy_port))
    if first is None:
        return World("", "", ())
    leading = LEADING if LEADING in groups else next(iter(groups), "")
    led = {name: leading if group == STAYS else group for name, group in names.items()}
    named = {name: group for name, group in led.items() if group}
    balancer = first.cloudflare.balancer
    return World(first.stack, first.domain, tuple(found), named, tuple(groups), balancer, health)


def _names(settings: HostSettings, catalog: Catalog, placed: list[str]) -> dict[str, str]:
    return {
        hostname(label, settings.domain): catalog.services[name].block.group
        for name in placed
        for route in catalog.services[name].routes
        for label in route.host
    }


def _health(settings: HostSettings, catalog: Catalog, placed: list[str]) -> dict[str, Health]:
    """For each group the first probe of a public name that is a plain GET."""
    found: dict[str, Health] = {}
    for name in sorted(placed):
        service = catalog.services[name]
        for route in service.routes:
            probe = route.probe or service.probe()
            if probe and probe.method == "GET" and not probe.headers and service.block.group not in found:
                codes = ",".join(map(str, probe.status))
                public = hostname(route.host[0], settings.domain)
                found[service.block.group] = Health(public, probe.path, codes)
    return found


def _same(first: HostSettings, other: HostSettings) -> None:
    for key in ("domain", "stack"):
        mine, theirs = getattr(first, key), getattr(other, key)
        if mine != theirs:
            raise BadInput(
                f"{other.name}: {key} is {theirs!r}, but {first.name} has {mine!r}: "
                "hosts that share Cloudflare tunnels share both"
            )
