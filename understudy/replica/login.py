"""The first connections to a new replica: its host key is known before the first packet, then replaced by one of its own."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko

from ..errors import Refused, UnderstudyError
from .identity import KIND, mark

CONNECT = 10.0
BANNER = 20.0
PAUSE = 1.0


@dataclass(frozen=True)
class Door:
    """Where a replica is reached and with what. ``key_file`` "" means the agent and the usual files."""

    address: str
    port: int = 22
    user: str = "root"
    key_file: str = ""


class WrongKey(Refused):
    """Somebody else answers at the replica's address."""


class NotYet(UnderstudyError):
    """Nobody answers yet, or not with a login."""


def presented_key(door: Door) -> bytes:
    """The ed25519 host key that is shown at the door, not trusted by that. Raises NotYet."""
    try:
        sock = socket.create_connection((door.address, door.port), timeout=CONNECT)
    except OSError as error:
        raise NotYet(f"nobody answers at {door.address}:{door.port} ({error.strerror or error})") from error
    transport = paramiko.Transport(sock)
    try:
        transport.banner_timeout = BANNER
        transport.get_security_options().key_types = (KIND,)
        transport.start_client(timeout=BANNER)
        return transport.get_remote_server_key().asbytes()
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise NotYet(f"no SSH at {door.address}:{door.port} yet ({error})") from error
    finally:
        transport.close()


def trusted_key(door: Door, marks: Collection[str]) -> bytes:
    """The key at the door, which has one of these marks. Raises WrongKey for any other, NotYet for none."""
    key = presented_key(door)
    if mark(key) not in marks:
        raise WrongKey(
            f"the machine at {door.address} shows another SSH host key than the replica has: nothing was sent to it. "
            "Somebody may stand between you and it; `understudy replica down` and up again makes a new one"
        )
    return key


def wait_for(door: Door, marks: Collection[str], seconds: float, heard: Callable[[str], None]) -> bytes:
    """The trusted key, once somebody answers. A wrong key is refused at once: the right one is there from boot on."""
    deadline, said = time.monotonic() + seconds, ""
    while True:
        try:
            return trusted_key(door, marks)
        except NotYet as error:
            if str(error) != said:
                heard(said := str(error))
            if time.monotonic() > deadline:
                raise UnderstudyError(
                    f"the replica does not answer at {door.address} after {seconds:.0f} s: {error}"
                ) from error
        time.sleep(PAUSE)


@contextmanager
def opened(door: Door, key: bytes) -> Iterator[paramiko.SSHClient]:
    """A login on a machine that has exactly this host key."""
    client = paramiko.SSHClient()
    name = door.address if door.port == 22 else f"[{door.address}]:{door.port}"
    client.get_host_keys().add(name, KIND, paramiko.Ed25519Key(data=key))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    try:
        client.connect(
            door.address,
            port=door.port,
            username=door.user,
            key_filename=door.key_file or None,
            look_for_keys=not door.key_file,
            allow_agent=not door.key_file,
            timeout=CONNECT,
            banner_timeout=BANNER,
            auth_timeout=BANNER,
        )
    except paramiko.BadHostKeyException as error:
        raise WrongKey(
            f"the machine at {door.address} changed its SSH host key: nothing was sent to it"
        ) from error
    except (paramiko.AuthenticationException, paramiko.SSHException, OSError) as error:
        raise NotYet(f"no login as {door.user} at {door.address}: {error}") from error
    try:
        yield client
    finally:
        client.close()


def run(client: paramiko.SSHClient, command: str, seconds: float) -> str:
    """What a command printed. Raises UnderstudyError with its last words when it fails or takes too long."""
    status, said, complaint = ask(client, command, seconds)
    if status:
        words = (complaint.strip() or said.strip() or "no message").splitlines()[-1]
        raise UnderstudyError(f"on the replica: {words} (exit status {status})")
    return said


def ask(client: paramiko.SSHClient, command: str, seconds: float) -> tuple[int, str, str]:
    """Exit status, output and complaints of a command."""
    try:
        _, out, err = client.exec_command(command, timeout=seconds)
        said, complaint = out.read().decode(errors="replace"), err.read().decode(errors="replace")
        return out.channel.recv_exit_status(), said, complaint
    except (TimeoutError, paramiko.SSHException, OSError) as error:
        raise UnderstudyError(f"the replica did not finish within {seconds:.0f} s ({error})") from error


def write_pin(path: Path, line: str) -> None:
    """A known_hosts file of one line, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(line, encoding="utf-8")
    unfinished.replace(path)
