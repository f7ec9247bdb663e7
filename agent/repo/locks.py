"""Takes away the lock that a tick left which was cut off; everybody else's stay."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from ..errors import AgentError
from . import commands, restic
from .restic import Repo

__all__ = ["LIVING", "clear"]

LIVING = 600.0
"""Seconds: restic writes its lock anew every five minutes, so one that is older has nobody who does."""
_TIMEOUT = 120
_MOST = 20


def clear(repo: Repo, name: str, now: float | None = None) -> int:
    """Remove the locks of ``name``. Returns how many there were. Raises AgentError when they could not be read or stay.

    ``now`` (seconds since the epoch) spares those whose holder may live on another machine; without it all are dead.
    """
    mine = [lock for lock in _locks(repo) if lock["hostname"] == name]
    if not mine:
        return 0
    if now is not None and any(now - _time(lock) < LIVING for lock in mine):
        raise AgentError(
            f"{repo.title}: a lock of {name} is younger than {LIVING / 60:.0f} min: the machine that this one"
            " replaces may still be backing up"
        )
    restic.run(repo, commands.unlock(), _TIMEOUT, lock_as=name, alone=True)
    if any(lock["hostname"] == name for lock in _locks(repo)):
        raise AgentError(f"{repo.title}: the lock of a tick that was cut off could not be removed")
    return len(mine)


def _locks(repo: Repo) -> list[dict[str, Any]]:
    """All there are, read without taking one. One that vanishes meanwhile or is damaged is left out."""
    said = "\n".join(map(str, restic.run(repo, commands.locks(), _TIMEOUT).lines))
    found = []
    for name in re.findall(r"[0-9a-f]{64}", said)[:_MOST]:
        try:
            lines = restic.run(repo, commands.lock(name), _TIMEOUT).lines
        except restic.ResticError:
            continue
        lock = _parsed(lines)
        if isinstance(lock, dict) and "hostname" in lock and "time" in lock:
            found.append(lock)
    return found


def _parsed(lines: list[Any]) -> Any:
    if len(lines) == 1 and isinstance(lines[0], dict):
        return lines[0]
    try:
        return json.loads("\n".join(map(str, lines)))
    except json.JSONDecodeError:
        return None


def _time(lock: dict[str, Any]) -> float:
    # Nine digits of a second are more than datetime reads, and "Z" more than that of Python 3.10.
    stamp = re.sub(r"(\.\d{6})\d+", r"\1", str(lock["time"]).replace("Z", "+00:00"))
    return datetime.fromisoformat(stamp).timestamp()
