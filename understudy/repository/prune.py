"""Forget and prune: the only verbs that take something out of a repository, with the admin key alone.

A killed prune leaves an exclusive lock that stops every backup for half an hour. So each slice is short, an ended
one is looked at at once, and the next start takes away what a killed one left (see ``identity``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..errors import Refused, UnderstudyError
from . import identity, listing, retention
from .restic import AdminRepository, ResticError, Session, opened

__all__ = ["Limits", "Lock", "forget", "health", "locks", "prune", "tidy", "unlock", "worries"]

OVERDUE = 8 * 86400.0
TAMPER_OVERDUE = 40 * 86400.0
DEAD = 30 * 60.0  # restic renews a living lock every five minutes and gives it up after this
_BATCH = 200
_MOST_LOCKS = 50
_TO_REPACK = re.compile(r"^to repack:\s+(\d+) blobs", re.MULTILINE)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """``repack``: restic's size of one slice; ``seconds``: for all slices; ``slices``: at most so many."""

    repack: str = "1G"
    seconds: float = 3600
    slices: int = 50


@dataclass(frozen=True)
class Lock:
    """A lock as it lies in the repository; ``time`` in seconds since the epoch."""

    id: str
    time: float
    exclusive: bool
    host: str
    pid: int
    user: str = ""

    def sentence(self, now: float) -> str:
        """For people."""
        kind = "an exclusive lock" if self.exclusive else "a lock"
        return f"{kind} of {self.host} (process {self.pid}, {(now - self.time) / 60:.0f} min old)"


def locks(session: Session, timeout: float = 120) -> list[Lock]:
    """All locks there are, read without taking one. One that vanishes meanwhile or is damaged is left out."""
    found = []
    ids = session.run(["list", "locks"], timeout).lines
    for name in [line.strip() for line in ids if re.fullmatch(r"[0-9a-f]{64}", line.strip())][:_MOST_LOCKS]:
        with contextlib.suppress(ResticError, KeyError, ValueError, TypeError):
            text = "\n".join(session.run(["cat", "lock", name], timeout).lines)
            found.append(_lock(name, json.loads(text)))
    return found


def _lock(name: str, raw: Mapping[str, Any]) -> Lock:
    # Nine digits of a second are more than datetime reads.
    stamp = re.sub(r"(\.\d{6})\d+", r"\1", raw["time"].replace("Z", "+00:00"))
    return Lock(
        name,
        datetime.fromisoformat(stamp).timestamp(),
        bool(raw.get("exclusive")),
        str(raw.get("hostname", "")),
        int(raw.get("pid", 0)),
        str(raw.get("username", "")),
    )


def dead(found: Sequence[Lock], me: str, separate: bool, now: float) -> tuple[list[Lock], list[Lock]]:
    """(our own dead locks, others' that are past restic's half hour), of the locks found.

    With a host name of our own every lock that carries it is dead, because whoever asks holds ``only_one``. With
    the machine's name only one whose process does not exist is. A clock that is wrong finds no lock of others.
    """
    mine = [one for one in found if one.host == me and (separate or not _lives(one.pid))]
    skewed = any(one.time > now + 300 for one in found)
    old = [] if skewed else [one for one in found if one not in mine and now - one.time > 2 * DEAD]
    return mine, old


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def unlock(session: Session, held: int, timeout: float = 120, now: float | None = None) -> list[Lock]:
    """Take away our own dead locks, and others' that are twice past restic's limit. Returns them.

    Only under ``only_one`` (``held`` is its descriptor). Never `--remove-all`: living locks stay.
    """
    moment = time.time() if now is None else now
    mine, old = dead(locks(session), identity.host(), identity.separate(), moment)
    if mine or old:
        session.run(["unlock"], timeout, lock=True, alone=identity.separate(), pass_fds=(held,))
    return [*mine, *old]


def forget(session: Session, ids: Sequence[str], held: int, say: Say | None = None) -> int:
    """Remove snapshots by explicit id, in batches. Returns how many. Raises ResticError."""
    done = 0
    for start in range(0, len(ids), _BATCH):
        batch = list(ids[start : start + _BATCH])
        argv = ["forget", "--json", "--retry-lock", "5m", *batch]
        session.run(argv, 1800, lock=True, pass_fds=(held,))
        done += len(batch)
        if say is not None:
            say(f"forgot {done} of {len(ids)} snapshots")
    return done


def prune(
    session: Session,
    held: int,
    limits: Limits | None = None,
    say: Say | None = None,
    on_start: Callable[[int], None] | None = None,
) -> tuple[int, bool]:
    """Free what no snapshot needs, slice by slice. Returns (slices, whether nothing is left to repack).

    ``on_start`` hears the process id of each slice. Raises ResticError; a slice that was killed has its lock
    taken away first.
    """
    bounds = limits or Limits()
    end = time.monotonic() + bounds.seconds
    for count in range(1, bounds.slices + 1):
        left = end - time.monotonic()
        if left < 1:
            return count - 1, False
        argv = ["prune", "--retry-lock", "5m", "--max-repack-size", bounds.repack]
        try:
            result = session.run(argv, left, lock=True, pass_fds=(held,), on_start=on_start)
        except ResticError as error:
            if error.kind == "interrupted":
                with contextlib.suppress(ResticError):
                    unlock(session, held)
                if error.code == 124:  # the time is over, not a failure: the next prune goes on from here
                    return count - 1, False
            raise
        match = _TO_REPACK.search("\n".join(result.lines))
        if say is not None:
            say(f"slice {count}: {match[1] if match else 'unknown number of'} blobs repacked")
        if match is None or match[1] == "0":
            return count, True
    return bounds.slices, False


@dataclass
class _Work:
    repository: AdminRepository
    known: retention.Facts
    keep: retention.Keep | Mapping[str, retention.Keep] | None
    limits: Limits | None
    most: int | None
    say: Say | None
    on_start: Callable[[int], None] | None
    record: dict[str, Any] = field(default_factory=dict)


def tidy(
    repository: AdminRepository,
    known: retention.Facts,
    *,
    keep: retention.Keep | Mapping[str, retention.Keep] | None = None,
    limits: Limits | None = None,
    most: int | None = None,
    dry_run: bool = False,
    switchover: str = "",
    say: Say | None = None,
    on_start: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Choose, forget, prune, and mark the day. Returns a ledger record of kind ``prune``.

    Its ``alarms`` are sentences for the owner; ``ok`` is False when the choice was stopped. ``most`` allows a
    number of removals; ``switchover`` names one that is under way. Raises Refused (a switchover, a repository
    that is not ours, another run) and ResticError.
    """
    if switchover:
        raise Refused(f"{repository.label}: not pruned while the switchover {switchover} is under way")
    started = time.monotonic()
    work = _Work(repository, known, keep, limits, most, say, on_start)
    work.record = {
        "kind": "prune",
        "repository": repository.name,
        "group": repository.group,
        "ok": True,
        "error": None,
    }
    with identity.only_one(repository.url, repository.label) as held, opened(repository) as session:
        _tidy(work, session, held, dry_run)
    work.record["seconds"] = round(time.monotonic() - started, 3)
    work.record["at"] = round(time.time(), 3)
    return work.record


def _tidy(work: _Work, session: Session, held: int, dry_run: bool) -> None:
    found = listing.listed(session)
    listing.must_be_ours(found, work.repository.label)
    choice = retention.choose(
        found.snapshots, work.known, time.time(), work.keep, _recall(work.repository), work.most
    )
    work.record |= {
        "snapshots": len(found.snapshots),
        "strangers": len(found.strangers),
        "forgot": choice.forget,
        "alarms": choice.alarms,
    }
    if choice.stopped:
        work.record |= {"ok": False, "error": choice.stopped}
    if dry_run or choice.stopped:
        return
    removed = unlock(session, held)
    work.record["unlocked"] = [one.sentence(time.time()) for one in removed]
    forget(session, choice.forget, held, work.say)
    _remember(work.repository, choice.seen)
    slices, whole = prune(session, held, work.limits, work.say, work.on_start)
    work.record |= {"slices": slices, "complete": whole}
    listing.mark(session, listing.PRUNED, pass_fds=(held,))
    forget(session, [*sorted(found.pruned), *listing.older_tests(found)], held)


def _recall(repository: AdminRepository) -> retention.Seen | None:
    try:
        return retention.Seen.parse(json.loads(_memory(repository).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(repository: AdminRepository, seen: retention.Seen) -> None:
    path = _memory(repository)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(seen.plain()), encoding="utf-8")
    fresh.replace(path)


def _memory(repository: AdminRepository) -> Any:
    return identity.state_folder() / f"{identity.key(repository.url)}.seen.json"


def worries(found: listing.Listing, there: Sequence[Lock], now: float, *, tamper: bool = False) -> list[str]:
    """What is wrong with a repository's upkeep, a sentence each. ``tamper``: its store is one the test is for. Pure."""
    told = []
    for lock in there:
        if now - lock.time > DEAD:
            told.append(
                f"{lock.sentence(now)} is stale: it stops prune until `understudy repo prune` takes it away"
            )
    first = min((one.time for one in found.snapshots), default=now)
    last = found.last_prune
    if last is not None and last > now + 300:
        told.append("the mark of the last prune is dated in the future: look at the clocks")
    elif now - (last if last is not None else first) > OVERDUE:
        since = f"since {(now - last) / 86400:.0f} days" if last is not None else "ever"
        told.append(f"no prune ended well {since}: run `understudy repo prune`")
    tested = found.last_tamper if found.last_tamper is not None else first
    if tamper and now - tested > TAMPER_OVERDUE:
        since = f"since {(now - tested) / 86400:.0f} days" if found.last_tamper is not None else "ever"
        told.append(f"the tamper test was not passed {since}: run `understudy repo tamper`")
    if not listing.ours(found):
        told.append(
            f"Understudy did not make this repository ({len(found.strangers)} snapshots of others): it is not pruned"
        )
    return told


def health(repository: AdminRepository, now: float | None = None) -> list[str]:
    """What is wrong with a repository's upkeep; empty when nothing. Takes no lock. Never raises for its state."""
    moment = time.time() if now is None else now
    try:
        with opened(repository) as session:
            found = worries(listing.listed(session), locks(session), moment)
    except UnderstudyError as error:
        return [str(error)]
    return [f"{repository.label}: {sentence}" for sentence in found]
