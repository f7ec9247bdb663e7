"""What the backup ticks of this host remember between runs: /var/lib/understudy/backup/state.json.

Losing it costs nothing but a little time: sequence numbers and parents are learnt again from the repositories.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..disk import Disk
from ..may import GUARD_PLAN
from ..owner import state as owner
from ..root import STATE, Root

__all__ = ["FOLDER", "Good", "State", "base", "epoch", "load", "seen"]

FOLDER = f"{STATE}/backup"
_FILE = f"{FOLDER}/state.json"
_FORMAT = 1
_SHRINK_PIN = 30 * 86400


@dataclass
class Good:
    """The last good backup of a service in one repository.

    ``at`` is when its first dump began and ``ended`` when restic was done, by this host's clock; ``real`` the kernel's
    clock at the same moment as ``at``, which is what file times are in. ``rows`` over all tables, None without any.
    """

    snapshot: str
    group: str
    tier: str
    epoch: int
    seq: int
    services: list[str]
    at: float
    ended: float
    real: float
    files: int = 0
    bytes: int = 0
    rows: int | None = None


@dataclass
class State:
    """``good`` and ``pinned`` are by repository key, then service.

    A pin {"snapshot", "seq", "epoch", "group", "why", "since", "until", "files", "bytes", "rows"} is a snapshot that
    must outlive any retention; ``until`` null: as long as the service has no good backup. ``known`` are "KEY/GROUP"
    whose snapshots were looked at; ``dumps`` the bytes of a service's last dumps; ``quiesced`` the night of its last
    one; ``coverage`` when that was last looked at; ``writing`` the "KEY/GROUP" that a tick may hold restic's lock of,
    empty once it has ended; ``heir`` those in which a lock of the machine before this one may be left; ``epochs``: group
    to the highest epoch in a repository, when that was first looked at.
    Only who holds the lock "data" writes it; verify and copies keep books of their own.
    """

    seq: int = 0
    known: list[str] = field(default_factory=list)
    good: dict[str, dict[str, Good]] = field(default_factory=dict)
    pinned: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    dumps: dict[str, int] = field(default_factory=dict)
    quiesced: dict[str, str] = field(default_factory=dict)
    coverage: float = 0.0
    writing: list[str] = field(default_factory=list)
    heir: list[str] = field(default_factory=list)
    epochs: dict[str, int] = field(default_factory=dict)

    def last(self, key: str, service: str) -> Good | None:
        """The last good backup of a service in a repository."""
        return self.good.get(key, {}).get(service)

    def parent(self, key: str, group: str, services: tuple[str, ...]) -> str:
        """The snapshot that spares the most reading: the one with most of these services, the newest of those; or ""."""
        candidates = [good for good in self.good.get(key, {}).values() if good.group == group]
        wanted = set(services)
        best = max(candidates, key=lambda g: (len(wanted & set(g.services)), g.epoch, g.seq), default=None)
        return best.snapshot if best else ""

    def forget(self, key: str, group: str) -> None:
        """Look at this repository's snapshots again next time: what we remembered of them is not there."""
        mark = f"{key}/{group}"
        self.known = [name for name in self.known if name != mark]
        kept = {name: good for name, good in self.good.get(key, {}).items() if good.group != group}
        self.good[key] = kept

    def pin(self, key: str, service: str, why: str, now: float, shrunk: bool = False) -> None:
        """Keep the last good snapshot of a service; one that is pinned already for a failure stays as it is."""
        good = self.last(key, service)
        if good and service not in self.pinned.get(key, {}):
            self.pinned.setdefault(key, {})[service] = {
                "snapshot": good.snapshot, "seq": good.seq, "epoch": good.epoch, "group": good.group,
                "why": why, "since": now, "until": now + _SHRINK_PIN if shrunk else None,
                "files": good.files, "bytes": good.bytes, "rows": good.rows,
            }  # fmt: skip

    def unpin(self, key: str, service: str, now: float) -> None:
        """After a good backup: pins for failures go, those for a shrunken source when their time is over."""
        pin = self.pinned.get(key, {}).get(service)
        if pin and (pin["until"] is None or pin["until"] < now):
            del self.pinned[key][service]

    def before_loss(self, key: str, service: str, snapshot: str) -> tuple[Good, Good] | None:
        """(what is pinned, the last one), when ``snapshot`` is the last and a pin says that it shrank; else None.

        Sizes of 0 are not known: every snapshot has its manifest.
        """
        last, pin = self.last(key, service), self.pinned.get(key, {}).get(service)
        if not last or not pin or last.snapshot != snapshot or pin["until"] is None or not last.files:
            return None
        sizes = (pin.get("files") or 0, pin.get("bytes") or 0, pin.get("rows"))
        return Good(pin["snapshot"], pin["group"], "", pin["epoch"], pin["seq"], [], 0, 0, 0, *sizes), last

    def save(self, disk: Disk) -> None:
        """Write it, durably and at once."""
        disk.private_dir(FOLDER)
        raw = {"format": _FORMAT, **self.__dict__}
        raw["good"] = {key: {n: g.__dict__ for n, g in goods.items()} for key, goods in self.good.items()}
        disk.replace(_FILE, json.dumps(raw, indent=1, sort_keys=True).encode() + b"\n")


def load(root: Root) -> State:
    """The state; an empty one when there is none or it cannot be understood (it is then learnt again)."""
    raw = seen(root, _FILE)
    if not isinstance(raw, dict) or raw.get("format") != _FORMAT:
        return State()
    try:
        values = {key: value for key, value in raw.items() if key in State.__dataclass_fields__}
        values["good"] = {
            key: {name: Good(**good) for name, good in goods.items()} for key, goods in raw["good"].items()
        }
        return State(**values)
    except (KeyError, TypeError, AttributeError):
        return State()


def epoch(root: Root, group: str, known: int = 0) -> int:
    """The epoch of a move group on this host; 1 until ownership has ever moved. Raises AgentError when damaged.

    ``known``: the highest in the repository. It counts on a machine that remembers none and has no guard to learn it from:
    the new one of an owner who once had a replica. Its snapshots must not be older than those it was restored from.
    """
    return max(1, owner.load(root, group).epoch or (0 if os.path.exists(root.at(GUARD_PLAN)) else known))


def base(root: Root, group: str) -> str:
    """The snapshot that the group's epoch began from, as HOST:EPOCH:SEQ; "" for the first. Raises AgentError."""
    return owner.load(root, group).base


def seen(root: Root, path: str, fallback: Callable[[], Any] = lambda: None) -> Any:
    """A JSON file of ours, or the fallback when it is missing or damaged."""
    try:
        with open(root.at(path), encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return fallback()
