"""Where a switchover is written down: a file in the project's state folder, and the same on the target host.

Each step is kept before it is done and after it (machine.py), so that whoever is killed can be followed by the same
control machine or by another one, which finds the copy on the target.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import BadInput, Refused
from .machine import Journey

__all__ = ["FOLDER", "locked", "open_journeys", "parse", "path", "read", "text", "write"]

FOLDER = Path(".understudy/switchover")


def path(group: str) -> Path:
    """The journal of a group."""
    return FOLDER / f"{group}.json"


def text(journey: Journey) -> str:
    """One journey as it is kept."""
    return json.dumps(asdict(journey), indent=1) + "\n"


def parse(content: str) -> Journey:
    """Raises BadInput for what is no journal."""
    try:
        raw: dict[str, Any] = json.loads(content)
        return Journey(**raw)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"the journal of a switchover is damaged ({error}): resume from the target's copy"
        ) from None


def read(group: str) -> Journey | None:
    """The journey of a group that this project knows, ended or not."""
    try:
        return parse(path(group).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def write(journey: Journey) -> None:
    """Durably, whole or not at all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    target = path(journey.group)
    temp = target.with_suffix(f".{os.getpid()}")
    with temp.open("w", encoding="utf-8") as stream:
        stream.write(text(journey))
        stream.flush()
        os.fsync(stream.fileno())
    temp.replace(target)


def open_journeys() -> list[Journey]:
    """Those that have not ended."""
    names = sorted(FOLDER.glob("*.json")) if FOLDER.is_dir() else []
    found = [read(name.stem) for name in names]
    return [journey for journey in found if journey is not None and not journey.ended]


@contextmanager
def locked() -> Iterator[None]:
    """One switchover at a time from this project; the kernel frees the lock of a killed one."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another switchover is running from this folder: wait for it to end") from None
        yield
