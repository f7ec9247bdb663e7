"""The lab's own bridge: internal, so nothing in the lab can reach anything outside this machine."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from lab.engine import docker
from lab.machine import free_subnet, routed_networks
from lab.settings import Settings
from lab.shell import run


def network_subnet(settings: Settings) -> str | None:
    """The subnet of the lab's network, or None when it is not there."""
    command = [
        "docker",
        "network",
        "inspect",
        "-f",
        "{{range .IPAM.Config}}{{.Subnet}}{{end}}",
        settings.network,
    ]
    done = run(command, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None


def taken_networks() -> list[str]:
    """Every network this machine routes to and every subnet Docker has given away."""
    ids = docker("network", "ls", "-q").split()
    subnets = (
        docker("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", *ids).split()
        if ids
        else []
    )
    return subnets + routed_networks(Path("/proc/net/route").read_text())


def ensure_network(settings: Settings, wanted: str | None) -> str:
    """Creates the network unless it is there and returns its subnet; `wanted` is the one it had before."""
    present = network_subnet(settings)
    if present:
        return present
    subnet = os.environ.get("LAB_SUBNET") or wanted or free_subnet(taken_networks())
    gateway = str(ipaddress.ip_network(subnet)[1])
    docker(
        "network", "create", "--internal", "--label", settings.label,
        "--subnet", subnet, "--gateway", gateway, settings.network,
    )  # fmt: skip
    return subnet


def remove_network(settings: Settings) -> None:
    run(["docker", "network", "rm", settings.network], check=False)
