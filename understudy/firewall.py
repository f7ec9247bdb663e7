"""The host's firewall: one nftables table of our own, and a way to load it that cannot lock anyone out.

How a ruleset goes live (operations run these, in this order):

1. the tree writes :data:`RULESET`, checked by ``nft --check``; nothing is loaded by that;
2. :func:`arm_and_load_command` keeps the live table as a file, arms a systemd timer that puts it
   back after 60 s, and loads the new one;
3. the control machine opens a **new** SSH connection: an established one passes any ruleset and so
   proves nothing;
4. over it, :func:`disarm_command` stops the timer, keeps the ruleset as :data:`CONFIRMED` and
   enables the unit that loads it at boot.

If 3 fails the timer restores what was there. If the machine reboots before 4, the boot loads the
last confirmed ruleset, never the unproven one. :func:`applied_command` tells whether 4 has happened
for the ruleset that is on disk and the table still is what was loaded then.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import BadInput
from .jinja import render
from .tree import Entry

Protocol = Literal["tcp", "udp"]
RULESET = "/etc/understudy/firewall.nft"
CONFIRMED = "/var/lib/understudy/firewall.nft"
UNIT = "understudy-firewall.service"
ROLLBACK_UNIT = "understudy-firewall-rollback"
ROLLBACK_SECONDS = 60
TABLE = "table inet understudy"
INTERFACE = re.compile(r"^[A-Za-z0-9_.-]{1,15}\*?$")

# Docker's default bridge, and the name it gives to the bridge of every Compose network.
DOCKER_BRIDGES = ("docker0", "br-*")
PRIVATE_NETWORKS = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)


@dataclass(frozen=True)
class Port:
    """A port of the host, or a published port as its users address it."""

    number: int
    protocol: Protocol = "tcp"


@dataclass(frozen=True)
class Flow:
    """A container may open a connection to a port of the host.

    ``interface`` (a bridge) and ``sources`` (its subnets) narrow it to one network; with neither every
    container may. ``name`` says for whom, and stands in the rule's comment.
    """

    port: Port
    name: str
    interface: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class FirewallModel:
    """What may reach a host from outside itself; everything else is dropped.

    ``ssh_ports``: from anywhere. ``lan``: ports open to ``lan_networks``, whether a program of the host
    listens there or Docker publishes them; ``public``: the same, from anywhere. ``flows``: from
    containers to the host. ``trusted``: interfaces that pass as loopback does (a VPN, a VM bridge).
    ``bridges``: interfaces behind which containers are. ``metadata``: the machine has a cloud's metadata service, which
    tells its user_data to everybody who asks: from now on to root alone.
    """

    ssh_ports: tuple[int, ...] = (22,)
    lan: tuple[Port, ...] = ()
    public: tuple[Port, ...] = ()
    lan_networks: tuple[str, ...] = PRIVATE_NETWORKS
    flows: tuple[Flow, ...] = ()
    trusted: tuple[str, ...] = ()
    bridges: tuple[str, ...] = DOCKER_BRIDGES
    metadata: bool = False


def entries(model: FirewallModel) -> list[Entry]:
    """The ruleset and the unit that loads it at boot."""
    unit = render(f"units/{UNIT}.j2", confirmed=CONFIRMED).encode()
    text = ruleset(model).encode()
    return [
        Entry(RULESET, mode=0o600, content=text, reaction="nftables"),
        Entry(f"/etc/systemd/system/{UNIT}", content=unit),
    ]


def ruleset(model: FirewallModel) -> str:
    """The whole file for ``nft -f``. Raises BadInput for a model that locks out or that nft refuses."""
    _check(model)
    networks = [ipaddress.ip_network(network, strict=False) for network in model.lan_networks]
    return render(
        "host/nftables.j2",
        lan4=_collapsed(networks, 4),
        lan6=_collapsed(networks, 6),
        trusted=model.trusted,
        bridges=model.bridges,
        ssh_ports=sorted(set(model.ssh_ports)),
        lan_ports=_direct(model.lan),
        public_ports=_direct(model.public),
        lan_forwards=_published(model.lan),
        public_forwards=_published(model.public),
        metadata=model.metadata,
        flows=[rule for flow in model.flows for rule in _flow_rules(flow)],
    )


def _check(model: FirewallModel) -> None:
    if not model.ssh_ports:
        raise BadInput("the firewall has no SSH port: give ssh_ports, or nobody can come in")
    numbers = [
        *model.ssh_ports,
        *(port.number for port in (*model.lan, *model.public)),
        *(f.port.number for f in model.flows),
    ]
    for number in numbers:
        if not 1 <= number <= 65535:
            raise BadInput(f"{number} in the firewall is not a port (1 to 65535)")
    for name in (*model.trusted, *model.bridges, *(flow.interface for flow in model.flows if flow.interface)):
        if not INTERFACE.match(name):
            raise BadInput(f"{name!r} in the firewall is not the name of a network interface")
    for network in (*model.lan_networks, *(source for flow in model.flows for source in flow.sources)):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            raise BadInput(f"{network!r} in the firewall is not a network such as 192.168.1.0/24") from error


def _collapsed(networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network], version: int) -> list[str]:
    """Networks of one family without overlaps, which nft refuses in a set."""
    chosen = [network for network in networks if network.version == version]
    return [str(network) for network in ipaddress.collapse_addresses(chosen)]  # type: ignore[type-var]


def _by_protocol(ports: Iterable[Port]) -> dict[str, list[int]]:
    found: dict[str, set[int]] = {}
    for port in ports:
        found.setdefault(port.protocol, set()).add(port.number)
    return {protocol: sorted(found[protocol]) for protocol in sorted(found)}


def _numbers(ports: Sequence[int]) -> str:
    return "{ " + ", ".join(map(str, ports)) + " }"


def _direct(ports: Iterable[Port]) -> list[str]:
    return [f"{protocol} dport {_numbers(numbers)}" for protocol, numbers in _by_protocol(ports).items()]


def _published(ports: Iterable[Port]) -> list[str]:
    # Docker has rewritten address and port by now: the one the client asked for is in conntrack.
    return [
        f"meta l4proto {protocol} ct original proto-dst {_numbers(numbers)}"
        for protocol, numbers in _by_protocol(ports).items()
    ]


def _flow_rules(flow: Flow) -> list[Mapping[str, str]]:
    interface = f'iifname "{flow.interface}" ' if flow.interface else ""
    target = f"{flow.port.protocol} dport {flow.port.number}"
    matches = [f"{interface}{_source(network)}{target}" for network in flow.sources] or [interface + target]
    comment = re.sub(r"[^A-Za-z0-9 ._/:-]", "", flow.name)[:100]
    return [{"match": match, "comment": comment} for match in matches]


def _source(network: str) -> str:
    parsed = ipaddress.ip_network(network, strict=False)
    return f"{'ip' if parsed.version == 4 else 'ip6'} saddr {parsed} "


_RUN = "/run/understudy"
_SAVED = f"{_RUN}/firewall.rollback.nft"
_CANDIDATE = f"{_RUN}/firewall.candidate.nft"
_LOADED = f"{_RUN}/firewall.loaded"
_KNOWN = "/var/lib/understudy/firewall.loaded"
_NFT = "/usr/sbin/nft"
# -s leaves the counters out, so that the digest only changes with the rules.
_DIGEST = f"{_NFT} -s list {TABLE} | sha256sum"


def validate_command(path: str = RULESET) -> str:
    """Let the host's own nft read a ruleset without loading it."""
    return f"{_NFT} --check --file {path}"


def arm_and_load_command(path: str = RULESET, seconds: int = ROLLBACK_SECONDS) -> str:
    """Keep the live table, arm the way back, load the new one. Exits non-zero, nothing changed, if it cannot.

    A timer that is still armed belongs to a run that was killed: the table it left is unproven, so it is
    put back first and the file kept then stays the one to go back to.
    """
    return f"""\
set -eu; umask 077
mkdir -p {_RUN}
cp {path} {_CANDIDATE}
{validate_command(_CANDIDATE)}
if systemctl --quiet is-active {ROLLBACK_UNIT}.timer; then
  {_NFT} --file {_SAVED}
else
  {{ echo '{TABLE}'; echo 'delete {TABLE}'; {_NFT} -s list {TABLE} 2>/dev/null || true; }} > {_SAVED}.new
  {validate_command(f"{_SAVED}.new")}
  mv {_SAVED}.new {_SAVED}
fi
systemctl stop {ROLLBACK_UNIT}.timer {ROLLBACK_UNIT}.service 2>/dev/null || true
systemd-run --quiet --collect --unit={ROLLBACK_UNIT} --on-active={seconds} --timer-property=AccuracySec=1s \\
  {_NFT} --file {_SAVED}
{_NFT} --file {_CANDIDATE} || {{ systemctl stop {ROLLBACK_UNIT}.timer; exit 1; }}
{_DIGEST} > {_LOADED}
"""


def disarm_command() -> str:
    """Keep the loaded ruleset, sent over a connection opened after the load. Fails if the timer won."""
    return f"""\
set -eu; umask 077
systemctl stop {ROLLBACK_UNIT}.timer {ROLLBACK_UNIT}.service 2>/dev/null || true
if [ "$({_DIGEST})" != "$(cat {_LOADED})" ]; then
  echo "the firewall went back to its former rules before the new ones were confirmed" >&2; exit 1
fi
cp {_LOADED} {_KNOWN}
cp {_CANDIDATE} {CONFIRMED}.new; sync {CONFIRMED}.new; mv {CONFIRMED}.new {CONFIRMED}
systemctl daemon-reload
systemctl --quiet enable --now {UNIT}
rm -f {_SAVED} {_CANDIDATE} {_LOADED}
"""


def rollback_command() -> str:
    """Go back now, without waiting for the timer; harmless when nothing is armed."""
    return f"""\
if [ -f {_SAVED} ]; then {_NFT} --file {_SAVED} && rm -f {_SAVED} {_CANDIDATE} {_LOADED}; fi
systemctl stop {ROLLBACK_UNIT}.timer 2>/dev/null || true
"""


def applied_command(path: str = RULESET) -> str:
    """Prints ``applied`` when the file is confirmed and the live table is what was loaded with it."""
    live, known = f"$({_DIGEST} 2>/dev/null)", f"$(cat {_KNOWN} 2>/dev/null)"
    return (
        f'if cmp -s {path} {CONFIRMED} && [ "{live}" = "{known}" ]; then echo applied; else echo pending; fi'
    )


def remove_command() -> str:
    """Take the table and its unit away (the part was switched off, or `host leave`)."""
    return (
        f"systemctl --quiet disable --now {UNIT} 2>/dev/null || true; "
        f"{_NFT} delete {TABLE} 2>/dev/null || true; rm -f {CONFIRMED} {_KNOWN}"
    )
