"""Packages and units by part and by system."""

from __future__ import annotations

import pytest

from understudy import baseline
from understudy.settings import HostSettings, Parts

OFF = {name: False for name in Parts.model_fields}


def host(*parts: str, **values: object) -> HostSettings:
    """A host with only the named parts on."""
    chosen = Parts.model_validate({**OFF, **{part: True for part in parts}})
    return HostSettings.model_validate(
        {"name": "lemongrab", "domain": "example.org", "parts": chosen, **values}
    )


TRIXIE = {"id": "debian", "version_id": "13"}


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (TRIXIE, ["docker-cli", "docker-compose", "docker.io"]),
        ({"id": "ubuntu", "version_id": "24.04"}, ["docker-compose-v2", "docker.io"]),
        ({"id": "ubuntu", "version_id": "22.04"}, ["docker-compose-v2", "docker.io"]),
    ],
)
def test_docker_packages_by_system(system: dict[str, str], expected: list[str]) -> None:
    assert [name for name in baseline.packages(host("docker"), system) if "docker" in name] == expected


def test_debian_12_needs_docker_from_elsewhere() -> None:
    bookworm = {"id": "debian", "version_id": "12"}
    with pytest.raises(baseline.PlatformError, match="Debian 12 has no package of Docker Compose v2"):
        baseline.packages(host("docker"), bookworm)
    assert "docker.io" not in baseline.packages(host("docker"), bookworm, has_docker=True, has_compose=True)
    assert "nftables" in baseline.packages(host("firewall"), bookworm), "the other parts work there"


def test_dockers_own_packages_are_not_mixed_with_the_distributions() -> None:
    installed = {"docker-ce", "containerd.io"}
    names = baseline.packages(host("docker"), TRIXIE, installed=installed, has_docker=True)
    assert [name for name in names if "docker" in name] == ["docker-compose-plugin"]


@pytest.mark.parametrize(
    "system", [{"id": "fedora", "version_id": "42"}, {"id": "debian", "version_id": "11"}, {}]
)
def test_other_systems_are_refused_with_what_works(system: dict[str, str]) -> None:
    with pytest.raises(
        baseline.PlatformError, match=r"not supported: use one of Debian 13, Debian 12, Ubuntu 24\.04"
    ):
        baseline.packages(host(), system)


def test_the_owners_clock_service_stays() -> None:
    assert "systemd-timesyncd" in baseline.packages(host("system"), TRIXIE)
    assert "systemd-timesyncd" not in baseline.packages(host("system"), TRIXIE, installed={"chrony"})
    assert [unit.name for unit in baseline.units(host("system"), installed={"chrony"})] == []


def test_a_survey_asks_about_every_package_that_could_matter() -> None:
    settings = host(*OFF, fail2ban=True)
    asked = set(baseline.candidates(settings))
    for system in (TRIXIE, {"id": "ubuntu", "version_id": "24.04"}, {"id": "ubuntu", "version_id": "22.04"}):
        assert set(baseline.packages(settings, system)) <= asked
    assert {"chrony", "docker-ce"} <= asked


def test_units_by_part() -> None:
    found = baseline.units(host("docker", "system", "updates"), agent=True)
    assert {unit.name: (unit.running, unit.may_be_skipped) for unit in found} == {
        "understudy-recover.service": (False, False),
        "docker.service": (True, False),
        "systemd-timesyncd.service": (True, True),
        "apt-daily.timer": (True, False),
        "apt-daily-upgrade.timer": (True, False),
    }
    assert "understudy-firewall.service" not in [unit.name for unit in baseline.units(host(*OFF))]


def test_every_validator_reads_a_file_of_the_tree() -> None:
    settings = host(*OFF)
    tree = baseline.tree(settings, agent=b"x")
    found = baseline.validators(settings, agent=True)
    assert [validator.name for validator in found] == [
        "dockerd --validate",
        "sshd -t",
        "apt-config",
        "nft --check",
        "systemd-analyze verify (understudy-firewall.service)",
        "systemd-analyze verify (understudy-recover.service)",
    ]
    for validator in found:
        assert all(path in tree.entries for path in validator.needs)
        assert all(f"{{stage}}{path}" in " ".join(validator.argv) for path in validator.needs)
