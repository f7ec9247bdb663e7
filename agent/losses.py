"""How long this host's line was away, from its ledger. Travels with each survey, so it stands on its own.

The guard notes each silence (agent/owner/line.py); the length of a lease is held against the longest.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any

from .may import GUARD_PLAN
from .root import STATE, Root

__all__ = ["report"]

_LEDGER = f"{STATE}/ledger"
_DAYS = 30


def report(root: Root) -> dict[str, Any]:
    """{"longest": seconds of the last 30 days' longest silence, "at": when it ended, "auto": groups in auto mode now}."""
    longest, at = 0.0, 0.0
    for record in _lines(root):
        if time.time() - float(record["at"]) < _DAYS * 86400 and float(record["seconds"]) > longest:
            longest, at = float(record["seconds"]), float(record["at"])
    return {"longest": longest, "at": at, "auto": _auto(root)}


def _lines(root: Root) -> list[dict[str, Any]]:
    folder, found = root.at(_LEDGER), []
    names = sorted(n for n in os.listdir(folder) if n.endswith(".jsonl")) if os.path.isdir(folder) else []
    for name in names[-2:]:
        with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                with suppress(ValueError, KeyError, TypeError):  # a torn line
                    record = json.loads(line) if '"line"' in line else {}
                    if record.get("kind") == "line":
                        found.append({"at": float(record["at"]), "seconds": float(record["seconds"])})
    return found


def _auto(root: Root) -> list[str]:
    try:
        with open(root.at(GUARD_PLAN), encoding="utf-8") as stream:
            return list((json.load(stream).get("auto") or {}).get("groups") or ())
    except (OSError, ValueError):
        return []
