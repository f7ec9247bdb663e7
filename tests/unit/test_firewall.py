"""The ruleset as text, and in real network namespaces: what comes in, and the way back."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from understudy.errors import BadInput
from understudy.firewall import (
    CONFIRMED,
    RULESET,
    TABLE,
    FirewallModel,
    Flow,
    Port,
    applied_command,
    arm_and_load_command,
    disarm_command,
    entries,
    remove_command,
    rollback_command,
    ruleset,
    validate_command,
)


def test_only_ssh_is_open_by_default() -> None:
    rules = [line.strip() for line in ruleset(FirewallModel()).splitlines() if "dport" in line]
    assert rules == [
        'ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept comment "DHCPv6"',
        'tcp dport { 22 } accept comment "ssh"',
    ]


def test_only_our_own_table_is_named() -> None:
    text = ruleset(FirewallModel(lan=(Port(8096),), flows=(Flow(Port(5432), "x"),)))
    assert "flush" not in text
    assert [line for line in text.splitlines() if "table " in line and not line.startswith("#")] == [
        TABLE,
        f"delete {TABLE}",
        f"{TABLE} {{",
    ]


def test_ports_are_sorted_and_given_once() -> None:
    text = ruleset(FirewallModel(ssh_ports=(222, 22, 222), lan=(Port(9000), Port(8096), Port(7359, "udp"))))
    assert "tcp dport { 22, 222 } accept" in text
    assert "ip saddr @lan4 tcp dport { 8096, 9000 } accept" in text
    assert "ip6 saddr @lan6 udp dport { 7359 } accept" in text


def test_overlapping_networks_are_joined() -> None:
    text = ruleset(FirewallModel(lan_networks=("192.168.1.0/24", "192.168.0.0/16", "fd00::/8")))
    assert "elements = { 192.168.0.0/16 }" in text
    assert "elements = { fd00::/8 }" in text


def test_a_flow_is_narrowed_to_its_network() -> None:
    flow = Flow(
        Port(5432), 'miniflux "db"; drop', interface="br-0123456789ab", sources=("172.20.0.0/16", "fd01::/64")
    )
    text = ruleset(FirewallModel(flows=(flow,)))
    assert (
        'iifname "br-0123456789ab" ip saddr 172.20.0.0/16 tcp dport 5432 accept comment "miniflux db drop"'
        in text
    )
    assert 'iifname "br-0123456789ab" ip6 saddr fd01::/64 tcp dport 5432 accept' in text


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (FirewallModel(ssh_ports=()), "no SSH port"),
        (FirewallModel(lan=(Port(70000),)), "70000 in the firewall is not a port"),
        (FirewallModel(trusted=('wg0" accept',)), "not the name of a network interface"),
        (
            FirewallModel(flows=(Flow(Port(1), "x", sources=("home",)),)),
            "'home' in the firewall is not a network",
        ),
    ],
)
def test_a_model_that_cannot_work_is_refused(model: FirewallModel, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        ruleset(model)


def test_entries_react_through_the_proven_load_only() -> None:
    rules, unit = entries(FirewallModel())
    assert (rules.path, rules.mode, rules.reaction) == (RULESET, 0o600, "nftables")
    assert (unit.path, unit.reaction) == ("/etc/systemd/system/understudy-firewall.service", "")
    assert f"ExecStart=/usr/sbin/nft -f {CONFIRMED}" in unit.content.decode()
    assert "Before=network-pre.target network-online.target docker.service" in unit.content.decode()


def test_commands() -> None:
    assert validate_command() == "/usr/sbin/nft --check --file /etc/understudy/firewall.nft"
    assert arm_and_load_command() == textwrap.dedent(
        """\
        set -eu; umask 077
        mkdir -p /run/understudy
        cp /etc/understudy/firewall.nft /run/understudy/firewall.candidate.nft
        /usr/sbin/nft --check --file /run/understudy/firewall.candidate.nft
        if systemctl --quiet is-active understudy-firewall-rollback.timer; then
          /usr/sbin/nft --file /run/understudy/firewall.rollback.nft
        else
          { echo 'table inet understudy'; echo 'delete table inet understudy'; \
/usr/sbin/nft -s list table inet understudy 2>/dev/null || true; } > /run/understudy/firewall.rollback.nft.new
          /usr/sbin/nft --check --file /run/understudy/firewall.rollback.nft.new
          mv /run/understudy/firewall.rollback.nft.new /run/understudy/firewall.rollback.nft
        fi
        systemctl stop understudy-firewall-rollback.timer understudy-firewall-rollback.service 2>/dev/null || true
        systemd-run --quiet --collect --unit=understudy-firewall-rollback --on-active=60 --timer-property=AccuracySec=1s \\
          /usr/sbin/nft --file /run/understudy/firewall.rollback.nft
        /usr/sbin/nft --file /run/understudy/firewall.candidate.nft || \
{ systemctl stop understudy-firewall-rollback.timer; exit 1; }
        /usr/sbin/nft -s list table inet understudy | sha256sum > /run/understudy/firewall.loaded
        """
    )
    assert disarm_command() == textwrap.dedent(
        """\
        set -eu; umask 077
        systemctl stop understudy-firewall-rollback.timer understudy-firewall-rollback.service 2>/dev/null || true
        if [ "$(/usr/sbin/nft -s list table inet understudy | sha256sum)" != \
"$(cat /run/understudy/firewall.loaded)" ]; then
          echo "the firewall went back to its former rules before the new ones were confirmed" >&2; exit 1
        fi
        cp /run/understudy/firewall.loaded /var/lib/understudy/firewall.loaded
        cp /run/understudy/firewall.candidate.nft /var/lib/understudy/firewall.nft.new; \
sync /var/lib/understudy/firewall.nft.new; mv /var/lib/understudy/firewall.nft.new /var/lib/understudy/firewall.nft
        systemctl daemon-reload
        systemctl --quiet enable --now understudy-firewall.service
        rm -f /run/understudy/firewall.rollback.nft /run/understudy/firewall.candidate.nft \
/run/understudy/firewall.loaded
        """
    )


# ---- real nftables in network namespaces -------------------------------------------------------

REAL = "needs root, ip netns and nft to build network namespaces"
NFT = "/usr/sbin/nft"

# Stand-ins for the two systemd programs in a namespace without systemd: the timer really waits and really runs.
SYSTEMD_RUN = """#!/bin/sh
for argument; do
  case $argument in --on-active=*) seconds=${argument#*=};; --*) ;; *) break;; esac
  shift
done
( trap 'kill $! 2>/dev/null; exit' TERM; sleep "$seconds" & wait $!; rm -f "$STATE/timer"; exec "$@" ) >/dev/null 2>&1 </dev/null &
echo $! > "$STATE/timer"
"""
SYSTEMCTL = """#!/bin/sh
case " $* " in
  *" is-active "*) [ -f "$STATE/timer" ];;
  *" stop "*) [ -f "$STATE/timer" ] && kill "$(cat "$STATE/timer")"; rm -f "$STATE/timer";;
  *) echo "$*" >> "$STATE/systemctl.log";;
esac
"""


class World:
    """A host with SSH and two more listeners, a neighbour on its LAN, and a container behind a bridge."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tag = f"us{os.getpid() % 100000}"
        self.host, self.lan, self.box = (f"{self.tag}{end}" for end in "hlc")
        self.listeners: list[subprocess.Popen[bytes]] = []

    def build(self) -> None:
        for name in (self.host, self.lan, self.box):
            _run("ip", "netns", "add", name)
            self.at(name, "ip link set lo up")
        self.at(self.host, f"ip link add eth0 type veth peer name eth0 netns {self.lan}")
        self.at(
            self.host,
            f"ip link add br-0 type bridge; ip link add v0 type veth peer name eth0 netns {self.box}",
        )
        self.at(
            self.host,
            "ip addr add 192.168.77.1/24 dev eth0; ip addr add 172.30.0.1/24 dev br-0; ip link set v0 master br-0",
        )
        self.at(
            self.host,
            "for i in eth0 br-0 v0; do ip link set $i up; done; echo 1 > /proc/sys/net/ipv4/ip_forward",
        )
        self.at(
            self.lan,
            "ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up; ip route add default via 192.168.77.1",
        )
        self.at(
            self.box,
            "ip addr add 172.30.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 172.30.0.1",
        )
        # What Docker does for `ports: [8097:80, 8098:80]`.
        self.nft("add table ip docker; add chain ip docker pre { type nat hook prerouting priority -100; }")
        for port in (8097, 8098):
            self.nft(f"add rule ip docker pre fib daddr type local tcp dport {port} dnat to 172.30.0.2:80")
        for namespace, ports in ((self.host, (22, 5432, 8096, 9000)), (self.box, (80, 8097)), (self.lan, (7000,))):
            for port in ports:
                self._listen(namespace, port)

    def _listen(self, namespace: str, port: int) -> None:
        script = (
            f"import socket,time; s=socket.create_server(('',{port})); print(1,flush=True); time.sleep(300)"
        )
        argv = ["ip", "netns", "exec", namespace, "python3", "-c", script]
        listener = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert listener.stdout and listener.stdout.readline()
        self.listeners.append(listener)

    def close(self) -> None:
        for listener in self.listeners:
            listener.kill()
            listener.wait()
            if listener.stdout:
                listener.stdout.close()
        for name in (self.host, self.lan, self.box):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def at(self, namespace: str, script: str) -> str:
        environment = {
            **os.environ,
            "PATH": f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "STATE": str(self.folder),
        }
        argv = ["ip", "netns", "exec", namespace, "sh", "-c", script]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise RuntimeError(f"{script}: {done.stderr}")
        return done.stdout

    def nft(self, text: str) -> str:
        return self.at(self.host, f"{NFT} '{text}'")

    def load(self, model: FirewallModel) -> None:
        (self.folder / "rules.nft").write_text(ruleset(model))
        self.at(self.host, f"{NFT} -f {self.folder}/rules.nft")

    def run(self, command: str) -> str:
        """One of our commands with its two state folders moved below the test's own."""
        for place in ("/run/understudy", "/var/lib/understudy", "/etc/understudy"):
            command = command.replace(place, f"{self.folder}{place}")
        return self.at(self.host, command)

    def connects(self, namespace: str, address: str, port: int) -> bool:
        script = f"import socket; socket.create_connection(('{address}',{port}),0.7)"
        argv = ["ip", "netns", "exec", namespace, "python3", "-c", script]
        return subprocess.run(argv, check=False, capture_output=True).returncode == 0

    def table(self) -> str:
        return self.at(self.host, f"{NFT} -s list {TABLE} 2>/dev/null || true")


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def _available() -> bool:
    if os.geteuid() or not shutil.which("ip", path="/usr/sbin:/usr/bin:/sbin") or not Path(NFT).exists():
        return False
    tried = subprocess.run(["unshare", "-n", NFT, "add table inet t"], check=False, capture_output=True)
    return tried.returncode == 0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The namespaces, built once: making and removing them takes seconds."""
    if not _available():
        pytest.skip(REAL)
    world = World(tmp_path_factory.mktemp("firewall"))
    for name, text in (("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL)):
        program = world.folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    try:
        world.build()
        yield world
    finally:
        world.close()


@pytest.fixture
def world(built: World) -> Iterator[World]:
    """The world without a table of ours and without state of an earlier test."""
    places = [built.folder / place / "understudy" for place in ("etc", "var/lib", "run")]
    for place in places:
        place.mkdir(parents=True)
    yield built
    built.at(built.host, f"systemctl stop all; {NFT} delete {TABLE} 2>/dev/null || true")
    for place in places:
        shutil.rmtree(place)
    (built.folder / "systemctl.log").unlink(missing_ok=True)


def test_every_rule_is_one_that_nft_takes(world: World) -> None:
    model = FirewallModel(
        ssh_ports=(22, 222),
        lan=(Port(8096), Port(7359, "udp")),
        public=(Port(443), Port(51820, "udp")),
        flows=(Flow(Port(5432), "x", "br-0", ("172.30.0.0/24", "fd00::/64")), Flow(Port(53, "udp"), "dns")),
        trusted=("wg0", "virbr*"),
    )
    world.load(model)
    first = world.table()
    world.load(model)
    assert world.table() == first
    assert "policy drop" in first


def test_what_comes_in(world: World) -> None:
    assert world.connects(world.lan, "192.168.77.1", 9000), (
        "the listener must be there before the firewall is"
    )
    world.load(FirewallModel(lan=(Port(8096),), flows=(Flow(Port(5432), "db", "br-0"),)))
    reached = {port: world.connects(world.lan, "192.168.77.1", port) for port in (22, 8096, 5432, 9000)}
    assert reached == {22: True, 8096: True, 5432: False, 9000: False}
    assert world.connects(world.host, "127.0.0.1", 9000), "the host talks to itself"
    assert world.connects(world.host, "192.168.77.2", 7000), "the host talks to the outside"


@pytest.mark.skipif(not shutil.which("ping"), reason="needs ping")
def test_ping_is_answered(world: World) -> None:
    world.load(FirewallModel())
    assert "1 received" in world.at(world.lan, "ping -c1 -W1 192.168.77.1")


def test_a_lan_port_is_closed_to_other_networks(world: World) -> None:
    world.load(FirewallModel(lan=(Port(8096),), lan_networks=("10.0.0.0/8",)))
    assert not world.connects(world.lan, "192.168.77.1", 8096)
    assert world.connects(world.lan, "192.168.77.1", 22)


def test_containers_reach_only_declared_ports_of_the_host(world: World) -> None:
    world.load(FirewallModel(lan=(Port(8096),), flows=(Flow(Port(5432), "db", "br-0", ("172.30.0.0/24",)),)))
    reached = {port: world.connects(world.box, "172.30.0.1", port) for port in (5432, 22, 8096, 9000)}
    assert reached == {5432: True, 22: False, 8096: False, 9000: False}
    assert world.connects(world.box, "192.168.77.2", 7000), "containers still reach the outside"


def test_published_ports_are_closed_unless_exposed(world: World) -> None:
    assert world.connects(world.lan, "192.168.77.1", 8098)
    world.load(FirewallModel(lan=(Port(8097),)))
    assert world.connects(world.lan, "192.168.77.1", 8097)
    assert not world.connects(world.lan, "192.168.77.1", 8098)
    assert not world.connects(world.lan, "172.30.0.2", 80), "no way around the published port by routing"
    assert not world.connects(world.lan, "172.30.0.2", 8097), "nor with the number of one that is exposed"
    assert "dnat to 172.30.0.2:80" in world.nft("list table ip docker"), "Docker's own table stays"


def _stage(world: World, model: FirewallModel) -> None:
    (world.folder / "etc/understudy/firewall.nft").write_text(ruleset(model))


def test_the_way_back_opens_a_host_that_locked_itself_up(world: World) -> None:
    _stage(world, FirewallModel(ssh_ports=(2222,)))
    world.run(arm_and_load_command(seconds=1))
    assert not world.connects(world.lan, "192.168.77.1", 22)
    time.sleep(1.6)
    assert world.connects(world.lan, "192.168.77.1", 22)
    assert world.table() == "", "there was no table before, so there is none after"
    assert world.run(applied_command()) == "pending\n"


def test_the_way_back_restores_the_former_table_exactly(world: World) -> None:
    world.load(FirewallModel(lan=(Port(8096),), flows=(Flow(Port(5432), "db", "br-0"),)))
    former = world.table()
    _stage(world, FirewallModel(ssh_ports=(2222,)))
    world.run(arm_and_load_command(seconds=1))
    assert world.table() != former
    time.sleep(1.6)
    assert world.table() == former
    with pytest.raises(RuntimeError, match="went back to its former rules"):
        world.run(disarm_command())
    assert not (world.folder / "var/lib/understudy/firewall.nft").exists()


def test_a_confirmed_ruleset_stays(world: World) -> None:
    _stage(world, FirewallModel(lan=(Port(8096),)))
    assert world.run(applied_command()) == "pending\n"
    world.run(arm_and_load_command(seconds=1))
    loaded = world.table()
    world.run(disarm_command())
    time.sleep(1.6)
    assert world.table() == loaded
    assert world.run(applied_command()) == "applied\n"
    assert "enable --now understudy-firewall.service" in (world.folder / "systemctl.log").read_text()
    confirmed = world.folder / "var/lib/understudy/firewall.nft"
    assert confirmed.read_text() == (world.folder / "etc/understudy/firewall.nft").read_text()
    world.at(world.host, f"{NFT} delete {TABLE}")
    assert world.run(applied_command()) == "pending\n", "somebody flushed the rules: that is drift"


def test_a_killed_run_never_becomes_the_state_to_go_back_to(world: World) -> None:
    world.load(FirewallModel())
    proven = world.table()
    _stage(world, FirewallModel(ssh_ports=(2222,)))
    world.run(arm_and_load_command(seconds=30))
    _stage(world, FirewallModel(ssh_ports=(3333,)))
    world.run(arm_and_load_command(seconds=30))
    world.run(rollback_command())
    assert world.table() == proven
    assert world.connects(world.lan, "192.168.77.1", 22)


def test_a_ruleset_that_nft_refuses_changes_nothing(world: World) -> None:
    world.load(FirewallModel())
    before = world.table()
    (world.folder / "etc/understudy/firewall.nft").write_text(
        "table inet understudy { chain input { nonsense } }"
    )
    with pytest.raises(RuntimeError, match="syntax error"):
        world.run(arm_and_load_command())
    assert world.table() == before
    assert not (world.folder / "timer").exists()


def test_removing_takes_only_our_table(world: World) -> None:
    world.load(FirewallModel())
    world.run(remove_command())
    assert world.table() == ""
    assert "dnat" in world.nft("list table ip docker")
