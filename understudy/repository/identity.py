"""Who this control machine is to a repository, so that it can tell its own locks from everybody else's.

restic takes a lock for dead when it is 30 minutes old, or when it carries the present host name and a process id
that does not exist. To find out it sends SIGHUP to that process: after a restart the number may belong to anybody,
and who holds a host's key can write a lock with any name and number in it. So commands that lock run under a host
name of this state folder alone (no other machine has it, and names of laptops and containers change), and `unlock`
runs in a process namespace of its own, where the numbers of all other processes do not exist. Which locks may be
taken away is decided before that, by ``prune``, under a file lock that every such restic inherits.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..errors import Refused

__all__ = ["host", "key", "only_one", "separate", "state_folder", "wrapper"]


def state_folder() -> Path:
    """Where this control machine remembers what it has seen; losing it costs safety margins, never data."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    folder = Path(base) / "understudy"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def host() -> str:
    """The host name in this machine's locks: its own where namespaces are to be had, else the machine's."""
    return _name(state_folder()) if separate() else socket.gethostname()


def _name(folder: Path) -> str:
    descriptor = os.open(folder / "admin-id", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    with open(descriptor, "r+", encoding="ascii") as stream:
        # A run that was killed here left it empty; others may be starting too.
        fcntl.flock(stream, fcntl.LOCK_EX)
        known = stream.read().strip()
        if not known:
            known = secrets.token_hex(6)
            stream.write(known)
    return f"understudy-admin-{known}"


def wrapper(alone: bool = False) -> list[str]:
    """What goes before a command that locks; empty where namespaces are not to be had."""
    if not separate():
        return []
    return [*_unshare(alone), "sh", "-c", 'hostname "$0" && exec "$@"', host()]


def _unshare(alone: bool) -> list[str]:
    # An ordinary user needs a user namespace for the host name; root in one could not read other people's files.
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    return ["unshare", *user, "--uts", *(["--pid", "--fork", "--kill-child"] if alone else []), "--"]


@functools.lru_cache(maxsize=1)
def separate() -> bool:
    """True when this machine lets us have a host name and process numbers of our own (Linux, most of them)."""
    if shutil.which("unshare") is None or shutil.which("hostname") is None:
        return False
    probe = [*_unshare(True), "sh", "-c", "hostname understudy-probe"]
    try:
        return subprocess.run(probe, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def key(url: str) -> str:
    """A file name for a repository."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


@contextlib.contextmanager
def only_one(url: str, label: str) -> Iterator[int]:
    """The right to change this repository from this control machine; gives a descriptor for children to inherit.

    A restic that outlives us holds it on. Raises Refused when another run has it.
    """
    descriptor = os.open(state_folder() / f"{key(url)}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{label}: another prune runs from this machine; wait for its end") from None
        yield descriptor
    finally:
        os.close(descriptor)
