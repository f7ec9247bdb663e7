"""The host's baseline: files, packages, units, read by the tools they are for where those are here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from understudy import baseline
from understudy.errors import Refused
from understudy.settings import HostSettings, Parts
from understudy.tree import Entry

OFF = {name: False for name in Parts.model_fields}


def host(*parts: str, **values: object) -> HostSettings:
    """A host with only the named parts on."""
    chosen = Parts.model_validate({**OFF, **{part: True for part in parts}})
    return HostSettings.model_validate(
        {"name": "lemongrab", "domain": "example.org", "parts": chosen, **values}
    )


def files(settings: HostSettings, **inputs: object) -> dict[str, Entry]:
    return {entry.path: entry for entry in baseline.entries(settings, **inputs)}  # type: ignore[arg-type]


def text(settings: HostSettings, path: str, **inputs: object) -> str:
    return files(settings, **inputs)[path].content.decode()


# ---- daemon.json -------------------------------------------------------------------------------

OURS = baseline.docker_keys(host("docker"))


def test_daemon_json_is_written_where_there_is_none() -> None:
    assert json.loads(baseline.merge_daemon_json(None, OURS)) == {
        "live-restore": True,
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
    }


def test_foreign_keys_of_daemon_json_stay() -> None:
    live = (
        b'{"data-root": "/home/docker-data", "live-restore": false,'
        b' "log-opts": {"max-size": "1m", "labels": "x"}}'
    )
    assert json.loads(baseline.merge_daemon_json(live, OURS)) == {
        "data-root": "/home/docker-data",
        "log-opts": {"max-size": "10m", "labels": "x", "max-file": "3"},
        "live-restore": True,
        "log-driver": "json-file",
    }


def test_options_of_another_log_driver_go_with_it() -> None:
    live = b'{"log-driver": "gelf", "log-opts": {"gelf-address": "udp://192.0.2.1:1"}}'
    assert json.loads(baseline.merge_daemon_json(live, OURS))["log-opts"] == OURS["log-opts"]


def test_a_daemon_json_that_says_the_same_is_kept_byte_for_byte() -> None:
    live = (
        b'{"log-opts":{"max-file":"3","max-size":"10m"},"log-driver":"json-file",\n'
        b' "live-restore":true, "bip":"10.9.0.1/24"}'
    )
    assert baseline.merge_daemon_json(live, OURS) == live
    merged = baseline.merge_daemon_json(b'{"bip": "10.9.0.1/24"}', OURS)
    assert baseline.merge_daemon_json(merged, OURS) == merged


@pytest.mark.parametrize(
    ("live", "sentence"),
    [
        (b'{"live-restore": true,}', r"/etc/docker/daemon.json is not valid JSON \(line 1, column 23"),
        (b"[]", "/etc/docker/daemon.json holds a list"),
        (b"\x22\xff\x22", "/etc/docker/daemon.json is not UTF-8"),
    ],
)
def test_a_broken_daemon_json_is_named(live: bytes, sentence: str) -> None:
    with pytest.raises(baseline.DaemonJsonError, match=sentence):
        baseline.merge_daemon_json(live, OURS)


def test_docker_without_its_rules_is_refused() -> None:
    with pytest.raises(Refused, match='"iptables": false'):
        baseline.merge_daemon_json(b'{"iptables": false}', OURS)


def test_an_empty_daemon_json_counts_as_none() -> None:
    assert baseline.merge_daemon_json(b" \n", OURS) == baseline.merge_daemon_json(None, OURS)


# ---- files -------------------------------------------------------------------------------------


def test_a_host_without_parts_gets_our_own_directories_only() -> None:
    found = files(host())
    assert {path: (entry.kind, entry.mode) for path, entry in found.items()} == {
        "/etc/understudy": ("dir", 0o755),
        "/etc/understudy/secrets": ("dir", 0o700),
        "/var/lib/understudy": ("dir", 0o700),
        "/usr/lib/understudy": ("dir", 0o755),
        "/etc/tmpfiles.d/understudy.conf": ("file", 0o644),
    }


@pytest.mark.parametrize(
    ("part", "path", "reaction"),
    [
        ("docker", "/etc/docker/daemon.json", "docker"),
        ("system", "/etc/sysctl.d/99-understudy.conf", "sysctl"),
        ("system", "/etc/systemd/journald.conf.d/60-understudy.conf", "journald"),
        ("ssh_hardening", "/etc/ssh/sshd_config.d/10-understudy.conf", "sshd"),
        ("updates", "/etc/apt/apt.conf.d/52understudy", "apt"),
        ("firewall", "/etc/understudy/firewall.nft", "nftables"),
    ],
)
def test_each_part_is_a_switch(part: str, path: str, reaction: str) -> None:
    assert files(host(part))[path].reaction == reaction
    others = [name for name in OFF if name != part]
    assert path not in files(host(*others))


def test_the_agent_brings_the_unit_that_finishes_its_work() -> None:
    found = files(host(), agent=b"zipapp")
    assert (found[baseline.AGENT].mode, found[baseline.AGENT].content) == (0o755, b"zipapp")
    unit = found["/etc/systemd/system/understudy-recover.service"].content.decode()
    assert f"{baseline.AGENT} recover\n" in unit
    assert "Before=docker.service\n" in unit


def test_kernel_settings_hold_one_value_and_miss_none_in_a_container() -> None:
    lines = text(
        host("system", sysctl={"vm.swappiness": "1"}), "/etc/sysctl.d/99-understudy.conf"
    ).splitlines()
    settings = [line for line in lines if not line.startswith("#")]
    assert all(line.startswith("-") for line in settings), (
        "without the dash a missing key fails the whole file"
    )
    values = dict(line[1:].split(" = ") for line in settings)
    assert int(values["net.core.rmem_max"]) >= 7_500_000
    assert values["net.core.rmem_max"] == values["net.core.wmem_max"]
    assert values["vm.swappiness"] == "1"


def test_root_keeps_its_key_login_when_we_connect_as_root() -> None:
    path = baseline.SSHD_DROP_IN
    assert "PermitRootLogin prohibit-password\n" in text(host("ssh_hardening"), path)
    assert "PermitRootLogin no\n" in text(host("ssh_hardening", ssh_user="owner"), path)


def test_fail2ban_is_off_unless_asked() -> None:
    path = "/etc/fail2ban/jail.d/60-understudy.conf"
    assert path not in files(host(*OFF))
    jail = text(host(fail2ban=True, ssh_ports=[22, 222], lan_networks=["192.168.1.0/24"]), path)
    assert "port = 22,222\n" in jail
    assert "ignoreip = 127.0.0.0/8 ::1 192.168.1.0/24\n" in jail
    assert "backend = systemd\n" in jail


def test_updates_do_not_reboot_unless_asked() -> None:
    path = "/etc/apt/apt.conf.d/52understudy"
    assert 'Automatic-Reboot "false"' in text(host("updates"), path)
    assert 'Automatic-Reboot "true"' in text(host("updates", automatic_reboot=True), path)


def test_ubuntu_has_its_own_origins_and_restarts_no_engine() -> None:
    found = files(host("updates"), os_id="ubuntu")
    assert (
        "origin=Ubuntu,archive=${distro_codename}-security"
        in found["/etc/apt/apt.conf.d/52understudy"].content.decode()
    )
    assert "qr(^docker)} = 0;" in found["/etc/needrestart/conf.d/60-understudy.conf"].content.decode()
    assert "/etc/needrestart/conf.d/60-understudy.conf" not in files(host("updates"))


def test_rendering_twice_gives_the_same() -> None:
    everything = host(*OFF, fail2ban=True)
    assert baseline.entries(everything, agent=b"x") == baseline.entries(everything, agent=b"x")
    assert len(baseline.tree(everything, agent=b"x")) == len(baseline.entries(everything, agent=b"x"))


# ---- the programs that will read them ----------------------------------------------------------


def program(name: str) -> str:
    found = shutil.which(name, path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/sbin:/bin")
    return found or pytest.skip(f"{name} is not on this machine")


def test_apt_reads_the_origins(tmp_path: Path) -> None:
    config = tmp_path / "52understudy"
    before = 'Unattended-Upgrade::Origins-Pattern { "origin=everything"; };\n'
    config.write_text(before + text(host("updates"), "/etc/apt/apt.conf.d/52understudy"))
    dump = subprocess.run(
        [program("apt-config"), "-c", str(config), "dump"], capture_output=True, text=True, check=True
    ).stdout
    origins = [line for line in dump.splitlines() if line.startswith("Unattended-Upgrade::Origins-Pattern::")]
    security = "origin=Debian,codename=${distro_codename}-security,label=Debian-Security"
    assert origins == [f'Unattended-Upgrade::Origins-Pattern:: "{security}";']
    assert 'APT::Periodic::Unattended-Upgrade "1";' in dump
    assert [
        f'Unattended-Upgrade::Package-Blacklist:: "{name}";' in dump
        for name in ("docker", "containerd", "runc")
    ] == [True] * 3


def test_sshd_reads_the_drop_in_as_meant(tmp_path: Path) -> None:
    sshd = program("sshd")
    key = tmp_path / "key"
    subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    settings = host("ssh_hardening", ssh_ports=[2222])
    (tmp_path / "drop-in").write_text(text(settings, baseline.SSHD_DROP_IN))
    (tmp_path / "sshd_config").write_text(
        f"Include {tmp_path}/drop-in\nHostKey {key}\nPort 2222\n"
        "PasswordAuthentication yes\nPermitRootLogin yes\n"
    )
    argv = [sshd, "-T", "-f", str(tmp_path / "sshd_config")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if "rivilege separation" in done.stderr:
        pytest.skip("sshd -T needs the user and folder of an installed server")
    assert done.returncode == 0, done.stderr
    assert baseline.sshd_problems(done.stdout, settings) == []


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    found = files(host("firewall"), agent=b"x")
    for name in ("understudy-recover.service", "understudy-firewall.service"):
        unit = tmp_path / name
        content = found[f"/etc/systemd/system/{name}"].content.decode()
        for absent in (baseline.AGENT, "/usr/sbin/nft"):
            content = content.replace(f"={absent} ", "=/bin/true ")
        unit.write_text(content)
        argv = [analyze, "verify", "--man=no", "--recursive-errors=no", str(unit)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, [line for line in done.stderr.splitlines() if name in line]) == (0, [])


# ---- sshd as it runs ---------------------------------------------------------------------------


EFFECTIVE = """port 22
passwordauthentication no
kbdinteractiveauthentication no
permitrootlogin without-password
x11forwarding no
"""


def test_a_drop_in_that_nobody_includes_is_noticed() -> None:
    effective = EFFECTIVE.replace("passwordauthentication no", "passwordauthentication yes")
    (problem,) = baseline.sshd_problems(effective, host("ssh_hardening"))
    assert "passwordauthentication yes instead of no" in problem
    assert "sshd_config.d" in problem


def test_ssh_ports_must_be_those_sshd_listens_on() -> None:
    assert baseline.sshd_problems(EFFECTIVE, host("ssh_hardening")) == []
    (problem,) = baseline.sshd_problems(EFFECTIVE, host("ssh_hardening", ssh_ports=[22, 2222]))
    assert "does not listen on port 2222" in problem


def test_nobody_is_locked_out() -> None:
    settings = host("ssh_hardening", ssh_user="owner")
    assert baseline.connection_faults(settings, password=False, key_present=True) == []
    for password, key in ((True, True), (False, False)):
        (fault,) = baseline.connection_faults(settings, password=password, key_present=key)
        assert "ssh-copy-id owner@lemongrab" in fault
