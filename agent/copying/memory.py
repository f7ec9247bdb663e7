"""What a job remembers from one run to the next: /var/lib/understudy/jobs/NAME.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ..disk import Disk
from ..errors import AgentError
from ..root import STATE, Root

__all__ = ["FOLDER", "Memory", "load", "save"]

FOLDER = f"{STATE}/jobs"


@dataclass(frozen=True)
class Memory:
    """``files`` and ``at`` (seconds since the epoch) of the last good run, None before the first; ``stamps`` of histories."""

    files: int | None = None
    at: float | None = None
    stamps: tuple[str, ...] = ()


def load(root: Root, name: str) -> Memory:
    """Raises AgentError kind "broken" for a file that is no memory: what was there before cannot be compared then."""
    path = f"{FOLDER}/{name}.json"
    try:
        with open(root.at(path), encoding="utf-8") as stream:
            raw = json.load(stream)
        return Memory(raw["files"], raw["at"], tuple(raw["stamps"]))
    except FileNotFoundError:
        return Memory()
    except (ValueError, KeyError, TypeError) as error:
        raise AgentError(
            f"{name}: {path} is damaged: compare source and destination, then remove it", "broken"
        ) from error


def save(root: Root, name: str, memory: Memory) -> None:
    """Write it, durably."""
    disk = Disk(root)
    disk.private_dir(FOLDER)
    disk.replace(f"{FOLDER}/{name}.json", json.dumps(asdict(memory)).encode() + b"\n")
