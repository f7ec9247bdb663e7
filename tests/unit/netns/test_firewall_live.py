"""What comes in through the ruleset, and the way back, in real network namespaces."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest

from understudy.firewall import (
    TABLE,
    FirewallModel,
    Flow,
    Port,
    applied_command,
    arm_and_load_command,
    disarm_command,
    remove_command,
    rollback_command,
    ruleset,
)

from .world import NFT, REAL, SYSTEMCTL, SYSTEMD_RUN, World, available


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The namespaces, built once: making and removing them takes seconds."""
    if not available():
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


def test_ping_is_answered(world: World) -> None:
    world.load(FirewallModel())
    # An echo request with its checksum; the answer is read after the 20 bytes of the IP header.
    script = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP);"
        "s.settimeout(2);"
        "s.sendto(bytes.fromhex('0800f7ff00000000'), ('192.168.77.1', 0)); print(s.recv(99)[20])"
    )
    assert world.at(world.lan, f'python3 -c "{script}"') == "0\n"


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


def test_a_clouds_metadata_service_answers_root_alone(world: World) -> None:
    world.at(world.lan, "ip addr add 169.254.169.254/32 dev eth0")
    world.at(world.host, "ip route add 169.254.169.254/32 via 192.168.77.2")
    ask = "import socket; socket.create_connection(('169.254.169.254',7000),0.7); print(1)"

    def answers(namespace: str, user: int) -> bool:
        drop = "" if user == 0 else f"setpriv --reuid {user} --clear-groups "
        return world.at(namespace, f'{drop}python3 -c "{ask}" 2>/dev/null || true') == "1\n"

    try:
        before = {who: answers(*who) for who in ((world.host, 0), (world.host, 65534), (world.box, 0))}
        assert set(before.values()) == {True}, "everybody on the machine can read user_data"
        world.load(FirewallModel(metadata=True))
        after = {who: answers(*who) for who in before}
        assert after == {(world.host, 0): True, (world.host, 65534): False, (world.box, 0): False}
        assert world.connects(world.box, "192.168.77.2", 7000), "nothing else changes for containers"
    finally:
        world.at(world.host, "ip route del 169.254.169.254/32")
        world.at(world.lan, "ip addr del 169.254.169.254/32 dev eth0")
