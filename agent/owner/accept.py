"""Which snapshots count (protocol.md §4): those of the host that owned their epoch, up to the base of the next one.

The chain is read backwards. The record that was seen last names the open epoch's owner and its base; snapshots of an
epoch carry the base that epoch began from, which closes the one before; and so on. A snapshot that the chain
contradicts is ``diverged``: kept, shown, and chosen only by its id. One with an epoch that this host has not heard of is
``unknown`` and waits. Before any record (epoch 0) everything counts, as on a host without a guard.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ..errors import AgentError
from ..repo.snapshots import Snapshot
from ..root import Root
from .state import Held, load

__all__ = ["Verdict", "base_of", "judge", "of_group"]

Verdict = Literal["accepted", "diverged", "unknown"]


def base_of(text: str) -> tuple[str, int, int] | None:
    """``HOST:EPOCH:SEQ`` as a record or a tag has it; None for "" and for what is none."""
    words = text.rsplit(":", 2)
    if len(words) != 3 or not words[0] or not (words[1].isdecimal() and words[2].isdecimal()):
        return None
    return words[0], int(words[1]), int(words[2])


def judge(found: Iterable[Snapshot], held: Held) -> dict[str, Verdict]:
    """Snapshot id to its verdict."""
    found = list(found)
    if held.epoch == 0:
        return {one.id: "accepted" for one in found}
    limits: dict[int, tuple[str, int | None]] = {held.epoch: (held.owner, None)}
    base, lowest = base_of(held.base), held.epoch
    while base is not None and base[1] < lowest:
        host, lowest, seq = base
        limits[lowest] = (host, seq)
        base = _base_in(found, host, lowest, seq)
    return {one.id: _verdict(one, held.epoch, lowest, limits, found) for one in found}


def _base_in(found: list[Snapshot], host: str, epoch: int, seq: int) -> tuple[str, int, int] | None:
    """The base that an epoch's own snapshots name."""
    of_epoch = (s for s in found if s.host == host and s.epoch == epoch and s.seq <= seq and s.base)
    first = min(of_epoch, key=lambda one: one.seq, default=None)
    return base_of(first.base) if first else None


def _verdict(
    one: Snapshot, newest: int, lowest: int, limits: dict[int, tuple[str, int | None]], found: list[Snapshot]
) -> Verdict:
    if one.epoch > newest:
        return "unknown"
    if one.epoch in limits:
        host, most = limits[one.epoch]
        return "accepted" if one.host == host and (most is None or one.seq <= most) else "diverged"
    if one.epoch > lowest:
        # An epoch between two links of the chain: its owner's data was not what the next one began from.
        return "diverged"
    # Older than the chain goes (its snapshots were forgotten): right where only one host wrote in that epoch.
    hosts = {other.host for other in found if other.epoch == one.epoch}
    return "accepted" if len(hosts) == 1 else "diverged"


def of_group(root: Root, group: str, found: Iterable[Snapshot]) -> list[Snapshot]:
    """Those that count by what this host remembers of the group. Raises AgentError when that is damaged.

    Also (kind "refused") where a later epoch wrote something than this host has heard of: all that it could choose
    from is older than that, and nobody would see it.
    """
    found, held = list(found), load(root, group)
    verdicts = judge(found, held)
    later = max(
        (one for one in found if verdicts[one.id] == "unknown"), key=lambda one: one.order, default=None
    )
    if later is not None:
        raise AgentError(
            f"{group}: snapshot {later.id[:8]} by {later.host} is of epoch {later.epoch}, and this host has heard of epoch "
            f"{held.epoch} at most, so all it may choose is older; nothing was changed: ask again when its guard hears the "
            f"zone's record, or, if those records were lost and made anew, name the snapshot: --snapshot {later.id[:8]}",
            "refused",
        )
    return [one for one in found if verdicts[one.id] == "accepted"]
