"""One tunnel per host: made once, kept for ever, one rule that sends everything to the host's proxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..cloudflare import Tunnel
from ..errors import Refused
from .edge import Edge
from .world import TrafficHost


@dataclass(frozen=True)
class TunnelWork:
    """What a host's tunnel lacks."""

    host: str
    create: bool
    configure: bool

    def sentences(self) -> list[str]:
        """Lines for a plan."""
        if self.create:
            return ["create the tunnel"]
        return ["send everything to the proxy"] if self.configure else []


def service(host: TrafficHost) -> str:
    """Where a tunnel's one rule sends requests: the proxy, which listens on loopback alone."""
    return f"http://localhost:{host.port}"


def work(edge: Edge, host: TrafficHost, tunnel: Tunnel | None) -> TunnelWork:
    """What a host's tunnel lacks. Raises Refused for a tunnel of that name that is somebody else's."""
    if tunnel is None:
        return TunnelWork(host.name, True, True)
    rules = edge.account.ingress(edge.zone, tunnel.id)
    _check_ours(tunnel, rules)
    return TunnelWork(host.name, False, rules != wanted_rules(host))


def wanted_rules(host: TrafficHost) -> list[dict[str, Any]]:
    """The one catch-all rule, in the form of ``Account.ingress``."""
    return [{"hostname": "", "path": "", "service": service(host)}]


def _check_ours(tunnel: Tunnel, rules: list[dict[str, Any]]) -> None:
    """Ours are remotely managed and have no rule for a hostname; a new one may have none at all."""
    if not tunnel.remote:
        why = "its configuration is kept on a host, not at Cloudflare"
    elif any(rule["hostname"] or rule["path"] for rule in rules):
        why = "it has rules for single hostnames"
    else:
        return
    raise Refused(
        f"Cloudflare has a tunnel {tunnel.name} that we did not make ({why}): rename it there, or change `stack` in "
        "group_data/all.py, and converge again"
    )


def apply(edge: Edge, host: TrafficHost, tunnel: Tunnel | None) -> Tunnel:
    """Make one host's tunnel what it should be; an equal one is not written to."""
    wanted = work(edge, host, tunnel)
    if tunnel is not None and not wanted.configure:
        return tunnel
    edge.ready_to_write()
    if tunnel is None:
        tunnel = edge.account.create_tunnel(edge.zone, edge.world.tunnel_name(host.name))
        _check_ours(tunnel, edge.account.ingress(edge.zone, tunnel.id))
    edge.account.configure(edge.zone, tunnel.id, service(host))
    return tunnel


def fence(edge: Edge, host: str) -> None:
    """Cut a host off from the public: a new secret for its tunnel, then every connection it has is ended.

    What still runs there gets no request any more, and no connection back until it is given the new token. Safe to repeat.
    """
    tunnel = edge.tunnel_of(host)
    edge.account.rotate(edge.zone, tunnel.id)
    edge.account.disconnect(edge.zone, tunnel.id)


def token(edge: Edge, host: str) -> str:
    """The token that the host's connector needs now."""
    return edge.account.tunnel_token(edge.zone, edge.tunnel_of(host).id)
