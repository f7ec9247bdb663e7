"""A host name of its own for the restic that backs up, so that its lock can be told from everybody else's.

restic calls a lock dead when it carries the present host name and a process number that does not exist; to find out
it sends SIGHUP to that number, which after a power cut belongs to whatever has started since. So the backups of
ticks run under a host name that nothing else on the machine has, and `unlock` in a process namespace of its own,
where no other process can be seen or signalled. Ticks hold the lock "data": who holds it knows that every lock of
that name is a dead tick's.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess

__all__ = ["separate", "tick", "wrapper"]

_LONGEST = 64  # of a Linux host name


def tick(host: str) -> str:
    """The host name in the locks of this host's ticks. ``host`` is the plan's name, which no other host has."""
    name = f"understudy-tick.{host}"
    return (
        name if len(name) <= _LONGEST else f"understudy-tick.{hashlib.sha256(host.encode()).hexdigest()[:32]}"
    )


def wrapper(name: str, alone: bool = False) -> list[str]:
    """What goes before a restic that locks as ``name``. ``alone``: it sees no other process, which costs a fork."""
    return [*_unshare(alone), "sh", "-c", 'hostname "$0" && exec "$@"', name]


def _unshare(alone: bool) -> list[str]:
    return ["unshare", "--uts", *(["--pid", "--fork", "--kill-child"] if alone else []), "--"]


@functools.lru_cache(maxsize=1)
def separate() -> bool:
    """Whether this machine gives us a host name and process numbers of our own; some containers do not."""
    if shutil.which("unshare") is None or shutil.which("hostname") is None:
        return False
    probe = [*wrapper("understudy-probe", alone=True), "true"]
    try:
        return subprocess.run(probe, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
