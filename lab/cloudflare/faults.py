"""What can go wrong at Cloudflare, switched on by tests. A list of faults is tried in order; the first that fits acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["status", "delay", "lost", "silent-failure", "forbidden", "hang", "sticky", "reset"]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    ``status``: answered with ``status`` and nothing done. ``delay``: ``seconds`` pass first, then it is done. ``lost``:
    it is done, and the connection closes without an answer. ``late``-like: combine ``lost`` with ``seconds``.
    ``silent-failure``: HTTP 200 with success false, nothing done. ``forbidden``: 403 code 10000, nothing done.
    ``hang``: no answer for ``seconds``, then the connection closes, nothing done. ``reset``: closed at once, nothing
    done. ``sticky``: every page of a list is its first. ``method`` and ``path`` (a part of it) limit which requests;
    ``times`` how often (0: no end); ``skip`` lets so many that fit pass first.
    """

    kind: Kind
    method: str = ""
    path: str = ""
    status: int = 503
    seconds: float = 0.0
    times: int = 0
    skip: int = 0
