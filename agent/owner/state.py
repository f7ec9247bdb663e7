"""What a host remembers of a group's ownership: /var/lib/understudy/owner/GROUP.json, and this boot's marks in /run.

Kept for good: the highest epoch seen and who owned it. Gone with the boot: that the guard allowed the group
(agent/may.py), grants, freezes (agent/owner/lease.py). Times of leases are CLOCK_BOOTTIME: no clock change moves them.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from ..disk import Disk
from ..errors import AgentError, because
from ..may import note
from ..remembered import FOLDER, FORMAT
from ..root import RUN, Root
from .record import Ownership

__all__ = [
    "FOLDER",
    "HERE",
    "Grant",
    "Held",
    "boot",
    "boottime",
    "granted",
    "hear",
    "load",
    "off",
    "revoke",
    "save",
    "set_grant",
    "set_off",
    "silence",
    "since_boot",
]

HERE = f"{RUN}/owner"
_OFF = f"{FOLDER}/guard-off"
_HISTORY = 200


@dataclass
class Held:
    """``epoch`` is the highest seen, ``owner`` who owned the group then, ``base`` and ``nonce`` as in the record.

    ``at``: the last answer, by the host's clock; ``boottime``: by CLOCK_BOOTTIME. ``history``: epoch (as text) to
    {"owner", "base"}. ``ran``: the epoch in which the guard last let it run here. ``promoted``: the nonce of the batch
    for which the live data was put here, "" for data of its own. ``moved``: epochs this host was demoted from:
    [{"epoch", "at", "until", "diverged"}].
    """

    group: str
    epoch: int = 0
    owner: str = ""
    base: str = ""
    nonce: str = ""
    ran: int = 0
    promoted: str = ""
    at: float = 0.0
    boottime: float = 0.0
    history: dict[str, dict[str, str]] = field(default_factory=dict)
    moved: list[dict[str, Any]] = field(default_factory=list)

    def learn(self, answer: Ownership, at: float) -> bool:
        """Take an answer whose epoch is not lower. Returns whether anything but the time of it is new."""
        new = (answer.epoch, answer.owner, answer.base, answer.nonce)
        changed = new != (self.epoch, self.owner, self.base, self.nonce)
        self.epoch, self.owner, self.base, self.nonce = new
        self.at, self.boottime = round(at, 3), round(boottime(), 3)
        self.history[str(answer.epoch)] = {"owner": answer.owner, "base": answer.base}
        for old in sorted(self.history, key=int)[:-_HISTORY]:
            del self.history[old]
        return changed


@dataclass(frozen=True)
class Grant:
    """Leave to run a group behind the fence before any record names this host; ``until`` by CLOCK_BOOTTIME.

    ``ready``: all of the group's data is in its place, so that the record may lift the fence.
    """

    group: str
    epoch: int
    nonce: str
    base: str
    until: float
    ready: bool = False


def boottime() -> float:
    """Seconds since the kernel started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def hear(root: Root, group: str) -> None:
    """A resolver has answered now; of this boot only, and written at each look, which would wear a disk."""
    note(root.at(f"{HERE}/heard-{group}"), f"{boottime():.1f}")


def silence(root: Root, group: str) -> float | None:
    """Seconds since a resolver last answered, whatever the clocks say; None when none has since the boot."""
    try:
        with open(root.at(f"{HERE}/heard-{group}"), encoding="utf-8") as stream:
            return max(0.0, boottime() - float(stream.read()))
    except (OSError, ValueError):
        return None


def _path(group: str) -> str:
    return f"{FOLDER}/{group}.json"


def load(root: Root, group: str) -> Held:
    """The memory of a group; a new one when there is none. Raises AgentError when damaged: guessing is no safe way."""
    path = _path(group)
    try:
        with open(root.at(path), encoding="utf-8") as stream:
            raw = json.load(stream)
        if raw.pop("format", None) != FORMAT:
            raise ValueError("another format")
        return Held(**raw)
    except FileNotFoundError:
        return Held(group)
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {because(error)}", "io") from error
    except (ValueError, TypeError) as error:
        raise AgentError(
            f"{path} is damaged ({error}): it says which epoch this host has seen", "broken"
        ) from None


def save(disk: Disk, held: Held) -> None:
    """Durably, at once."""
    disk.private_dir(FOLDER)
    disk.replace(_path(held.group), json.dumps({"format": FORMAT, **asdict(held)}, indent=1).encode() + b"\n")


# --- this boot


def boot(root: Root) -> float:
    """When the agent first looked in this boot, by CLOCK_BOOTTIME; it also tells this boot from others."""
    path = root.at(f"{HERE}/first-look")
    try:
        with open(path, encoding="ascii") as stream:
            return float(stream.read())
    except (FileNotFoundError, ValueError):
        now = round(boottime(), 3)
        note(path, f"{now:.3f}")
        return now


def since_boot(root: Root) -> float:
    """Seconds since the guard first looked after this boot."""
    return boottime() - boot(root)


def granted(root: Root, group: str) -> Grant | None:
    """The grant that holds now."""
    try:
        with open(root.at(f"{HERE}/grant-{group}.json"), encoding="utf-8") as stream:
            grant = Grant(**json.load(stream))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return grant if grant.until > boottime() else None


def set_grant(root: Root, grant: Grant) -> None:
    """Hold it until its time is over or this host is rebooted."""
    note(root.at(f"{HERE}/grant-{grant.group}.json"), json.dumps(asdict(grant)))


def revoke(root: Root, group: str) -> None:
    """No grant any more."""
    with suppress(FileNotFoundError):
        os.unlink(root.at(f"{HERE}/grant-{group}.json"))


def off(root: Root) -> dict[str, Any] | None:
    """{"at", "by"} while the owner has switched the guard off at the console."""
    try:
        with open(root.at(_OFF), encoding="utf-8") as stream:
            found: dict[str, Any] = json.load(stream)
            return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {"at": 0.0, "by": "unreadable"}


def set_off(disk: Disk, since: dict[str, Any] | None) -> None:
    """Switch the guard off (with who and when) or on again (None)."""
    disk.private_dir(FOLDER)
    if since is None:
        disk.unlink(_OFF)
        disk.sync_dirs([FOLDER])
    else:
        disk.replace(_OFF, json.dumps(since).encode())
