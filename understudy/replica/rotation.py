"""A host key that nobody but the replica ever saw takes the place of the one that came in user_data.

Both fingerprints stand in the server's labels while the change is under way, so that it can be killed at any point:
whoever runs next accepts either, finds out which one the machine shows, and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import login
from .identity import blob, mark
from .login import Door

CURRENT, NEXT = "host-key", "host-key-next"
SECONDS = 60.0
RESTART_SECONDS = 60.0

MAKE = """
set -eu
cd /etc/ssh
[ -f understudy_next ] || ssh-keygen -q -t ed25519 -N '' -C "$(hostname)" -f understudy_next
[ -f understudy_next.pub ] || ssh-keygen -y -f understudy_next >understudy_next.pub
cat understudy_next.pub
"""
USE = """
set -eu
cd /etc/ssh
[ ! -f understudy_next ] || mv -f understudy_next ssh_host_ed25519_key
ssh-keygen -y -f ssh_host_ed25519_key >ssh_host_ed25519_key.pub
rm -f understudy_next.pub ssh_host_rsa_key* ssh_host_ecdsa_key*
sync
/usr/sbin/sshd -t
systemctl reload ssh 2>/dev/null || systemctl reload sshd
"""

Labels = Mapping[str, str]
Keep = Callable[[dict[str, str]], None]


def marks(labels: Labels) -> set[str]:
    """Fingerprints that the server's labels vouch for."""
    return {labels[name] for name in (CURRENT, NEXT) if labels.get(name)}


def rotate(door: Door, key: bytes, labels: Labels, keep: Keep, sudo: str = "") -> bytes:
    """Replace the host key over a verified connection; returns the new one, seen at the door.

    ``keep`` writes the server's labels. A key that is already the replica's own is left alone.
    """
    current = dict(labels)
    if current.get(NEXT) != mark(key):
        with login.opened(door, key) as client:
            made = blob(login.run(client, _shell(MAKE, sudo), SECONDS))
            current[NEXT] = mark(made)
            keep(current)
            login.run(client, _shell(USE, sudo), SECONDS)
        key = login.wait_for(door, {mark(made), mark(key)}, RESTART_SECONDS, lambda line: None)
        if mark(key) != mark(made):
            key = _again(door, mark(made))
    current[CURRENT] = current.pop(NEXT)
    keep(current)
    return key


def _again(door: Door, wanted: str) -> bytes:
    """sshd may answer once more with the old key while it reloads."""
    import time

    deadline = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            return login.trusted_key(door, {wanted})
        except (login.WrongKey, login.NotYet):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.3)


def _shell(script: str, sudo: str) -> str:
    quoted = script.replace("'", "'\\''")
    return f"{sudo}sh -c '{quoted}'"
