"""Forgets reactions that have happened.

Request: {"done": [reactions] | {reaction: token}}. Reply: {"cleared": [reactions], "pending": [the rest]}.
With tokens (from the survey's or the apply's "markers") a marker that a newer apply has set again stays.
"""

from __future__ import annotations

from typing import Any

from . import lock, markers
from .disk import Disk
from .root import Root
from .say import say

__all__ = ["run"]


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    with lock.exclusive(root, "apply", "settle", float(request.get("lock_wait", 120)), say):
        cleared = markers.clear(Disk(root), request["done"])
    return {"cleared": cleared, "pending": markers.pending(root)}
