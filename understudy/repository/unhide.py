"""Rebuild a moment: the repository as it was at a time, from the versions its store keeps, with the admin key.

Nothing is lost by it: an overwritten object is copied back over the present one, an object added since is hidden,
and only delete markers are removed. So a rebuilt moment can itself be left for a later one.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..agent.repo.snapshots import Snapshot
from ..errors import BadInput, Refused, UnderstudyError
from . import listing
from .objects import THREADS, Bucket, Version
from .restic import AdminRepository, opened

__all__ = ["Change", "Moment", "moment", "unhide"]

KINDS = ("config", "keys", "index", "snapshots", "data")
# What others need comes back first and goes last, so that a run broken off leaves no snapshot without its data.
_BACK = (("data",), ("index",), ("snapshots", "keys", "config"))
_AWAY = (("snapshots", "keys", "config"), ("index",), ("data",))

Say = Callable[[str], None]


@dataclass(frozen=True)
class Change:
    """What one object needs. ``how``: show (remove delete markers), restore (copy a version back), hide (added since)."""

    how: str
    kind: str
    key: str
    version: Version | None = None
    markers: tuple[Version, ...] = ()


@dataclass
class Moment:
    """``then``: the version of each object at that time. ``lost``: keys that were there and are gone for good."""

    changes: list[Change] = field(default_factory=list)
    then: dict[str, Version] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    first: float | None = None

    def counts(self) -> dict[str, dict[str, int]]:
        """How many, by what is done and by kind of object."""
        found: dict[str, Counter[str]] = {"show": Counter(), "restore": Counter(), "hide": Counter()}
        for change in self.changes:
            found[change.how][change.kind] += 1
        return {how: dict(sorted(numbers.items())) for how, numbers in found.items()}


def kind_of(key: str, prefix: str) -> str:
    """The kind of a repository's object, "" for locks and what is not restic's."""
    name = key[len(prefix) :].split("/", 1)[0]
    return name if name in KINDS else ""


def moment(
    versions: Mapping[str, Sequence[Version]], prefix: str, to: float, keep_added: bool = False
) -> Moment:
    """What differs from ``to`` (seconds since the epoch, the whole second counts). Pure.

    ``versions``: newest first, by key. Locks stay as they are today.
    """
    found = Moment()
    for key, entries in sorted(versions.items()):
        kind = kind_of(key, prefix)
        if not kind or not entries:
            continue
        if kind == "config":
            found.first = min(entry.time for entry in entries)
        then = _at(entries, to)
        if then is None and entries[-1].marker and entries[-1].time > to:
            found.lost.append(key)  # it was hidden after that time, and what was hidden is no longer kept
            continue
        if then is not None:
            found.then[key] = then
        change = _change(kind, key, entries, then)
        if change is not None and not (keep_added and change.how == "hide"):
            found.changes.append(change)
    return found


def _at(entries: Sequence[Version], to: float) -> Version | None:
    """The object as it was, None when it was not there."""
    past = [entry for entry in entries if entry.time < to // 1 + 1]
    if not past:
        return None
    if not past[0].marker:
        return past[0]
    # Stores date to the second. Written and hidden within one: take it for written, more does no harm.
    tied = [entry for entry in past if not entry.marker and entry.time == past[0].time]
    return tied[0] if tied and not past[0].latest else None


def _change(kind: str, key: str, entries: Sequence[Version], then: Version | None) -> Change | None:
    now = entries[0]
    if then is None:
        return None if now.marker else Change("hide", kind, key)
    if not now.marker:
        same = now.id == then.id or (now.size == then.size and now.etag == then.etag and bool(now.etag))
        return None if same else Change("restore", kind, key, then)
    markers = []
    for entry in entries:
        if not entry.marker:
            break
        markers.append(entry)
    below = entries[len(markers)]
    if below.id == then.id:
        return Change("show", kind, key, then, tuple(markers))
    return Change("restore", kind, key, then)


def unhide(
    repository: AdminRepository,
    to: float,
    *,
    dry_run: bool = True,
    keep_added: bool = False,
    partly: bool = False,
    say: Say | None = None,
) -> dict[str, Any]:
    """Make an S3 repository what it was at ``to``. Returns a record with counts; changes nothing with ``dry_run``.

    ``repository`` holds the admin key. ``keep_added``: leave what was added since. ``partly``: go on although not
    everything of that moment is left. The record: changes (how → kind → number), objects, lost, missing_blobs,
    warnings, snapshots (how many there were), newest (service → [epoch, seq, time]), snapshots_hidden, seconds.
    Raises BadInput, Refused (a moment that cannot be rebuilt, before anything changes), StoreError, ResticError.
    """
    started = time.monotonic()
    if to > time.time():
        raise BadInput(f"{repository.label}: the moment to rebuild lies in the future")
    bucket = Bucket(repository)
    warnings = _warnings(bucket, to)
    found = moment(bucket.versions(), bucket.place.prefix, to, keep_added)
    _told(say, f"{len(found.then)} objects at that moment, {len(found.changes)} differ now")
    record: dict[str, Any] = {
        "kind": "unhide",
        "repository": repository.name,
        "group": repository.group,
        "to": to,
        "dry_run": dry_run,
        "changes": found.counts(),
        "objects": len(found.then),
        "lost": len(found.lost),
        "warnings": warnings,
    }
    record["snapshots_hidden"] = record["changes"]["hide"].get("snapshots", 0)
    record |= _prove(repository, bucket, found, to, partly)
    if not dry_run and found.changes:
        _apply(bucket, found.changes, say)
        left = moment(bucket.versions(), bucket.place.prefix, to, keep_added)
        if left.changes:
            raise UnderstudyError(
                f"{repository.label}: {len(left.changes)} objects are still not as they were: somebody writes to"
                " the repository; take the host's key away, then run it again"
            )
    return record | {
        "ok": True,
        "error": None,
        "seconds": round(time.monotonic() - started, 3),
        "at": round(time.time(), 3),
    }


def _warnings(bucket: Bucket, to: float) -> list[str]:
    keeps = bucket.keeps_versions()
    if keeps is False:
        raise Refused(
            f"{bucket.label}: the bucket {bucket.place.bucket} keeps no versions: no moment can be rebuilt"
        )
    told = [] if keeps else [f"the store does not say whether {bucket.place.bucket} keeps versions"]
    days = bucket.days_kept()
    if days is not None and time.time() - to > days * 86400:
        told.append(f"the bucket removes what is hidden for {days} days, and that moment is older")
    return told


def _prove(
    repository: AdminRepository, bucket: Bucket, found: Moment, to: float, partly: bool
) -> dict[str, Any]:
    """Open that moment with restic, from a local copy of its small files, before anything changes."""
    kinds = Counter(kind_of(key, bucket.place.prefix) for key in found.then)
    if not kinds["config"] or not kinds["keys"]:
        since = (
            f"its first version is of {_date(found.first)}"
            if found.first is not None and found.first > to
            else "its config or its keys of that time are not kept"
        )
        raise Refused(f"{repository.label}: there is no repository of {_date(to)} to rebuild: {since}")
    with tempfile.TemporaryDirectory(prefix="understudy-moment-") as folder:
        _download(bucket, found.then, folder)
        listed, missing = _look(repository, folder)
    facts: dict[str, Any] = {
        "missing_blobs": missing,
        "snapshots": len(listed.snapshots),
        "newest": _newest(listed.snapshots),
    }
    if (missing or found.lost) and not partly:
        raise Refused(
            f"{repository.label}: the moment {_date(to)} cannot be rebuilt whole: {missing} pieces of data and"
            f" {len(found.lost)} objects of it are no longer kept; nothing was changed: choose a later moment, or"
            " allow a part of it"
        )
    return facts


def _date(moment: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment or 0))


def _download(bucket: Bucket, then: Mapping[str, Version], folder: str) -> None:
    def one(version: Version) -> None:
        name = version.key[len(bucket.place.prefix) :]
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith("data/"):
            # Only its name and size matter here: a hole takes no room.
            path.touch(0o600)
            os.truncate(path, version.size)
        else:
            path.write_bytes(bucket.read(version))

    for kind in KINDS:
        Path(folder, kind).mkdir(exist_ok=True) if kind != "config" else None
    Path(folder, "locks").mkdir()
    _each(one, then.values())


def _look(repository: AdminRepository, folder: str) -> tuple[listing.Listing, int]:
    """(the snapshots of that moment, how many blobs its index names whose packs are gone)."""
    view = replace(repository, url=folder, aws=None, rest=None, options=())
    with tempfile.TemporaryDirectory(prefix="understudy-cache-") as cache:
        view = replace(view, cache_dir=cache)
        with opened(view) as session:
            found = listing.listed(session)
            before = set(session.run(["list", "blobs"], 600).lines)
            # It drops from the (copied) index every pack that is not there in full, and merges what stays.
            session.run(["repair", "index"], 1800, lock=True)
            after = set(session.run(["list", "blobs"], 600).lines)
    return found, len(before - after)


def _newest(snapshots: Iterable[Snapshot]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for snapshot in snapshots:  # in order
        for service in snapshot.services:
            found[service] = [snapshot.epoch, snapshot.seq, snapshot.time]
    return found


def _apply(bucket: Bucket, changes: Sequence[Change], say: Say | None) -> None:
    done = 0
    for hows, order in ((("show", "restore"), _BACK), (("hide",), _AWAY)):
        for kinds in order:
            part = [change for change in changes if change.how in hows and change.kind in kinds]
            _each(lambda change: _do(bucket, change), part)
            done += len(part)
            if part:
                _told(say, f"{done} of {len(changes)} objects done")


def _do(bucket: Bucket, change: Change) -> None:
    if change.how == "hide":
        bucket.hide(change.key)
    elif change.how == "show":
        for marker in change.markers:
            bucket.remove(marker)
    elif change.version is not None:
        bucket.bring_back(change.version)


def _each(do: Callable[[Any], None], items: Iterable[Any]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(do, items):
            pass


def _told(say: Say | None, text: str) -> None:
    if say is not None:
        say(text)
