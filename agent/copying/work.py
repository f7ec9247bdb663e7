"""What every tool that copies is given, and what it answers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from ..data.plan import CopyJob
from ..errors import AgentError
from ..root import Root

__all__ = ["HISTORY", "MARKER", "Done", "Look", "Tool", "Work", "expired", "stamp"]

MARKER = ".understudy-mount"
HISTORY = ".history"
_STAMP = "%Y-%m-%dT%H%M%SZ"
_STAMP_FORM = re.compile(r"\d{4}-\d{2}-\d{2}T\d{6}Z")
# A clock that jumped ahead must not take the whole history in one run.
_MOST_FORGOTTEN = 10


@dataclass(frozen=True)
class Work:
    """One run of a job. ``folder`` is where its source is entered; ``still_there`` raises when the source has gone.

    ``deadline`` is a moment of time.monotonic().
    """

    root: Root
    job: CopyJob
    folder: str
    still_there: Callable[[], None]
    deadline: float

    def left(self) -> float:
        """Seconds that are left. Raises AgentError kind "timeout" when there are none."""
        seconds = self.deadline - time.monotonic()
        if seconds < 1:
            raise AgentError(
                f"{self.job.name}: took longer than {self.job.timeout} s and was stopped; "
                "what was copied stays, the next run goes on from there",
                "timeout",
            )
        return seconds


@dataclass(frozen=True)
class Look:
    """What the source holds (``files``, ``bytes``) and how many entries of the destination it no longer has."""

    files: int
    bytes: int
    gone: int


@dataclass(frozen=True)
class Done:
    """Files sent, their bytes, entries moved from the destination into the history."""

    changed: int
    bytes: int
    deleted: int


class Tool(Protocol):
    """rclone or rsync. Every method raises AgentError with a sentence that names the job."""

    def marked(self) -> bool:
        """Whether the marker stands at the destination's root."""

    def look(self) -> Look:
        """Compare names at both ends; nothing is changed."""

    def rehearse(self) -> int:
        """How many files a run would send; nothing is changed."""

    def copy(self, now: str, most: int) -> Done:
        """Send, then take away what has gone (mode sync), at most ``most``; replaced and gone files go to history ``now``."""

    def kept(self, known: list[str]) -> list[str]:
        """Stamps of the histories that exist; ``known`` are those this host remembers."""

    def forget(self, stamps: list[str]) -> None:
        """Remove these histories."""


def stamp(moment: float) -> str:
    """The name of the history that a run at this moment (seconds since the epoch) fills."""
    return time.strftime(_STAMP, time.gmtime(moment))


def expired(stamps: Iterable[str], now: float, days: int) -> list[str]:
    """The histories older than ``days``, oldest first, a few at a time. Names of any other form are not ours."""
    limit = stamp(now - days * 86400)
    old = sorted(name for name in stamps if _STAMP_FORM.fullmatch(name) and name < limit)
    return old[:_MOST_FORGOTTEN]
