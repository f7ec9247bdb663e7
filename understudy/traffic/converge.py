"""Brings the zone to what the inventory says, and never against an owner who changed meanwhile."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..agent.owner import record as ownership
from ..agent.owner.record import Ownership
from ..cloudflare import Tunnel
from ..errors import BadInput, UnderstudyError
from . import balance, flip, records, tunnels
from .edge import Edge
from .records import Batch, Change, Difference, Record

MOST_IN_BATCH = 200
NEW_TUNNEL = "(new tunnel)"


@dataclass(frozen=True)
class Findings:
    """What a converge of the traffic would do; ``notes`` are facts that are no change."""

    tunnels: tuple[tunnels.TunnelWork, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    def count(self) -> int:
        """How many things would change."""
        return len(self.changes) + sum(1 for work in self.tunnels if work.sentences())


def record_rows(changes: Iterable[Change]) -> list[dict[str, str]]:
    """Changes of records as `understudy plan` shows them."""
    return [{"kind": "record", "what": c.name, "why": f"{c.action}: {c.why}"} for c in changes]


@dataclass(frozen=True)
class Memory:
    """What the hosts of this run have seen of the zone's records before: each group's newest, and hosts that cannot say."""

    groups: Mapping[str, Ownership] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)


Ask = Callable[[], Memory]
"""Asked only where a claim is missing."""


@dataclass
class Owners:
    """Who owns each group now, the claims' ids, the claims that have to be made, and what of that is told."""

    hosts: dict[str, str] = field(default_factory=dict)
    claims: dict[str, Record] = field(default_factory=dict)
    new: list[Ownership] = field(default_factory=list)
    texts: dict[str, Ownership] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check_names(edge: Edge) -> None:
    """Raises BadInput for a hostname outside the zone."""
    zone = edge.zone.name
    for name in edge.world.names:
        if name != zone and not name.endswith("." + zone):
            raise BadInput(f"{name} is not in the zone {zone}: change `domain` in group_data/all.py")


def look(edge: Edge) -> Findings:
    """Compare tunnels and records; nothing is changed."""
    check_names(edge)
    have = edge.tunnels()
    work = tuple(tunnels.work(edge, host, have.get(host.name)) for host in edge.world.hosts)
    return replace(look_at_records(edge, have), tunnels=work)


def look_at_records(
    edge: Edge, have: Mapping[str, Tunnel] | None = None, memory: Ask | None = None
) -> Findings:
    """Compare the records alone; ``have``: the tunnels, where they were read already."""
    check_names(edge)
    live = edge.account.records(edge.zone)
    have = edge.tunnels() if have is None else have
    owners = owners_of(edge, live, memory)
    difference, notes = _difference(edge, live, owners, have)
    balanced = balance.look(edge, owners.hosts, have)
    return Findings((), (*difference.changes, *balanced), (*owners.notes, *notes))


def apply(edge: Edge) -> Findings:
    """Make tunnels and records so. Returns what was done; a second run finds nothing and writes nothing."""
    found, have = look(edge), edge.tunnels()
    for host in edge.world.hosts:
        tunnels.apply(edge, host, have.get(host.name))
    return replace(apply_records(edge), tunnels=found.tunnels)


def apply_records(edge: Edge, memory: Ask | None = None) -> Findings:
    """Make the records so, for the tunnels that there are."""
    check_names(edge)
    live, have = edge.account.records(edge.zone), edge.tunnels()
    owners = owners_of(edge, live, memory)
    difference, notes = _difference(edge, live, owners, have)
    if len(difference.batch):
        _check_tunnels(edge, owners, have)
        edge.ready_to_write()
        _send(edge, difference, owners)
    balanced = balance.apply(edge, owners.hosts, have)
    return Findings((), (*difference.changes, *balanced), (*owners.notes, *notes))


def _check_tunnels(edge: Edge, owners: Owners, have: Mapping[str, Tunnel]) -> None:
    planned = {host.name for host in edge.world.hosts}
    for group, owner in owners.hosts.items():
        if owner in planned and owner not in have:
            raise UnderstudyError(
                f"{owner} owns the group {group} and has no tunnel yet: converge {owner} first"
            )


def owners_of(edge: Edge, live: list[Record], memory: Ask | None = None) -> Owners:
    """Read every group's claim; one that is missing is made as the zone's other record or the hosts remember it.

    A group that nobody has heard of is for the primary, with epoch 1. Raises UnderstudyError where a host cannot say.
    """
    found, nonce = Owners(), secrets.token_hex(8)
    for group in edge.world.groups:
        held = flip.claims(edge, live, group)
        if held:
            claim, owner = held[0]
            found.hosts[group], found.claims[group], found.texts[group] = owner.owner, claim, owner
            continue
        new = _remembered(edge, live, group, memory() if memory else Memory())
        first = edge.world.first_owner(group)
        if new:
            found.notes.append(
                f"the zone has no claim of {group}: it is made anew as it was, {new.owner} in epoch {new.epoch}"
            )
        elif first:
            new = Ownership(group, first, 1, nonce)
        if new:
            found.hosts[group], found.texts[group] = new.owner, new
            found.new.append(new)
    return found


def _remembered(edge: Edge, live: list[Record], group: str, memory: Memory) -> Ownership | None:
    """The newest that is known of a group whose claim is gone: records that were lost must not begin at epoch 1 again."""
    for host, why in memory.unread.items():
        raise UnderstudyError(
            f"the zone has no claim of {group}, and {host} cannot say who owned it: {why}: nothing was changed"
        )
    broadcast = flip.broadcast(edge, live, group)
    seen = [one for one in (memory.groups.get(group), broadcast) if one]
    return max(seen, key=lambda one: one.epoch, default=None)


def _difference(
    edge: Edge, live: list[Record], owners: Owners, have: Mapping[str, Tunnel]
) -> tuple[Difference, list[str]]:
    wanted, kept, notes = _routes(edge, owners, have)
    untouched = [r for r in live if r.name not in kept]
    wanted += _texts(edge, owners)
    return records.difference(wanted, untouched, edge.world.stack), notes


def _routes(
    edge: Edge, owners: Owners, have: Mapping[str, Tunnel]
) -> tuple[list[Record], set[str], list[str]]:
    """The CNAMEs that should be, the names to leave as they are, and why."""
    wanted, kept, notes = list[Record](), set[str](), list[str]()
    planned = {host.name for host in edge.world.hosts}
    for group in edge.world.groups:
        owner = owners.hosts.get(group, "")
        tunnel = have[owner].id if owner in have else NEW_TUNNEL if owner in planned else ""
        if not tunnel:
            kept |= set(edge.world.names_of(group))
            notes.append(_left(group, owner))
            continue
        stack = edge.world.stack
        wanted += [records.route(name, tunnel, group, stack) for name in edge.world.names_of(group)]
    return wanted, kept, notes


def _left(group: str, owner: str) -> str:
    if not owner:
        return f"the group {group} has no owner and no primary carries it: its names are left as they are"
    return f"{owner} owns the group {group} but has no tunnel: its names are left as they are"


def _texts(edge: Edge, owners: Owners) -> list[Record]:
    """The owner's TXT of every group, and the claims that are missing."""
    domain, stack = edge.world.domain, edge.world.stack
    wanted = [
        records.text_record(ownership.owner_name(group, domain), ownership.text(owner), "owner", group, stack)
        for group, owner in owners.texts.items()
    ]
    return wanted + [
        records.text_record(
            ownership.claim_name(one.group, domain), ownership.text(one), "claim", one.group, stack
        )
        for one in owners.new
    ]


def _send(edge: Edge, difference: Difference, owners: Owners) -> None:
    """Send the batch, tied to the claims that were read: where one has gone meanwhile, nothing is done."""
    if not len(difference.batch):
        return
    ties = tuple((claim.id, {"content": claim.content}) for claim in owners.claims.values())
    for part in _parts(difference.batch, MOST_IN_BATCH - len(ties)):
        tied = replace(part, patches=(*ties, *part.patches))
        try:
            edge.account.batch(edge.zone, tied)
        except UnderstudyError as error:
            _explain(edge, owners, error)
    for group in (one.group for one in owners.new):
        flip.claims(edge, edge.account.records(edge.zone), group)  # raises when another converge made one too


def _parts(batch: Batch, most: int) -> list[Batch]:
    """The same changes in transactions of a size that the API takes."""
    deletes, patches, posts = list(batch.deletes), list(batch.patches), list(batch.posts)
    parts = []
    while deletes or patches or posts:
        one = deletes[:most]
        two = patches[: most - len(one)]
        three = posts[: most - len(one) - len(two)]
        parts.append(Batch(tuple(one), tuple(two), tuple(three)))
        deletes, patches, posts = deletes[len(one) :], patches[len(two) :], posts[len(three) :]
    return parts


def _explain(edge: Edge, owners: Owners, error: UnderstudyError) -> None:
    live = edge.account.records(edge.zone)
    moved = [
        group for group, claim in owners.claims.items() if claim.id not in {record.id for record in live}
    ]
    if moved:
        raise UnderstudyError(
            f"the group {moved[0]} has changed hands while its names were compared: nothing was changed, converge again"
        ) from error
    raise error
