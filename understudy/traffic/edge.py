"""The way to the public names of one inventory: the account, the zone, and what the inventory wants there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import project, render
from ..cloudflare import Access, Account, Tunnel, Zone
from ..errors import BadInput, UnderstudyError
from ..settings import HostSettings, settings_of
from .world import World, world

TOKEN_VARIABLE = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - the name of a variable
URL_VARIABLE = "CLOUDFLARE_BASE_URL"
FILE = "cloudflare"
NO_TOKEN = (
    f"no Cloudflare token: put {TOKEN_VARIABLE} into secrets/{FILE}.yaml (`understudy secrets edit {FILE}`) "
    "or into the environment (docs/traffic.md)"
)


@dataclass
class Edge:
    """An account that is reached and a world that it serves. Everything that moves traffic starts here."""

    account: Account
    world: World
    resolvers: tuple[str, ...] = ()

    @property
    def zone(self) -> Zone:
        """The zone of the domain, looked up once."""
        return self.account.zone(self.world.domain)

    def tunnels(self) -> dict[str, Tunnel]:
        """Host to its tunnel, for every tunnel of this stack, also of hosts that no inventory names."""
        found = {self.world.host_of_tunnel(t.name): t for t in self.account.tunnels(self.zone)}
        return {host: tunnel for host, tunnel in found.items() if host}

    def tunnel_of(self, host: str) -> Tunnel:
        """Raises UnderstudyError when the host has no tunnel yet."""
        tunnel = self.tunnels().get(host)
        if tunnel is None:
            name = self.world.tunnel_name(host)
            raise UnderstudyError(f"{host} has no tunnel ({name}): converge it first")
        return tunnel


Hosts = Iterable[tuple[str, Mapping[str, Any]]]


def open_edge(hosts: Hosts) -> Edge:
    """The edge of an inventory; ``hosts`` as project.hosts() gives them. Nothing is asked of Cloudflare yet.

    Raises BadInput when no host has ``edge: cloudflare`` or when there is no token.
    """
    found = find_edge(hosts)
    if found is None:
        raise BadInput(NO_TOKEN)
    return found


def find_edge(hosts: Hosts) -> Edge | None:
    """Like :func:`open_edge`, None without a token. Raises BadInput where no host is behind Cloudflare."""
    behind = [settings for name, data in hosts if (settings := settings_of(name, data)).edge == "cloudflare"]
    if not behind:
        raise BadInput(
            "no host of this inventory has `edge: cloudflare`: its public names are not moved by us"
        )
    first = behind[0]
    token = token_for(first)
    if not token:
        return None
    chosen = first.cloudflare
    url = chosen.api_url or os.environ.get(URL_VARIABLE, "")
    access = Access(token, url, chosen.zone, chosen.account)
    return Edge(Account(access), world_of(behind), tuple(chosen.resolvers))


def world_of(behind: Iterable[HostSettings]) -> World:
    """What the hosts behind Cloudflare want of it."""
    rows = []
    for settings in behind:
        catalog = project.catalog_for(settings)
        rows.append((settings, catalog, render.placed(catalog, settings)))
    return world(rows)


def token_for(settings: HostSettings) -> str:
    """The owner's API token: the environment's, else that of secrets/cloudflare.yaml; "" without one."""
    given = os.environ.get(TOKEN_VARIABLE, "")
    if given:
        return given
    store = project.store_of(settings)
    return store.load(FILE).get(TOKEN_VARIABLE, "") if store.path(FILE).exists() else ""
