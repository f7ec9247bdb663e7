"""The snapshots of a repository, as their tags say; ordered by epoch and sequence, never by their clock."""

from __future__ import annotations

import re
import time
from calendar import timegm
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import AgentError
from . import commands, restic
from .restic import Repo

__all__ = ["Snapshot", "choose", "listed", "newest", "parse"]

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(?:Z|([+-])(\d\d):(\d\d))")


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of ours. ``time`` is when its first dump began, in seconds since the epoch.

    ``services`` are whole in it; ``failed`` were left out of it. ``files`` and ``bytes`` are those of all services.
    ``base`` is what its epoch began from; two snapshots with one ``tree`` hold the same to the byte.
    """

    id: str
    host: str
    time: float
    tags: tuple[str, ...]
    group: str
    tier: str
    epoch: int
    seq: int
    services: tuple[str, ...]
    failed: tuple[str, ...]
    paths: tuple[str, ...]
    files: int = 0
    bytes: int = 0
    base: str = ""
    tree: str = ""

    @property
    def order(self) -> tuple[int, int]:
        """What readers sort by."""
        return self.epoch, self.seq


def listed(repo: Repo, no_lock: bool = True, timeout: float = 300) -> list[Snapshot]:
    """Our snapshots in the repository, oldest first by (epoch, seq); others in it are passed over.

    A service that a later run of the same tick names as failed is not in ``services``: its files there are torn.
    Raises AgentError (kinds of agent/repo/restic.py).
    """
    result = restic.run(repo, commands.snapshots(no_lock), timeout)
    raw = next((line for line in result.lines if isinstance(line, list)), [])
    return untorn(snapshot for snapshot in map(parse, raw or []) if snapshot is not None)


def parse(raw: dict[str, Any]) -> Snapshot | None:
    """A snapshot from restic's JSON; None when its tags are not ours."""
    tags = tuple(raw.get("tags") or ())
    if "understudy" not in tags:
        return None
    values: dict[str, list[str]] = {}
    for tag in tags:
        key, _, value = tag.partition(":")
        values.setdefault(key, []).append(value)
    summary = raw.get("summary") or {}
    try:
        return Snapshot(
            raw["id"],
            str(raw.get("hostname") or ""),
            _seconds(raw["time"]),
            tags,
            values["group"][0],
            values["tier"][0],
            int(values["epoch"][0]),
            int(values["seq"][0]),
            tuple(sorted(values.get("service", []))),
            tuple(sorted(values.get("failed", []))),
            tuple(raw.get("paths") or ()),
            int(summary.get("total_files_processed") or 0),
            int(summary.get("total_bytes_processed") or 0),
            values.get("base", [""])[0],
            str(raw.get("tree") or ""),
        )
    except (KeyError, ValueError):
        return None


def untorn(found: Iterable[Snapshot]) -> list[Snapshot]:
    """Sorted by (epoch, seq); a service that its own tick called failed is taken out of ``services``."""
    ordered = sorted(found, key=_later)
    torn = {(s.host, s.group, s.order, name) for s in ordered for name in s.failed}
    return [_without(s, {n for n in s.services if (s.host, s.group, s.order, n) in torn}) for s in ordered]


def _without(snapshot: Snapshot, names: set[str]) -> Snapshot:
    if not names:
        return snapshot
    whole = tuple(name for name in snapshot.services if name not in names)
    return Snapshot(**{**snapshot.__dict__, "services": whole})


def newest(found: Iterable[Snapshot]) -> Snapshot | None:
    """The last by (epoch, seq); of one tick the later run."""
    return max(found, key=_later, default=None)


def _later(snapshot: Snapshot) -> tuple[tuple[int, int], float, int, str]:
    # Runs of one tick have the same time; the one that names more as failed is the later.
    return snapshot.order, snapshot.time, len(snapshot.failed), snapshot.id


def choose(
    found: Iterable[Snapshot], service: str, at: float | None = None, id: str | None = None
) -> Snapshot:
    """The snapshot to restore ``service`` from: the newest, the newest not after ``at``, or the one that begins with ``id``.

    Raises AgentError kind "no-snapshot" when there is none or the id fits several.
    """
    found = list(found)
    if id:
        return _by_id(found, service, id)
    having = [snapshot for snapshot in found if service in snapshot.services]
    if not having:
        raise AgentError(f"no snapshot holds {service}", "no-snapshot")
    # By the clock only where the operator names a moment; among those the order decides, not the clock.
    chosen = newest(s for s in having if at is None or s.time <= at)
    if chosen is None:
        first = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(s.time for s in having)))
        raise AgentError(f"no snapshot of {service} is that old: the first is from {first}", "no-snapshot")
    return chosen


def _by_id(found: list[Snapshot], service: str, id: str) -> Snapshot:
    fitting = [snapshot for snapshot in found if snapshot.id.startswith(id)]
    if not fitting:
        raise AgentError(f"there is no snapshot {id}", "no-snapshot")
    if len(fitting) > 1:
        raise AgentError(f"{id} begins {len(fitting)} snapshots: give more of it", "no-snapshot")
    if service not in fitting[0].services:
        held = ", ".join(fitting[0].services) or "nothing whole"
        raise AgentError(f"snapshot {id[:8]} does not hold {service}; it holds {held}", "no-snapshot")
    return fitting[0]


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a time")
    whole = timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S"))
    shift = (int(match[4]) * 3600 + int(match[5]) * 60) * (1 if match[3] == "+" else -1) if match[3] else 0
    return whole + float(match[2] or 0) - shift
