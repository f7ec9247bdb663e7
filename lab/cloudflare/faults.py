"""What can go wrong at Cloudflare, switched on by tests. A list of faults is tried in order; the first that fits acts."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

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


@dataclass
class Faults:
    """The faults that are on, and how often each has acted."""

    faults: list[Fault] = field(default_factory=list)
    acted: list[int] = field(default_factory=list)
    fitted: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, faults: list[dict[str, Any]]) -> None:
        with self.lock:
            self.faults = [Fault(**fault) for fault in faults]
            self.acted, self.fitted = [0] * len(faults), [0] * len(faults)

    def for_call(self, method: str, path: str) -> Fault | None:
        """The fault this request meets, counted."""
        with self.lock:
            for number, fault in enumerate(self.faults):
                if (fault.method and fault.method != method) or fault.path not in path:
                    continue
                self.fitted[number] += 1
                if self.fitted[number] <= fault.skip or 0 < fault.times <= self.acted[number]:
                    continue
                self.acted[number] += 1
                return replace(fault)
        return None

    def as_rows(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self.faults]
