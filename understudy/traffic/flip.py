"""The one way in which ownership changes hands: a conditional batch that a stale or second operator cannot win.

    held = read(edge, ["critical"])           # at the start of the journey, before anything is frozen
    ...
    flip(edge, held, "standby", {"critical": "lemongrab:3:118"})

The batch deletes the claim that was read, by its id, posts the next one, and patches the owner's TXT and every CNAME:
all in one transaction. A vanished id fails the whole. It is sent once; after a lost answer the nonce is read back.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ..agent.owner import record as ownership
from ..agent.owner.record import Malformed, Ownership
from ..cloudflare import CloudflareError, Unsure
from ..errors import Refused, UnderstudyError
from .edge import Edge
from .records import TARGET, Batch, Record, kind_of, text_record

READ_BACK = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds between looks for our nonce after a lost answer."""


class FlipLost(Refused):
    """Somebody else moved a group since the claim was read: nothing of this batch was done."""


class FlipUnknown(UnderstudyError):
    """No answer came and our nonce is not there: the batch may still arrive. Read again, and decide anew."""


@dataclass(frozen=True)
class Held:
    """One group as it stands: the claim with its id, the owner's TXT (None: missing), and our CNAMEs by id."""

    group: str
    claim_id: str
    ownership: Ownership
    owner_record: Record | None
    routes: tuple[Record, ...]


def read(edge: Edge, groups: Iterable[str]) -> dict[str, Held]:
    """How each group stands now. Raises UnderstudyError for one that nobody has claimed, or that two have."""
    live = edge.account.records(edge.zone)
    return {group: held(edge, live, group) for group in groups}


def held(edge: Edge, live: list[Record], group: str) -> Held:
    """One group among the records of the zone."""
    found = claims(edge, live, group)
    if not found:
        raise UnderstudyError(f"nobody has claimed the group {group} yet: converge the primary first")
    claim, owner = found[0]
    name = ownership.owner_name(group, edge.world.domain)
    texts = [r for r in live if r.type == "TXT" and r.name == name and kind_of(r, edge.world.stack)]
    names = set(edge.world.names_of(group))
    routes = [
        r for r in live if r.type == "CNAME" and r.name in names and kind_of(r, edge.world.stack) == "route"
    ]
    return Held(group, claim.id, owner, texts[0] if texts else None, tuple(routes))


def broadcast(edge: Edge, live: list[Record], group: str) -> Ownership | None:
    """What the record that hosts read says of a group; None where there is none that can be read."""
    name = ownership.owner_name(group, edge.world.domain)
    for record in live:
        if record.type == "TXT" and record.name == name and kind_of(record, edge.world.stack):
            with suppress(Malformed):
                return ownership.parse(record.content)
    return None


def claims(edge: Edge, live: list[Record], group: str) -> list[tuple[Record, Ownership]]:
    """The claim of a group, as a list of none or one. Raises Refused for two, or for one that cannot be read."""
    name = ownership.claim_name(group, edge.world.domain)
    found = [record for record in live if record.type == "TXT" and record.name == name]
    if len(found) > 1:
        texts = " and ".join(record.content for record in found)
        raise Refused(f"{name} is there twice ({texts}): delete the one with the lower epoch, then try again")
    try:
        return [(record, ownership.parse(record.content)) for record in found]
    except Malformed as error:
        raise Refused(
            f"{name} cannot be read: {error}; restore it from its history, then try again"
        ) from error


def flip(
    edge: Edge,
    held: Mapping[str, Held],
    target: str,
    bases: Mapping[str, str] | None = None,
    *,
    nonce: str = "",
) -> dict[str, Ownership]:
    """Make ``target`` the owner of every group in ``held``, if each still stands as it was read. One batch for all.

    ``bases``: group to the snapshot the new owner starts from. ``nonce``: ours, made here when not given. Returns the new
    ownership by group. Raises FlipLost (somebody was quicker), FlipUnknown (no answer, and not visible), CloudflareError.
    """
    nonce = nonce or secrets.token_hex(8)
    tunnel = edge.tunnel_of(target).id
    new = {
        group: Ownership(group, target, one.ownership.epoch + 1, nonce, (bases or {}).get(group, ""))
        for group, one in held.items()
    }
    batch = build(edge, held, new, tunnel)
    try:
        edge.account.batch(edge.zone, batch)
    except Unsure as error:
        _read_back(edge, held, new, error)
    except CloudflareError as error:
        _why_refused(edge, held, new, error)
    return new


def build(edge: Edge, held: Mapping[str, Held], new: Mapping[str, Ownership], tunnel: str) -> Batch:
    """The batch of a flip: pure."""
    stack, domain = edge.world.stack, edge.world.domain
    deletes, patches, posts = [], list[tuple[str, dict[str, Any]]](), []
    for group, one in held.items():
        content = ownership.text(new[group])
        deletes.append(one.claim_id)
        posts.append(text_record(ownership.claim_name(group, domain), content, "claim", group, stack))
        owner = text_record(ownership.owner_name(group, domain), content, "owner", group, stack)
        if one.owner_record is None:
            posts.append(owner)
        else:
            patches.append((one.owner_record.id, _patch(replace(owner, id=one.owner_record.id))))
        for route in one.routes:
            patches.append((route.id, _patch(replace(route, content=f"{tunnel}{TARGET}"))))
    return Batch(tuple(deletes), tuple(patches), tuple(posts))


def _patch(record: Record) -> dict[str, Any]:
    """Only the content changes, so that nothing else of a record can be undone by the way."""
    return {"content": record.content}


def _read_back(edge: Edge, held: Mapping[str, Held], new: Mapping[str, Ownership], error: Unsure) -> None:
    """After a lost answer: returns when our nonce is there."""
    for pause in READ_BACK:
        time.sleep(pause)
        verdict = _verdict(edge, held, new)
        if verdict == "won":
            return
        if verdict == "lost":
            raise FlipLost(_lost(edge, new)) from error
    raise FlipUnknown(
        f"{error}; the claims still stand as they were after {sum(READ_BACK):g} s, but the batch may yet arrive: "
        "look at `understudy status` before you try again"
    ) from error


def _why_refused(
    edge: Edge, held: Mapping[str, Held], new: Mapping[str, Ownership], error: CloudflareError
) -> None:
    if _verdict(edge, held, new) == "lost":
        raise FlipLost(_lost(edge, new)) from error
    raise error


def _verdict(edge: Edge, held: Mapping[str, Held], new: Mapping[str, Ownership]) -> str:
    """``won``, ``lost``, or ``open`` when every claim is the one that was read. A read that fails is ``open``."""
    try:
        live = edge.account.records(edge.zone)
    except CloudflareError:
        return "open"
    nonce = next(iter(new.values())).nonce
    for group, one in held.items():
        found = claims(edge, live, group)
        if found and found[0][1].nonce == nonce:
            return "won"  # one transaction: what holds for one group holds for all
        if not found or found[0][0].id != one.claim_id:
            return "lost"
    return "open"


def _lost(edge: Edge, new: Mapping[str, Ownership]) -> str:
    try:
        live = edge.account.records(edge.zone)
        now = [found[0][1] for group in new if (found := claims(edge, live, group))]
    except UnderstudyError:
        now = []
    owners = ", ".join(f"{one.group}: {one.owner}, epoch {one.epoch}" for one in now) or "nobody has a claim"
    return (
        f"ownership has moved since it was read ({owners}): nothing was changed; read again and decide anew"
    )
