"""Cloudflare beside the hosts: each host's tunnel and its token, and once a run the records of all public names."""

from __future__ import annotations

from functools import cache
from typing import Any

from pyinfra import host, logger, state
from pyinfra.api import operation

from ..agent.owner.record import Ownership
from ..cloudflare import Tunnel
from ..traffic import converge, tokens, tunnels
from ..traffic.edge import Edge, find_edge
from ..traffic.world import TrafficHost
from .session import Commands, Session, everyone, guarded, of, run


@cache
def edge() -> Edge | None:
    """The way to Cloudflare of this inventory, the same for all its hosts; None where we do not move traffic."""
    hosts: list[tuple[str, dict[str, Any]]] = [
        (one.name, one.data.dict())  # type: ignore[no-untyped-call]
        for one in state.inventory
    ]
    return find_edge(sorted(hosts))


@cache
def _tunnels() -> dict[str, Tunnel]:
    found = edge()
    return found.tunnels() if found else {}


def _own(session: Session) -> TrafficHost | None:
    """This host as the edge knows it, None where it has no tunnel of ours."""
    found = edge()
    name = session.host.name
    return next((one for one in found.world.hosts if one.name == name), None) if found else None


@operation()
@guarded
def tunnelled() -> Commands:
    """Give this host its tunnel, and its connector the tunnel's token."""
    session = of(host)
    found, own = edge(), _own(session)
    if found is None or own is None or not tokens.waits(session.desired):
        host.noop("the tunnel of this host is not ours")
        return
    tunnel = _tunnels().get(own.name)
    if tunnel is not None and not tunnels.work(found, own, tunnel).sentences():
        tokens.fill(session.desired, found.account.tunnel_token(found.zone, tunnel.id))
        host.noop("the tunnel is as described")
        return
    yield run(session, make)


def make(session: Session) -> None:
    """Make or complete the host's tunnel and take its token."""
    found, own = edge(), _own(session)
    assert found is not None and own is not None
    before = _tunnels().get(own.name)
    work = tunnels.work(found, own, before)
    tunnel = tunnels.apply(found, own, before)
    tokens.fill(session.desired, found.account.tunnel_token(found.zone, tunnel.id))
    session.record("tunnel", work.sentences())


def memory() -> converge.Memory:
    """What the hosts of this run remember of the groups' owners."""
    groups, unread = dict[str, Ownership](), dict[str, str]()
    for one in everyone():
        seen = one.owners if one.owners is not None else one.survey()["owners"]
        if "unreadable" in seen:
            unread[one.host.name] = str(seen["unreadable"])
            continue
        for group, facts in seen.items():
            mine = Ownership(group, **facts)
            if group not in groups or mine.epoch > groups[group].epoch:
                groups[group] = mine
    return converge.Memory(groups, unread)


@operation()
@guarded
def led() -> Commands:
    """Point every public name at the host that owns its group: once a run, whatever hosts it is about."""
    session = of(host)
    found = edge()
    if found is None or not _leads(session):
        host.noop("the public names are not led from here")
        return
    findings = converge.look_at_records(found, memory=memory)
    for note in findings.notes:
        host.log_styled(note, fg="yellow", log_func=logger.warning)
    if not findings.changes:
        host.noop("every public name leads to its owner")
        return
    yield run(session, lead)


def lead(session: Session) -> None:
    """Change the records that differ, in one transaction."""
    found = edge()
    assert found is not None
    done = converge.apply_records(found, memory)
    for change in done.changes:
        session.host.log_styled(f"{change.action}: {change.name}", fg="green", log_func=logger.info)
    session.record("records", [f"{change.action} {change.name}" for change in done.changes])


def _leads(session: Session) -> bool:
    """Whether this host is the one whose turn carries what is done once a run."""
    active = [one.name for one in state.inventory.get_active_hosts()]
    return bool(active) and session.host.name == sorted(active)[0] and not session.only


def rows(session: Session) -> tuple[list[dict[str, str]], list[str]]:
    """For a plan: what would change of this host's tunnel and, once, of the records; and notes. Fills the token."""
    found, own = edge(), _own(session)
    if found is None:
        return [], []
    shown: list[dict[str, str]] = []
    if own is not None and tokens.waits(session.desired):
        shown += _tunnel_rows(found, own, session)
    if not _leads(session):
        return shown, []
    findings = converge.look_at_records(found, memory=memory)
    return shown + converge.record_rows(findings.changes), list(findings.notes)


def _tunnel_rows(found: Edge, own: TrafficHost, session: Session) -> list[dict[str, str]]:
    tunnel = _tunnels().get(own.name)
    if tunnel is not None:
        tokens.fill(session.desired, found.account.tunnel_token(found.zone, tunnel.id))
    sentences = tunnels.work(found, own, tunnel).sentences()
    return [{"kind": "tunnel", "what": found.world.tunnel_name(own.name), "why": why} for why in sentences]
