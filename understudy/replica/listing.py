"""`replica list`: every replica of the stack, how old it is and what it costs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ..clock import now
from ..hetzner import Hetzner
from . import labels as labelling
from .model import Offer, Prices, Server, Thing
from .price import HOURS

HOUR = 3600.0


def rows(api: Hetzner, stack: str) -> list[dict[str, Any]]:
    """One row a server, and one for each address or disk that no server uses. Money is net, in EUR."""
    chosen = labelling.selector(stack)
    servers, addresses, volumes = api.servers(chosen), api.addresses(chosen), api.volumes(chosen)
    if not (servers or addresses or volumes):
        return []
    offers, prices = {(o.type, o.location): o for o in api.offers()}, api.prices()
    found = [_server(server, offers, prices, volumes) for server in servers]
    return found + [_unused(thing, prices) for thing in (*addresses, *volumes) if not thing.user]


def _server(
    server: Server, offers: dict[tuple[str, str], Offer], prices: Prices, volumes: list[Thing]
) -> dict[str, Any]:
    offer = offers.get((server.type, server.location))
    disks = sum(volume.size for volume in volumes if volume.user == server.id)
    monthly = (offer.monthly if offer else Decimal(0)) + prices.address_monthly.get(
        server.location, Decimal(0)
    )
    hourly = (offer.hourly if offer else Decimal(0)) + prices.address_hourly.get(server.location, Decimal(0))
    monthly, hourly = monthly + prices.volume_gb * disks, hourly + prices.volume_gb * disks / HOURS
    hours = max(0.0, now() - server.created) / HOUR
    return {
        "name": server.name,
        "state": server.status
        if server.labels.get("state") == labelling.READY
        else f"{server.status}, unfinished",
        "type": server.type,
        "location": server.location,
        "address": server.ip,
        "protected": server.protected,
        "age_seconds": round(hours * HOUR),
        "monthly_net": float(monthly) if offer else None,
        "hourly_net": float(hourly) if offer else None,
        "so_far_net": round(float(min(monthly, hourly * (int(hours) + 1))), 4) if offer else None,
    }


def _unused(thing: Thing, prices: Prices) -> dict[str, Any]:
    monthly = (
        prices.volume_gb * thing.size
        if thing.size
        else prices.address_monthly.get(thing.location, Decimal(0))
    )
    return {
        "name": thing.name,
        "state": "kept, not in use",
        "type": f"{thing.size} GB volume" if thing.size else "address",
        "location": thing.location,
        "address": thing.ip,
        "protected": thing.protected,
        "age_seconds": None,
        "monthly_net": float(monthly),
        "hourly_net": None,
        "so_far_net": None,
    }


def age(seconds: float | None) -> str:
    """For people: 3 d, 5 h, 12 min."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"
