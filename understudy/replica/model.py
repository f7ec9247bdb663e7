"""Plain values of what is at Hetzner. Money is net, in EUR; memory and disks are in GB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True)
class Offer:
    """A server type as it is sold in one location. ``available``: not sold out, not on its way out."""

    type: str
    location: str
    architecture: str
    cores: int
    memory: float
    disk: int
    dedicated: bool
    available: bool
    monthly: Decimal
    hourly: Decimal


@dataclass(frozen=True)
class Prices:
    """What is charged beside servers, by location; ``vat`` in percent."""

    vat: Decimal
    address_monthly: Mapping[str, Decimal]
    address_hourly: Mapping[str, Decimal]
    volume_gb: Decimal


@dataclass(frozen=True)
class Thing:
    """Anything with a number, a name and labels: a key, a firewall, an address, a volume.

    ``user``: the server it is assigned or attached to, 0 for none. ``size`` of a volume; ``ip`` of an address.
    """

    id: int
    name: str
    labels: Mapping[str, str]
    location: str = ""
    user: int = 0
    size: int = 0
    ip: str = ""
    protected: bool = False


@dataclass(frozen=True)
class Rule:
    """A firewall rule that lets something in. ``port`` "" for protocols without."""

    protocol: str
    port: str
    sources: frozenset[str]


@dataclass(frozen=True)
class Wall(Thing):
    """A firewall with its rules."""

    rules: frozenset[Rule] = frozenset()


@dataclass(frozen=True)
class Server:
    """A server. ``status`` in Hetzner's words; ``created`` in seconds since the epoch."""

    id: int
    name: str
    status: str
    labels: Mapping[str, str]
    ip: str
    type: str
    location: str
    created: float
    protected: bool = False
    volumes: tuple[int, ...] = ()
    address: int = 0
    walls: tuple[int, ...] = ()


@dataclass(frozen=True)
class Order:
    """What a server is created with."""

    name: str
    type: str
    location: str
    image: str
    user_data: str = field(repr=False)
    labels: Mapping[str, str]
    key: int
    wall: int
    address: int = 0
    volume: int = 0
