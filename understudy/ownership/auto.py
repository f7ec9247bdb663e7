"""Auto mode as a watcher decides it: when a lease is over, and what may be done then. Pure, but for the store's two calls.

A lease is over for whoever has seen one ETag for its length and a margin, by its own CLOCK_BOOTTIME; who served has
stopped itself by then (agent/owner/storelease.py). It is taken with that ETag before anything is moved, so an owner that
comes back meanwhile has either renewed it, and keeps its group, or stays down.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..agent.owner import objects, storelease
from ..agent.owner.objects import Place
from ..agent.owner.storelease import Term
from ..errors import BadInput
from ..settings import HostSettings
from . import auto_secrets
from .watching_here import Look

__all__ = [
    "MEMORY",
    "Sight",
    "bars",
    "continues",
    "give_back",
    "now",
    "place",
    "remember",
    "remembered",
    "sight",
    "take",
]

MEMORY = Path(".understudy/leases.json")
_LOST = ("host", "uplink", "services")
"""Causes in which no name of the group is served."""


@dataclass(frozen=True)
class Sight:
    """The lease of a group as it was seen: ``etag`` since ``since`` (CLOCK_BOOTTIME of the boot ``boot``), and its content."""

    etag: str
    since: float
    boot: str
    owner: str
    epoch: int
    seconds: float


def now() -> float:
    """Seconds that no clock change moves. Where they stand still while this machine sleeps, it only waits longer."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def place(settings: HostSettings, values: Mapping[str, str]) -> Place:
    """The store of the leases. Raises BadInput where the inventory has no auto mode, or no key for it."""
    auto = settings.ownership.auto
    if auto is None:
        raise BadInput(
            "--auto needs ownership.auto in the inventory or group_data: no lease says there that an owner is gone"
        )
    missing = [name for name in (auto_secrets.KEY_ID, auto_secrets.KEY) if not values.get(name)]
    if missing:
        raise BadInput(
            f"secrets/{auto_secrets.OWNER}.yaml has no {missing[0]}: `understudy secrets edit {auto_secrets.OWNER}`"
        )
    return objects.place(auto.url, auto.region, values[auto_secrets.KEY_ID], values[auto_secrets.KEY])


def sight(place: Place, group: str, before: Sight | None, now: float, boot: str) -> Sight | None:
    """Look at the lease; None when there is none. Raises AgentError when the store does not say."""
    found = objects.read(place, storelease.key(group))
    if found is None:
        return None
    term = storelease.parse(found.body, storelease.key(group))
    known = before is not None and before.etag == found.etag and before.boot == boot
    since = before.since if known and before else now
    return Sight(found.etag, since, boot, term.owner, term.epoch, term.seconds)


def continues(seen: Sight, epoch: int, heirs: tuple[str, ...]) -> bool:
    """Whether a watcher has taken this lease for an heir and did not get on: the zone is still at the epoch before."""
    return seen.epoch == epoch + 1 and seen.owner in heirs


def bars(
    look: Look, seen: Sight | None, ttl: float, patience: float, now: float, heirs: tuple[str, ...]
) -> str:
    """Why nothing is moved now, in words; "" when it may be."""
    if look.cause not in _LOST or look.seconds < patience:
        return "it is served, or not long enough without"
    if seen is None:
        return f"there is no lease: {look.owner} never took one, so nobody can tell that it stopped"
    if not look.epoch:
        return "no resolver says who owns it"
    if continues(seen, look.epoch, heirs):
        return ""
    if seen.epoch > look.epoch:
        return f"the lease is of epoch {seen.epoch}, and the zone says {look.epoch}: the zone was set back"
    length = max(ttl, seen.seconds)
    if not storelease.expired(length, now - seen.since):
        left = length + storelease.MARGIN - (now - seen.since)
        return f"{seen.owner} may hold its lease for another {left:.0f} s"
    return ""


def take(place: Place, group: str, seen: Sight, target: str, epoch: int, seconds: float) -> None:
    """Take an expired lease for the epoch to come. Raises AgentError kind "lost" when it was renewed meanwhile."""
    if seen.owner == target and seen.epoch == epoch:
        return
    objects.write(
        place, storelease.key(group), storelease.text(Term(group, target, epoch, 1, seconds)), seen.etag
    )


def give_back(place: Place, group: str, seen: Sight, owner: str, epoch: int) -> None:
    """To the owner that the zone names: what it was taken for did not begin, and cannot. Raises AgentError."""
    term = Term(group, owner, epoch, 1, seen.seconds)
    objects.write(place, storelease.key(group), storelease.text(term), seen.etag)


def remembered(memory: Path = MEMORY) -> dict[str, Sight]:
    """What the last run saw; nothing where that cannot be read, which only makes the wait begin anew."""
    try:
        return {name: Sight(**raw) for name, raw in json.loads(memory.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def remember(seen: Mapping[str, Sight], memory: Path = MEMORY) -> None:
    """For the next run."""
    memory.parent.mkdir(parents=True, exist_ok=True)
    temp = memory.with_suffix(".new")
    temp.write_text(json.dumps({name: asdict(one) for name, one in seen.items()}), encoding="utf-8")
    temp.replace(memory)
