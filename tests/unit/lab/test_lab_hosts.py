"""How hosts are made: their command line, identity, addresses and pinned keys."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from lab import hosts, ssh, staging
from lab.facts import Facts, HostFacts, place_host, read_facts, write_facts
from lab.settings import Settings, find_settings
from lab.shell import LabError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, state=tmp_path / ".lab")


@pytest.fixture
def facts(settings: Settings) -> Facts:
    staged = Facts(settings.project, "10.9.8.0/24")
    for name in ("lemongrab", "standby"):
        place_host(settings, staged, name)
    return staged


def values(command: list[str], option: str) -> list[str]:
    return [command[i + 1] for i, word in enumerate(command) if word == option]


def test_container_has_its_own_address_disk_and_cgroups(settings: Settings, facts: Facts) -> None:
    command = hosts.create_command(settings, "lemongrab", facts.hosts["lemongrab"], facts.gateway, "image:1")
    assert command[-2:] == ["image:1", "/usr/lib/lab-init"]
    assert values(command, "--ip") == ["10.9.8.10"]
    assert values(command, "--network") == [settings.network]
    assert values(command, "--volume") == [f"{settings.project}-lemongrab-docker:/var/lib/docker"]
    assert values(command, "--cgroupns") == ["private"]
    assert values(command, "--label") == [f"understudy.lab={settings.project}"]
    assert "LAB_GATEWAY=10.9.8.1" in values(command, "--env")


def test_container_names_its_capabilities_and_publishes_nothing(settings: Settings, facts: Facts) -> None:
    command = hosts.create_command(settings, "standby", facts.hosts["standby"], facts.gateway, "image:1")
    assert "--privileged" not in command
    assert {"SYS_ADMIN", "NET_ADMIN"} <= set(values(command, "--cap-add"))
    assert "systempaths=unconfined" in values(command, "--security-opt")
    assert not {"-p", "--publish", "-P", "--publish-all", "--device"} & set(command)


def test_identity_is_private_where_it_must_be(settings: Settings) -> None:
    ssh.make_key(settings.key, "lab")
    hosts.renew_host_key(settings, "lemongrab")
    with tarfile.open(fileobj=io.BytesIO(hosts.identity_archive(settings, "lemongrab"))) as archive:
        modes = {member.name: (member.mode, member.uid) for member in archive}
        key = archive.extractfile("etc/ssh/ssh_host_ed25519_key")
        assert key is not None
        assert key.read() == hosts.host_key(settings, "lemongrab").read_bytes()
    assert modes == {
        "etc/ssh/ssh_host_ed25519_key": (0o600, 0),
        "etc/ssh/ssh_host_ed25519_key.pub": (0o644, 0),
        "root/.ssh/authorized_keys": (0o600, 0),
    }


def test_a_new_machine_has_a_new_host_key(settings: Settings) -> None:
    hosts.renew_host_key(settings, "standby")
    before = hosts.host_key(settings, "standby").with_suffix(".pub").read_text()
    hosts.renew_host_key(settings, "standby")
    assert hosts.host_key(settings, "standby").with_suffix(".pub").read_text() != before


def test_the_lab_key_is_kept(settings: Settings) -> None:
    ssh.make_key(settings.key, "lab")
    before = settings.key.read_bytes()
    ssh.make_key(settings.key, "lab")
    assert settings.key.read_bytes() == before
    assert settings.key.stat().st_mode & 0o077 == 0


def test_known_hosts_pins_exactly_the_staged_hosts(settings: Settings, facts: Facts) -> None:
    hosts.renew_host_key(settings, "lemongrab")
    staging.pin_all(settings, facts)
    kind, key = hosts.host_key(settings, "lemongrab").with_suffix(".pub").read_text().split()[:2]
    assert settings.known_hosts.read_text() == f"10.9.8.10 {kind} {key}\n"


def test_known_hosts_line_drops_the_comment() -> None:
    assert ssh.known_hosts_line("10.0.0.1", "ssh-ed25519 AAAA root@host\n") == "10.0.0.1 ssh-ed25519 AAAA"


def test_ssh_uses_only_the_labs_own_key_and_pins(settings: Settings) -> None:
    command = ssh.ssh_command(settings, "10.9.8.10")
    assert "StrictHostKeyChecking=yes" in command
    assert f"UserKnownHostsFile={settings.known_hosts}" in command
    assert "IdentitiesOnly=yes" in command
    assert command[1:3] == ["-F", "none"]
    assert command[-1] == "root@10.9.8.10"


def test_addresses_stay_when_hosts_are_added(settings: Settings, facts: Facts) -> None:
    place_host(settings, facts, "third")
    assert {name: host.ip for name, host in facts.hosts.items()} == {
        "lemongrab": "10.9.8.10",
        "standby": "10.9.8.11",
        "third": "10.9.8.12",
    }
    assert [host.role for host in facts.hosts.values()] == ["primary", "replica", "replica"]
    assert place_host(settings, facts, "standby").ip == "10.9.8.11"


def test_facts_survive_writing_and_reading(settings: Settings, facts: Facts) -> None:
    write_facts(settings, facts)
    assert read_facts(settings) == facts
    assert not settings.facts.with_name("lab.json.new").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"project": "p", "subnet": "s", "hosts": {"a": {"ip": "x"}}}']
)
def test_unreadable_facts_are_no_facts(settings: Settings, text: str) -> None:
    settings.state.mkdir()
    settings.facts.write_text(text)
    assert read_facts(settings) is None


def test_an_unknown_host_is_refused_by_name(settings: Settings, facts: Facts) -> None:
    with pytest.raises(LabError, match="lab up"):
        staging.find_host(settings, "lemongrab")
    write_facts(settings, facts)
    with pytest.raises(LabError, match="no host venus: it has lemongrab, standby"):
        staging.find_host(settings, "venus")
    assert isinstance(staging.find_host(settings, "standby")[1], HostFacts)


def test_only_one_command_changes_a_lab(settings: Settings) -> None:
    with staging.locked(settings), pytest.raises(LabError, match="another command"), staging.locked(settings):
        pass
    with staging.locked(settings):
        pass


def test_two_clones_do_not_share_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_LAB", str(tmp_path / "a"))
    first = find_settings()
    monkeypatch.setenv("UNDERSTUDY_LAB", str(tmp_path / "b"))
    second = find_settings()
    assert first.state == tmp_path / "a"
    assert first.project != second.project
    assert first.container("lemongrab") != second.container("lemongrab")
