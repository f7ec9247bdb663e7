"""The ruleset and its commands as text."""

from __future__ import annotations

import pytest

from understudy.errors import BadInput
from understudy.firewall import (
    CONFIRMED,
    RULESET,
    TABLE,
    FirewallModel,
    Flow,
    Port,
    arm_and_load_command,
    disarm_command,
    entries,
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
    run, state, nft = "/run/understudy/firewall", "/var/lib/understudy/firewall", "/usr/sbin/nft"
    timer = "understudy-firewall-rollback"
    digest = f"{nft} -s list table inet understudy | sha256sum"
    stop = f"systemctl stop {timer}.timer {timer}.service 2>/dev/null || true"
    listed = f"{nft} -s list table inet understudy 2>/dev/null || true"
    head = "echo 'table inet understudy'; echo 'delete table inet understudy'"
    assert validate_command() == f"{nft} --check --file /etc/understudy/firewall.nft"
    assert arm_and_load_command().splitlines() == [
        "set -eu; umask 077",
        "mkdir -p /run/understudy",
        f"cp /etc/understudy/firewall.nft {run}.candidate.nft",
        f"{nft} --check --file {run}.candidate.nft",
        f"if systemctl --quiet is-active {timer}.timer; then",
        f"  {nft} --file {run}.rollback.nft",
        "else",
        f"  {{ {head}; {listed}; }} > {run}.rollback.nft.new",
        f"  {nft} --check --file {run}.rollback.nft.new",
        f"  mv {run}.rollback.nft.new {run}.rollback.nft",
        "fi",
        stop,
        f"systemd-run --quiet --collect --unit={timer} --on-active=60 --timer-property=AccuracySec=1s \\",
        f"  {nft} --file {run}.rollback.nft",
        f"{nft} --file {run}.candidate.nft || {{ systemctl stop {timer}.timer; exit 1; }}",
        f"{digest} > {run}.loaded",
    ]
    assert disarm_command().splitlines() == [
        "set -eu; umask 077",
        stop,
        f'if [ "$({digest})" != "$(cat {run}.loaded)" ]; then',
        '  echo "the firewall went back to its former rules before the new ones were confirmed" >&2; exit 1',
        "fi",
        f"cp {run}.loaded {state}.loaded",
        f"cp {run}.candidate.nft {state}.nft.new; sync {state}.nft.new; mv {state}.nft.new {state}.nft",
        "systemctl daemon-reload",
        "systemctl --quiet enable --now understudy-firewall.service",
        f"rm -f {run}.rollback.nft {run}.candidate.nft {run}.loaded",
    ]
