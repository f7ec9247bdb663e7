"""The host lock of one run: held by an open channel, so it cannot outlive the connection.

``flock`` runs on the host with its standard input tied to ours; when the control machine dies or
the line drops, sshd closes the channel, ``cat`` ends and the kernel releases the lock.
"""

from __future__ import annotations

import atexit
import getpass
import shlex
import socket
from typing import TYPE_CHECKING, Any

from ..errors import Refused, UnderstudyError

if TYPE_CHECKING:
    from .session import Session

PATH = "/run/understudy/converge.lock"
TIMEOUT = 20.0
_channels: dict[str, Any] = {}


def command(holder: str) -> str:
    """Prints ``held`` and holds the lock until standard input ends, or prints who holds it and exits 75."""
    inner = f"printf %s {shlex.quote(holder)} > {PATH}.holder; echo held; exec cat > /dev/null"
    return (
        f"umask 077; mkdir -p /run/understudy; flock --nonblock --conflict-exit-code 75 {PATH} sh -c {shlex.quote(inner)} "
        f"|| {{ code=$?; [ $code = 75 ] && cat {PATH}.holder; exit $code; }}"
    )


def take(session: Session) -> None:
    """Take the lock over the host's own connection. Raises Refused naming the holder when it is taken."""
    session.commands += 1
    client = getattr(session.host.connector, "client", None)
    if client is None:
        return
    text = command(f"{getpass.getuser()}@{socket.gethostname()}")
    if session.desired.settings.sudo:
        text = f"sudo -n sh -c {shlex.quote(text)}"
    stdin, stdout, stderr = client.exec_command(text, timeout=TIMEOUT)
    try:
        line = stdout.readline().strip()
    except TimeoutError as error:
        raise UnderstudyError(
            f"{session.host.name}: the lock of the host did not answer within {TIMEOUT:.0f} s"
        ) from error
    if line == "held":
        _channels[session.host.name] = (stdin, stdout, stderr)
        atexit.register(release, session.host.name)
        return
    status = stdout.channel.recv_exit_status()
    if status == 75:
        raise Refused(
            f"{session.host.name}: another run holds the host ({line or 'unknown'}): wait for it to end"
        )
    raise UnderstudyError(f"{session.host.name}: could not take the lock: {stderr.read().decode().strip()}")


def release(host_name: str) -> None:
    """Let the lock go; also called when this process ends."""
    for stream in _channels.pop(host_name, ()):
        stream.close()
