"""Progress for a person, on standard error. The connection may be gone: that never stops the work."""

from __future__ import annotations

import contextlib
import sys
import threading

__all__ = ["say"]

_lock = threading.Lock()


def say(line: str) -> None:
    """Write one line."""
    with _lock, contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"understudy: {line}\n")
        sys.stderr.flush()
