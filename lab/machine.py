"""What the machine under the lab allows."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from lab.shell import LabError

CANDIDATES = [
    ipaddress.ip_network(f"10.{second}.77.0/24") for second in (213, 214, 87, 93, 94, 95, 96, 97)
] + [ipaddress.ip_network(f"172.{second}.77.0/24") for second in (29, 30, 31)]


def cgroup_layout(mounts: str) -> str:
    """Names the cgroup layout that /proc/mounts (`mounts`) shows: unified, hybrid, legacy or none."""
    rows = [line.split() for line in mounts.splitlines()]
    kinds = {row[1]: row[2] for row in rows if len(row) > 2 and row[2] in ("cgroup", "cgroup2")}
    if kinds.get("/sys/fs/cgroup") == "cgroup2":
        return "unified"
    if "cgroup2" in kinds.values():
        return "hybrid"
    return "legacy" if kinds else "none"


def knows_cgroup2(filesystems: str) -> bool:
    """Whether the kernel whose /proc/filesystems is given can mount cgroup v2."""
    return any(line.split()[-1] == "cgroup2" for line in filesystems.splitlines() if line.strip())


def require_cgroup2() -> str:
    """The cgroup layout of this machine; LabError when systemd could not run in a container at all."""
    if not knows_cgroup2(Path("/proc/filesystems").read_text()):
        raise LabError(
            "this kernel has no cgroup v2, which the systemd of a lab host needs: use Linux 4.5 or newer"
        )
    return cgroup_layout(Path("/proc/mounts").read_text())


def free_subnet(taken: Iterable[str]) -> str:
    """The first candidate network that overlaps none of `taken` (CIDR texts; others are ignored)."""
    used = [ipaddress.ip_network(text, strict=False) for text in taken if _is_network(text)]
    for candidate in CANDIDATES:
        if not any(candidate.version == other.version and candidate.overlaps(other) for other in used):
            return str(candidate)
    raise LabError(
        "no private network is free for the lab: set LAB_SUBNET to a free one, such as 10.99.77.0/24"
    )


def _is_network(text: str) -> bool:
    try:
        return ipaddress.ip_network(text, strict=False).prefixlen > 0
    except ValueError:
        return False


def routed_networks(table: str) -> list[str]:
    """The destinations in the text of /proc/net/route, as CIDR."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7:
            address, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
            found.append(f"{ipaddress.ip_address(address)}/{mask.bit_count()}")
    return found
