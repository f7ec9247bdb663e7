"""One writer per host: a lock file that names its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from .errors import AgentError
from .root import RUN, Root

__all__ = ["exclusive", "holder"]

_POLL = 0.1


def _path(root: Root, name: str) -> str:
    return root.at(f"{RUN}/{name}.lock")


@contextlib.contextmanager
def exclusive(root: Root, name: str, purpose: str, wait: float, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock ``name`` while inside; waits up to ``wait`` seconds and says for whom.

    The lock ends with the process, however it ends; programs started meanwhile do not inherit it.
    """
    os.makedirs(root.at(RUN), mode=0o700, exist_ok=True)
    descriptor = os.open(_path(root, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _acquire(descriptor, wait, say)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{purpose} (pid {os.getpid()}, since {time.strftime('%H:%M:%S')})".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, wait: float, say: Callable[[str], None]) -> None:
    deadline, told = time.monotonic() + wait, False
    while not _try(descriptor):
        who = _read(descriptor)
        if time.monotonic() >= deadline:
            raise AgentError(
                f"this host is busy: {who} still runs after {wait:g} s; nothing was changed", "busy"
            )
        if not told:
            say(f"waiting for {who}")
            told = True
        time.sleep(_POLL)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 500, 0).decode("utf-8", "replace") or "another run"


def holder(root: Root, name: str) -> str | None:
    """Who holds a lock right now, or None."""
    try:
        descriptor = os.open(_path(root, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _read(descriptor)
    finally:
        os.close(descriptor)
