"""The one clock of the agent. A practice host may carry an offset (protocol.md §12)."""

from __future__ import annotations

import time

from ..root import STATE, Root

__all__ = ["OFFSET", "now"]

OFFSET = f"{STATE}/clock-offset"


def now(root: Root) -> float:
    """Seconds since the epoch, as this host believes."""
    try:
        with open(root.at(OFFSET), encoding="utf-8") as stream:
            return time.time() + float(stream.read())
    except (FileNotFoundError, ValueError):
        return time.time()
