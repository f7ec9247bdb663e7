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
from . import tokens
from .world import World, world

URL_VARIABLE = "CLOUDFLARE_BASE_URL"
NO_TOKEN = (
    f"no Cloudflare token: put {tokens.API_TOKEN} into secrets/{tokens.FILE}.yaml "
    f"(`understudy secrets edit {tokens.FILE}`) or into the environment (docs/traffic.md)"
)


@dataclass
class Edge:
    """An account that is reached and a world that it serves. Everything that moves traffic starts here."""

    account: Account
    world: World
    may_write: bool = False

    @property
    def zone(self) -> Zone:
        """The zone of the domain, looked up once."""
        return self.account.zone(self.world.domain)

    def ready_to_write(self) -> None:
        """Before the first change: raises CloudflareError naming a permission that the token lacks."""
        if not self.may_write:
            self.account.check_permissions(self.zone, writing=True)
            self.may_write = True

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
    hosts = list(hosts)
    if not _behind(hosts):
        raise BadInput(
            "no host of this inventory has `edge: cloudflare`: its public names are not moved by us"
        )
    found = find_edge(hosts)
    if found is None:
        raise BadInput(NO_TOKEN)
    return found


def find_edge(hosts: Hosts) -> Edge | None:
    """Like :func:`open_edge`, but None without a token and where no host is behind Cloudflare."""
    behind = _behind(hosts)
    token = tokens.api_token(project.store_of(behind[0])) if behind else ""
    if not token:
        return None
    chosen = behind[0].cloudflare
    url = chosen.api_url or os.environ.get(URL_VARIABLE, "")
    return Edge(Account(Access(token, url, chosen.zone, chosen.account)), world_of(behind))


def _behind(hosts: Hosts) -> list[HostSettings]:
    found = [settings_of(name, data) for name, data in hosts]
    return [one for one in found if one.edge == "cloudflare" and (one.parts.tunnel or one.parts.dns)]


def world_of(behind: Iterable[HostSettings]) -> World:
    """What the hosts behind Cloudflare want of it; those whose `tunnel` part is off have none."""
    rows = []
    for settings in behind:
        if not settings.parts.tunnel:
            continue
        catalog = project.catalog_for(settings)
        rows.append((settings, catalog, render.placed(catalog, settings)))
    return world(rows)
