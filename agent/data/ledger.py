"""The ledger: one JSON line for everything that was done for the data, kept for good (design.md, decision 9).

Every record has ``at`` (seconds since the epoch, when it ended), ``kind`` (backup, restore, verify, drill, copy,
job, tamper, init), ``ok``, ``error`` (null or one sentence), ``seconds``; and, where they apply, ``tier``,
``group``, ``service``, ``repository``, ``snapshot``, ``bytes``, ``added``, ``files``, ``rows``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ..root import STATE, Root
from . import clock

__all__ = ["FOLDER", "add", "add_all", "records"]

FOLDER = f"{STATE}/ledger"


def add(root: Root, kind: str, **facts: Any) -> dict[str, Any]:
    """Append a record, durably. Returns it."""
    return add_all(root, kind, [facts])[0]


def add_all(root: Root, kind: str, several: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Append records of one kind with a single write and one wait for the disk. Returns them."""
    if not several:
        return []
    at = clock.now(root)
    made = [{"at": round(at, 3), "kind": kind, "ok": True, "error": None, **facts} for facts in several]
    os.makedirs(root.at(FOLDER), mode=0o700, exist_ok=True)
    name = time.strftime("%Y-%m.jsonl", time.gmtime(at))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(root.at(f"{FOLDER}/{name}"), flags, 0o600)
    try:
        # A leading newline ends a line that a power cut left torn; readers skip empty and torn lines.
        lines = "\n".join(json.dumps(record, separators=(",", ":")) for record in made)
        os.write(descriptor, f"\n{lines}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return made


def records(root: Root, months: int = 4) -> Iterator[dict[str, Any]]:
    """Records of the last months, newest first; torn lines are skipped."""
    try:
        names = sorted(n for n in os.listdir(root.at(FOLDER)) if n.endswith(".jsonl"))[-months:]
    except FileNotFoundError:
        return
    for name in reversed(names):
        with open(root.at(f"{FOLDER}/{name}"), encoding="utf-8", errors="replace") as stream:
            lines = stream.read().splitlines()
        for line in reversed(lines):
            record = _parse(line)
            if record is not None:
                yield record


def _parse(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "kind" in value else None
