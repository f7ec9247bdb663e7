"""What the lab reads off the machine under it."""

from __future__ import annotations

import ipaddress

import pytest

from lab.machine import CANDIDATES, cgroup_layout, free_subnet, knows_cgroup2, routed_networks
from lab.settings import CLOUD_CREDENTIALS, refuse_cloud_credentials
from lab.shell import LabError, run
from understudy.errors import Refused

UNIFIED = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0\n"
V1 = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
HYBRID = V1 + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "layout"),
    [(UNIFIED, "unified"), (HYBRID, "hybrid"), (V1, "legacy"), ("proc /proc proc rw 0 0\n", "none")],
)
def test_layout_is_read_from_the_mounts(mounts: str, layout: str) -> None:
    assert cgroup_layout(mounts) == layout


def test_kernel_support_is_read_from_the_file_systems() -> None:
    assert knows_cgroup2("nodev\tsysfs\nnodev\tcgroup2\n\text4\n")
    assert not knows_cgroup2("nodev\tsysfs\nnodev\tcgroup\n\text4\n")


def test_free_subnet_avoids_networks_that_overlap() -> None:
    first = CANDIDATES[0]
    assert free_subnet([]) == str(first)
    assert free_subnet([str(first.supernet(new_prefix=16))]) == str(CANDIDATES[1])
    assert free_subnet([str(next(first.subnets(new_prefix=28)))]) == str(CANDIDATES[1])


def test_free_subnet_ignores_the_default_route_and_other_families() -> None:
    assert free_subnet(["0.0.0.0/0", "fd00::/8", "not a network"]) == str(CANDIDATES[0])


def test_free_subnet_says_how_to_choose_one() -> None:
    with pytest.raises(LabError, match="LAB_SUBNET"):
        free_subnet(["10.0.0.0/8", "172.16.0.0/12"])


def test_routes_are_decoded_from_little_endian_hex() -> None:
    table = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    assert routed_networks(table) == ["0.0.0.0/0", "172.17.0.0/16"]
    assert ipaddress.ip_network("172.17.0.0/16")


@pytest.mark.parametrize("name", [*CLOUD_CREDENTIALS, "CF_ACCOUNT_ID"])
def test_a_cloud_credential_stops_the_lab(name: str) -> None:
    with pytest.raises(Refused, match=name) as caught:
        refuse_cloud_credentials({name: "a value that must not be shown", "PATH": "/bin"})
    assert "must not be shown" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_an_empty_credential_is_none() -> None:
    refuse_cloud_credentials({"HCLOUD_TOKEN": "", "CF_API_TOKEN": "", "PATH": "/bin"})


def test_a_failed_program_says_its_last_line() -> None:
    with pytest.raises(LabError, match=r"second$"):
        run(["sh", "-c", "echo first >&2; echo second >&2; exit 3"])
    assert run(["sh", "-c", "exit 3"], check=False).returncode == 3


def test_a_missing_and_a_slow_program_are_named() -> None:
    with pytest.raises(LabError, match="no-such-program is not installed"):
        run(["no-such-program"])
    with pytest.raises(LabError, match="did not finish within 0 s"):
        run(["sleep", "5"], timeout=0.05)
