"""Mounts that only this thread and its children see, and that end with them, however they end.

>>> with private_mounts():                                  # doctest: +SKIP
...     bind("/srv/app/data", "/var/lib/understudy/stage/rest/app/data/files/data", read_only=True)
...     # programs started here see the bind; nothing else on the host does
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

from ..errors import AgentError

__all__ = ["bind", "private_mounts"]

_NEWNS, _FS = 0x00020000, 0x00000200
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
# A remount must repeat what the mount already refuses, or it would allow it again.
_KEPT = {os.ST_NOSUID: 2, os.ST_NODEV: 4, os.ST_NOEXEC: 8, os.ST_NOATIME: 1024, os.ST_NODIRATIME: 2048}


@contextlib.contextmanager
def private_mounts() -> Iterator[None]:
    """Inside, this thread has a mount namespace of its own. Raises AgentError where that is not allowed.

    Other threads of the process stay outside. Mounts the host makes or undoes meanwhile are not seen inside.
    """
    home = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _must(
            "unshare", _libc().unshare(_NEWNS), "this process may not have mounts of its own (it needs root)"
        )
        try:
            _must(
                "mount",
                _libc().mount(b"none", b"/", None, _REC | _PRIVATE, None),
                "mounts cannot be made private",
            )
            yield
        finally:
            # Nothing is unmounted: the namespace dies with the last process in it. A thread that was begun inside and
            # still ends shares our working folder, and nobody who shares it may move: so it is unshared first.
            _must("unshare", _libc().unshare(_FS), "the way back to the host's mounts is closed")
            _must("setns", _libc().setns(home, _NEWNS), "the way back to the host's mounts is closed")
            os.fchdir(here)
    finally:
        os.close(here)
        os.close(home)


def bind(source: str, target: str, read_only: bool = True) -> None:
    """Show ``source`` (folder or file, real paths) at ``target`` of the same kind; what is mounted below it is not shown.

    Only for use inside ``private_mounts``. Raises AgentError.
    """
    old, new = os.fsencode(source), os.fsencode(target)
    _must("mount", _libc().mount(old, new, None, _BIND, None), f"{source} cannot be bound to {target}")
    if read_only:
        flags = os.statvfs(target).f_flag
        kept = sum(mount for stat, mount in _KEPT.items() if flags & stat)
        code = _libc().mount(None, new, None, _BIND | _REMOUNT | _RDONLY | kept, None)
        _must("mount", code, f"{target} cannot be made read-only")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _must(call: str, code: int, sentence: str) -> None:
    if code != 0:
        raise AgentError(f"{sentence}: {call}: {os.strerror(ctypes.get_errno()).lower()}", "io")
