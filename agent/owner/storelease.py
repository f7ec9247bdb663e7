"""The lease of a group in auto mode: an object in a store with conditional writes, renewed by the host that serves.

Who serves renews every 30 s, each time with the ETag of the time before; its right to serve ends MARGIN before the
lease's length, counted by CLOCK_BOOTTIME from before the last renewal that was answered. Whoever wants to take over
must have seen one ETag for the whole length and MARGIN more (``expired``), by its own CLOCK_BOOTTIME, and takes it with
that ETag. So between the old owner's last moment and the new one's first lie twice the margin, whatever the clocks
say and however long an answer was under way: a renewal that arrives late makes the ETag another one.

The lease alone lets nobody run: the guard's table does (agent/owner/decide.py). A host that is named with an epoch not
lower than the lease's takes it over at once: its batch has won, so nobody else is named.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass

from .. import lock
from ..data import ledger
from ..errors import AgentError, because
from ..may import note
from ..root import Root
from ..say import say
from . import objects
from .objects import Lost, Place
from .plan import Auto
from .state import HERE, boottime

__all__ = [
    "MARGIN",
    "Right",
    "Term",
    "boot_id",
    "drop",
    "expired",
    "held",
    "key",
    "parse",
    "place_of",
    "renew",
    "text",
]

MARGIN = 60.0
"""Seconds, on both sides."""
_TRIES = 3
_RUN = secrets.token_hex(8)


@dataclass(frozen=True)
class Term:
    """What stands in the object. ``count`` makes each renewal another content; ``seconds``: the lease's length."""

    group: str
    owner: str
    epoch: int
    count: int
    seconds: float


@dataclass(frozen=True)
class Right:
    """What this host remembers of it in this boot. ``until`` by CLOCK_BOOTTIME; ``why`` says who has it, when it is lost."""

    etag: str = ""
    count: int = 0
    until: float = 0.0
    why: str = ""

    @property
    def good(self) -> bool:
        """Whether this host may serve now."""
        return boottime() < self.until


def key(group: str) -> str:
    """The object's name below the place."""
    return f"lease-{group}.json"


def text(term: Term) -> bytes:
    """The object's content."""
    return json.dumps(asdict(term), sort_keys=True).encode() + b"\n"


def parse(body: bytes, name: str) -> Term:
    """Raises AgentError kind "broken": nobody can tell then who serves."""
    try:
        raw = json.loads(body)
        return Term(
            str(raw["group"]), str(raw["owner"]), int(raw["epoch"]), int(raw["count"]), float(raw["seconds"])
        )
    except (ValueError, KeyError, TypeError):
        raise AgentError(
            f"{name} in the store of the lease is none of ours: look who wrote it", "broken"
        ) from None


def boot_id() -> str:
    """This boot's name. Where the kernel has none it is this run's: what was seen before it counts for nothing then."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return _RUN


def expired(seconds: float, seen_for: float) -> bool:
    """Whether a lease of this length is over, to somebody who has seen one ETag for so long (seconds)."""
    return seen_for >= seconds + MARGIN


def _path(group: str) -> str:
    return f"{HERE}/lease-{group}.json"


def held(root: Root, group: str) -> Right:
    """This host's right; none before its first renewal in this boot."""
    try:
        with open(root.at(_path(group)), encoding="utf-8") as stream:
            return Right(**json.load(stream))
    except (FileNotFoundError, ValueError, TypeError):
        return Right()


def drop(root: Root, group: str) -> None:
    """This host does not serve it: nothing to renew."""
    with suppress(FileNotFoundError):
        os.unlink(root.at(_path(group)))


def place_of(root: Root, auto: Auto) -> Place:
    """The store, with the key that lies on this host. Raises AgentError."""
    try:
        with open(root.at(auto.key), encoding="utf-8") as stream:
            return objects.place(auto.url, auto.region, *objects.key_of(stream.read()))
    except OSError as error:
        raise AgentError(f"{auto.key} cannot be read: {because(error)}", "no-secret") from error


def renew(root: Root, auto: Auto, group: str, host: str, epoch: int) -> Right:
    """Renew or take over; what became of the right. A store that does not answer leaves it as it was."""
    with lock.exclusive(root, f"lease-{group}", f"the lease of {group}", 20, say):
        before = held(root, group)
        try:
            mine = Term(group, host, epoch, before.count, auto.seconds)
            after = _renewed(place_of(root, auto), mine, before)
        except AgentError as error:
            after = Right(before.etag, before.count, before.until, error.sentence)
        note(root.at(_path(group)), json.dumps(asdict(after)))
    if after.good != before.good or (after.why != before.why and not after.good):
        ledger.add(root, "lease", ok=after.good, group=group, epoch=epoch, why=after.why)
    return after


def _renewed(place: Place, mine: Term, known: Right) -> Right:
    etag, count = known.etag, known.count
    for _ in range(_TRIES):
        if not etag and (found := objects.read(place, key(mine.group))) is not None:
            other = parse(found.body, f"{place.prefix}{key(mine.group)}")
            if other.epoch > mine.epoch:
                return Right(
                    why=f"{other.owner} has the lease of epoch {other.epoch}, and this is {mine.epoch}"
                )
            etag, count = found.etag, other.count
        began = boottime()
        try:
            term = Term(mine.group, mine.owner, mine.epoch, count + 1, mine.seconds)
            etag = objects.write(place, key(mine.group), text(term), etag)
            return Right(etag, term.count, began + mine.seconds - MARGIN)
        except Lost:
            etag = ""
    raise AgentError(f"the lease of {mine.group} is written by somebody else all the time", "busy")
