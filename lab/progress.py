"""Progress lines with times, as the lab prints them while it stages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Prints one line per finished step: what, result, seconds."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.start = time.monotonic()
        self._lock = threading.Lock()  # steps of two images may end at once

    def say(self, what: str, result: str, seconds: float | None = None) -> None:
        if not self.quiet:
            took = "" if seconds is None else f"{seconds:7.1f} s"
            with self._lock:
                print(f"  {what:<22} {result:<44} {took}".rstrip(), flush=True)

    @contextmanager
    def step(self, what: str, result: str) -> Iterator[None]:
        """Times the body and prints its line when it succeeds."""
        begin = time.monotonic()
        yield
        self.say(what, result, time.monotonic() - begin)

    def total(self) -> float:
        """Seconds since this progress began."""
        return time.monotonic() - self.start
