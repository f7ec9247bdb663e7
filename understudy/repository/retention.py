"""Which snapshots go (protocol.md §4): a pure choice, by explicit id, service by service.

Order is (epoch, seq), never time. Age is by the control machine's clock, and by the snapshot's own time only where
that fits the order of its host. Whoever holds a host's key can add snapshots with any time, so what does not fit
never competes with what does: it is kept, named in an alarm, and goes only by age.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol

__all__ = ["Choice", "Facts", "Keep", "Owner", "Seen", "Shot", "accepted", "choose", "facts", "order"]

HOUR = 3600.0
DAY = 86400.0
OURS = "understudy"
AHEAD = 300.0  # seconds a clock may be ahead of ours before a snapshot counts as dated in the future
LATE = DAY  # the longest a backup may run between the time it carries and its arrival in the repository
TWIN = HOUR  # two runs of one tick carry one number and lie no further apart
TICKS_A_DAY = 96 + 24 + 1


class Shot(Protocol):
    """A snapshot as ``agent.repo.snapshots.Snapshot`` gives it; ``time`` in seconds since the epoch."""

    @property
    def id(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def time(self) -> float: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def services(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Keep:
    """How long: everything for ``all_hours``, then one an hour, a day, a week for so many days."""

    all_hours: float = 48
    hourly_days: float = 7
    daily_days: float = 30
    weekly_days: float = 90

    @property
    def spans(self) -> tuple[tuple[str, float, Callable[[float], int]], ...]:
        """(name, oldest age in seconds, bucket of a time). Buckets are nested: a week holds whole days and hours."""
        return (
            ("hourly", self.hourly_days * DAY, lambda time: int(time // HOUR)),
            ("daily", self.daily_days * DAY, lambda time: int(time // DAY)),
            ("weekly", self.weekly_days * DAY, lambda time: int((time // DAY + 3) // 7)),
        )


@dataclass(frozen=True)
class Owner:
    """Who owned an epoch; ``base`` is the last sequence number that counts of a closed one, None while open."""

    host: str
    base: int | None = None


@dataclass(frozen=True)
class Facts:
    """What is known beside the repository.

    ``proven`` and ``checked``: (service, snapshot id) pairs, service "*" for all in it. ``pinned``: ids that never
    go. ``owners``: epoch to its owner; empty when nobody judges ownership. ``services``: those described today
    (alarms are only about them; empty: about all).
    """

    proven: frozenset[tuple[str, str]] = frozenset()
    checked: frozenset[tuple[str, str]] = frozenset()
    pinned: frozenset[str] = frozenset()
    owners: Mapping[int, Owner] = field(default_factory=dict)
    services: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Seen:
    """What the last run saw, as this control machine remembers it: ``at`` by its clock, all ids it took for known,

    ids it took for backdated, and the newest time of each host.
    """

    at: float
    ids: frozenset[str] = frozenset()
    odd: frozenset[str] = frozenset()
    newest: Mapping[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"at": self.at, "ids": sorted(self.ids), "odd": sorted(self.odd), "newest": dict(self.newest)}

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Seen:
        """From ``plain``. Raises KeyError, TypeError or ValueError."""
        newest = {str(name): float(time) for name, time in raw["newest"].items()}
        return cls(float(raw["at"]), frozenset(raw["ids"]), frozenset(raw["odd"]), newest)


@dataclass
class Choice:
    """``forget``: ids in order; ``kept``: id to reasons; ``stopped``: why nothing goes although something would.

    ``seen`` is to be remembered once the forgetting is done.
    """

    forget: list[str]
    kept: dict[str, list[str]]
    alarms: list[str]
    stopped: str
    seen: Seen


def order(shot: Shot) -> tuple[int, int, float, str]:
    """The one order of snapshots; time and id only settle equal numbers."""
    return (shot.epoch, shot.seq, shot.time, shot.id)


def facts(records: Iterable[Mapping[str, Any]], **more: Any) -> Facts:
    """From ledger records: a good restore or drill proves a snapshot, a good verify has checked it."""
    proven: set[tuple[str, str]] = set()
    checked: set[tuple[str, str]] = set()
    for record in records:
        if not record.get("ok") or not record.get("snapshot"):
            continue
        pair = (str(record.get("service") or "*"), str(record["snapshot"]))
        if record.get("kind") in ("restore", "drill"):
            proven.add(pair)
        elif record.get("kind") == "verify":
            checked.add(pair)
    return Facts(frozenset(proven), frozenset(checked), **more)


def accepted(shot: Shot, owners: Mapping[int, Owner]) -> str:
    """Why a snapshot is not one of the chain ("not ours", "diverged", "without number"), or "" when it is."""
    if OURS not in shot.tags:
        return "not ours"
    if any(tag.startswith("diverged:") for tag in shot.tags):
        return "diverged"
    if not shot.epoch or not shot.seq or shot.epoch < 0 or shot.seq < 0:
        return "without number"
    if not owners:
        return ""
    owner = owners.get(shot.epoch)
    if owner is None or owner.host != shot.host or (owner.base is not None and shot.seq > owner.base):
        return "diverged"
    return ""


def choose(
    snapshots: Sequence[Shot],
    known: Facts,
    now: float,
    keep: Keep | Mapping[str, Keep] | None = None,
    seen: Seen | None = None,
    most: int | None = None,
) -> Choice:
    """What goes of all snapshots of one repository.

    ``keep`` may differ by service. ``seen``: what the last run saw, None on the first. ``most``: how many may go;
    default: one and a half times what ticks since the last run can have brought, and 50. More than that and
    nothing goes (``stopped``).
    """
    kept: dict[str, list[str]] = defaultdict(list)
    chain: list[Shot] = []
    for shot in sorted(snapshots, key=order):
        reason = accepted(shot, known.owners)
        if reason:
            kept[shot.id].append(reason)
        else:
            chain.append(shot)
    odd, ages, backdated = _odd(chain, now, seen)
    _keep_whole(chain, ages, odd, known, keep, kept)
    alarms: list[str] = []
    old = seen.ids if seen is not None else frozenset()
    for service, shots in _by_service(chain).items():
        rules = _of(keep, service)
        # What is new competes with what is new: it cannot push out what was there before.
        for part in ([s for s in shots if s.id in old], [s for s in shots if s.id not in old]):
            _keep_service(service, part, ages, odd, rules, kept)
        _keep_facts(service, shots, known, kept)
        alarms += _silent(service, shots, ages, odd, rules, known)
    alarms += _about(chain, odd, kept, snapshots)
    forget = [shot.id for shot in chain if shot.id not in kept]
    stopped = _too_many(len(forget), most if most is not None else _expected(chain, now, seen))
    if stopped:
        alarms.append(stopped)
        forget = []
    return Choice(forget, dict(kept), alarms, stopped, _remember(chain, odd, backdated, now, forget))


def _too_many(count: int, limit: int) -> str:
    if count <= limit:
        return ""
    return (
        f"{count} snapshots would go where at most {limit} are expected: somebody may have added snapshots, or no"
        " prune ran for long; nothing was removed: look at them, then allow that number"
    )


def _by_service(chain: Sequence[Shot]) -> dict[str, list[Shot]]:
    found: dict[str, list[Shot]] = defaultdict(list)
    for shot in chain:
        for service in shot.services:
            found[service].append(shot)
    return dict(sorted(found.items()))


def _keep_whole(
    chain: Sequence[Shot],
    ages: Mapping[str, float],
    odd: Mapping[str, str],
    known: Facts,
    keep: Keep | Mapping[str, Keep] | None,
    kept: dict[str, list[str]],
) -> None:
    """Mark what is kept for itself, not for one of its services."""
    for shot in chain:
        if shot.id in odd and ages[shot.id] <= _longest(keep) * DAY:
            kept[shot.id].append(odd[shot.id])
        if any(_same(shot.id, one) for one in known.pinned):
            kept[shot.id].append("pinned")
        if not shot.services and ages[shot.id] <= _of(keep, "").all_hours * HOUR:
            kept[shot.id].append("recent")


def _of(keep: Keep | Mapping[str, Keep] | None, service: str) -> Keep:
    if isinstance(keep, Mapping):
        return keep.get(service) or keep.get("*") or Keep()
    return keep or Keep()


def _longest(keep: Keep | Mapping[str, Keep] | None) -> float:
    every = [*keep.values(), _of(keep, "")] if isinstance(keep, Mapping) else [_of(keep, "")]
    return max(one.weekly_days for one in every)


def _odd(
    chain: Sequence[Shot], now: float, seen: Seen | None
) -> tuple[dict[str, str], dict[str, float], set[str]]:
    """(id to why it fits no order, id to age in seconds, ids that came backdated).

    The age of one that fits is by its own time, whatever else is there. One that does not is taken for younger
    when it stands between younger ones, never for older; one dated ahead is as old as the next that fits.
    """
    odd: dict[str, str] = {}
    ages: dict[str, float] = {}
    backdated: set[str] = set()
    by_host: dict[str, list[Shot]] = defaultdict(list)
    for shot in chain:
        by_host[shot.host].append(shot)
    for host, shots in by_host.items():
        shots.sort(key=order)
        for shot in shots:
            if _backdated(shot, host, seen):
                backdated.add(shot.id)
                odd[shot.id] = "backdated"
            elif shot.time > now + AHEAD:
                odd[shot.id] = "dated ahead"
        for shot in _twins(shots):
            odd.setdefault(shot.id, "number used twice")
        fit = [shot for shot in shots if shot.id not in odd]
        for shot in _out_of_order(fit):
            odd[shot.id] = "out of order"
        _ages(shots, odd, now, ages)
    return odd, ages, backdated


def _backdated(shot: Shot, host: str, seen: Seen | None) -> bool:
    if seen is None or shot.id in seen.ids:
        return False
    return shot.id in seen.odd or shot.time < seen.newest.get(host, seen.at) - LATE


def _twins(shots: Sequence[Shot]) -> list[Shot]:
    groups: dict[tuple[int, int], list[Shot]] = defaultdict(list)
    for shot in shots:
        groups[(shot.epoch, shot.seq)].append(shot)
    far = [g for g in groups.values() if max(s.time for s in g) - min(s.time for s in g) > TWIN]
    return [shot for group in far for shot in group]


def _out_of_order(shots: Sequence[Shot]) -> list[Shot]:
    """Those outside a longest run in which time never goes back; ``shots`` in order."""
    tails: list[float] = []
    ends: list[int] = []
    before: list[int] = []
    for index, shot in enumerate(shots):
        at = bisect_right(tails, shot.time)
        before.append(ends[at - 1] if at else -1)
        if at == len(tails):
            tails.append(shot.time)
            ends.append(index)
        else:
            tails[at] = shot.time
            ends[at] = index
    inside: set[int] = set()
    index = ends[-1] if ends else -1
    while index >= 0:
        inside.add(index)
        index = before[index]
    return [shot for index, shot in enumerate(shots) if index not in inside]


def _ages(shots: Sequence[Shot], odd: Mapping[str, str], now: float, ages: dict[str, float]) -> None:
    after = now
    for shot in reversed(shots):
        if shot.id not in odd:
            after = min(after, shot.time)
        ages[shot.id] = now - (after if shot.time > now + AHEAD else shot.time)
    before = float("-inf")
    for shot in shots:
        if shot.id not in odd:
            before = max(before, shot.time)
        elif shot.time <= now + AHEAD:
            ages[shot.id] = min(ages[shot.id], now - before)


def _keep_service(
    service: str,
    shots: Sequence[Shot],
    ages: Mapping[str, float],
    odd: Mapping[str, str],
    rules: Keep,
    kept: dict[str, list[str]],
) -> None:
    """Mark what one service keeps of snapshots in order (all known before, or all new)."""
    if not shots:
        return
    kept[shots[-1].id].append(f"newest of {service}")
    fit = [shot for shot in shots if shot.id not in odd]
    if fit and fit[-1] is not shots[-1]:
        kept[fit[-1].id].append(f"newest of {service} in order")
    for shot in fit:
        if ages[shot.id] <= rules.all_hours * HOUR:
            kept[shot.id].append(f"recent of {service}")
    for name, oldest, bucket in rules.spans:
        newest = {bucket(shot.time): shot for shot in fit}  # in order: the last of a bucket stays
        for shot in newest.values():
            if ages[shot.id] <= oldest:
                kept[shot.id].append(f"{name} of {service}")


def _keep_facts(service: str, shots: Sequence[Shot], known: Facts, kept: dict[str, list[str]]) -> None:
    for word, pairs in (("proven", known.proven), ("checked", known.checked)):
        ids = [name for of, name in pairs if of in (service, "*")]
        good = [shot for shot in shots if any(_same(shot.id, name) for name in ids)]
        if good:
            kept[good[-1].id].append(f"newest {word} of {service}")


def _same(full: str, name: str) -> bool:
    """Whether ``name`` is this id, also in restic's short form."""
    return len(name) >= 8 and full.startswith(name)


def _silent(
    service: str,
    shots: Sequence[Shot],
    ages: Mapping[str, float],
    odd: Mapping[str, str],
    rules: Keep,
    known: Facts,
) -> list[str]:
    if known.services and service not in known.services:
        return []
    newest = next((shot for shot in reversed(shots) if shot.id not in odd), shots[-1])
    age = ages[newest.id]
    if age <= rules.all_hours * HOUR:
        return []
    return [
        f"{service} has no good snapshot for {age / DAY:.0f} days: its last one, {newest.id[:8]}, is kept until there is a newer"
    ]


def _about(
    chain: Sequence[Shot], odd: Mapping[str, str], kept: Mapping[str, list[str]], snapshots: Sequence[Shot]
) -> list[str]:
    counts: dict[str, list[str]] = defaultdict(list)
    for shot in chain:
        if shot.id in odd:
            counts[odd[shot.id]].append(shot.id[:8])
    for shot in snapshots:
        for reason in kept.get(shot.id, ()):
            if reason in ("diverged", "without number"):
                counts[reason].append(shot.id[:8])
    told = []
    for reason, ids in sorted(counts.items()):
        many = f"{len(ids)} snapshots are" if len(ids) > 1 else "1 snapshot is"
        told.append(
            f"{many} {reason} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}): kept, and left out of the choice"
        )
    return told


def _expected(chain: Sequence[Shot], now: float, seen: Seen | None) -> int:
    """How many may go: what ticks can have brought since the last run (on the first: since the first snapshot)."""
    since = seen.at if seen is not None else min((shot.time for shot in chain), default=now)
    days = min(max(now - since, 0.0) / DAY, 400.0)
    return ceil(1.5 * TICKS_A_DAY * days) + 50


def _remember(
    chain: Sequence[Shot],
    odd: Mapping[str, str],
    backdated: Collection[str],
    now: float,
    forget: Collection[str],
) -> Seen:
    newest: dict[str, float] = {}
    for shot in chain:
        if shot.id not in odd:
            newest[shot.host] = max(newest.get(shot.host, shot.time), shot.time)
    present = frozenset(shot.id for shot in chain) - frozenset(forget)
    return Seen(now, present - frozenset(backdated), present & frozenset(backdated), newest)
