"""What the firewall of a host lets in, read off its services."""

from __future__ import annotations

from .desired import Desired
from .firewall import PRIVATE_NETWORKS, FirewallModel, Port


def model(desired: Desired) -> FirewallModel:
    """SSH from anywhere, the ports of services marked ``expose: lan`` from the LAN, nothing else."""
    settings = desired.settings
    lan: set[tuple[int, str]] = set()
    for name in desired.services:
        service = desired.catalog.services[name]
        if service.block.expose != "lan":
            continue
        lan |= {
            (p.port, p.protocol)
            for c in service.containers.values()
            for p in c.ports
            if p.port and not p.on_loopback
        }
        lan |= {(port, "tcp") for port in (service.block.native.ports if service.block.native else [])}
    ports = tuple(Port(number, "udp" if protocol == "udp" else "tcp") for number, protocol in sorted(lan))
    return FirewallModel(
        tuple(settings.ssh_ports),
        lan=ports,
        lan_networks=tuple(settings.lan_networks) or PRIVATE_NETWORKS,
        metadata=settings.metadata_service,
    )
