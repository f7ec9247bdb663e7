"""How long this host's line was away, as its guard heard no resolver at all: what the length of a lease is held against."""

from __future__ import annotations

import os
from contextlib import suppress

from ..data import ledger
from ..may import note
from ..root import Root
from .state import HERE, boottime

__all__ = ["LOOK", "heard"]

LOOK = 30.0
"""Seconds between two looks of the guard: a loss may have begun so much before the first silent one."""


def heard(root: Root, anybody: bool) -> None:
    """What one look of the guard heard; the end of a silence goes into the ledger."""
    path = root.at(f"{HERE}/line-silent")
    if not anybody:
        if not os.path.exists(path):
            note(path, f"{boottime():.1f}")
        return
    with suppress(OSError, ValueError):
        with open(path, encoding="ascii") as stream:
            since = float(stream.read())
        os.unlink(path)
        ledger.add(root, "line", seconds=round(boottime() - since + LOOK, 1))
