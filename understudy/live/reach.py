"""Reaches a host that is in no inventory yet: the owner's own ssh, pinned host keys, sudo where it is needed."""

from __future__ import annotations

import getpass
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import hostside
from ..errors import BadInput, Refused, UnderstudyError

LOCAL = "@local"
CONNECT_SECONDS = 15
TIMEOUT = 300
NEEDS = "understudy: sudo asks for a password"


@dataclass
class Reach:
    """One host: ``USER@HOST``, an alias of the owner's ssh configuration, or ``@local``.

    ``config`` is another ssh configuration file. The password of sudo is asked at most once, on the terminal, and
    travels on standard input only. ``sent`` counts the commands sent to the host.
    """

    name: str
    config: str = ""
    sudo: bool = True
    ask: Callable[[str], str] = getpass.getpass
    sent: int = 0
    _password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"@local|(?:[\w.-]+@)?[A-Za-z0-9_.:\[\]-]+", self.name) or self.name.startswith(
            "-"
        ):
            raise BadInput(f"{self.name!r} is not USER@HOST, a name of your ssh configuration, or @local")

    @property
    def host(self) -> str:
        """The name without the user."""
        return "localhost" if self.name == LOCAL else self.name.rpartition("@")[2]

    @property
    def user(self) -> str:
        """The user in the name, "" when ssh decides."""
        return "" if self.name == LOCAL else self.name.rpartition("@")[0]

    def census(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the host. Raises Refused for a host key nobody vouched for, UnderstudyError with the host's own sentence."""
        text = hostside.stdin(request, "census")
        out, err = (NEEDS, "") if self._password is not None else self._run(self._plain(), text)
        if NEEDS in out:
            if self._password is None:
                self._password = self._asked()
            # -k: the password is asked for whatever was cached, so it is not taken for a line of ours; nothing is cached.
            command = f"LC_ALL=C sudo -k -S -p '' -- {hostside.command('census')}"
            out, err = self._run(command, f"{self._password}\n{text}")
            if re.search(r"Sorry, try again|incorrect password|no password was provided", err):
                raise UnderstudyError(f"{self.name}: sudo does not accept this password")
            if "not in the sudoers" in err or "may not run" in err or "not allowed to" in err:
                raise UnderstudyError(
                    f"{self.name}: this user may not use sudo: take one who may, or --no-sudo for what it can read by itself"
                )
        try:
            return hostside.parse(out.splitlines())
        except hostside.HostsideError as error:
            raise UnderstudyError(f"{self.name}: {error}{_last(err)}") from error

    def _plain(self) -> str:
        """Runs at once as root, or with a sudo that asks nothing; else says that a password is needed."""
        run = hostside.command("census")
        if not self.sudo:
            return run
        return (
            f'if [ "$(id -u)" = 0 ]; then {run}; elif sudo -n true 2>/dev/null; then sudo -n -- {run}; '
            f"else echo {shlex.quote(NEEDS)}; fi"
        )

    def _asked(self) -> str:
        if not sys.stdin.isatty() and self.ask is getpass.getpass:
            raise UnderstudyError(
                f"{self.name}: sudo asks for a password and there is no terminal to ask it on: run this in a terminal, "
                "log in as root, or use --no-sudo for what this user can read by itself"
            )
        return self.ask(f"Password of {self.user or 'this user'} for sudo on {self.host}: ")

    def _run(self, command: str, text: str) -> tuple[str, str]:
        argv = ["sh", "-c", command] if self.name == LOCAL else [*self._ssh(), command]
        self.sent += 1
        try:
            done = subprocess.run(
                argv,
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UnderstudyError(f"{self.name}: no answer within {TIMEOUT} s") from None
        except OSError as error:
            raise UnderstudyError(f"{argv[0]} cannot be run: {error.strerror}") from error
        if done.returncode == 255 and self.name != LOCAL:
            raise self._unreached(done.stderr)
        return done.stdout, done.stderr

    def _ssh(self) -> list[str]:
        options = [
            "StrictHostKeyChecking=yes",
            f"ConnectTimeout={CONNECT_SECONDS}",
            "ServerAliveInterval=15",
            "LogLevel=ERROR",
            "ForwardAgent=no",
            "ForwardX11=no",
            f"BatchMode={'no' if sys.stdin.isatty() else 'yes'}",
        ]
        named = ["-F", self.config] if self.config else []
        return [
            "ssh",
            *named,
            "-T",
            *(word for option in options for word in ("-o", option)),
            "--",
            self.name,
        ]

    def _unreached(self, said: str) -> UnderstudyError:
        if "IDENTIFICATION HAS CHANGED" in said:
            return Refused(
                f"{self.host} shows another host key than the one you pinned: nothing was sent. If you know why it "
                f"changed, `ssh-keygen -R {self.host}` and pin the new one"
            )
        if "host key" in said.lower() or "Host key verification failed" in said:
            return Refused(
                f"the host key of {self.host} is not pinned: nothing was sent. Compare `ssh-keyscan {self.host} | ssh-keygen -lf -` "
                f"with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` at its console, then "
                f"`ssh-keyscan {self.host} >> ~/.ssh/known_hosts`"
            )
        if "Permission denied" in said:
            return UnderstudyError(
                f"{self.name}: no login: your key is not accepted there (`ssh-copy-id {self.name}` brings it)"
            )
        return UnderstudyError(f"{self.name}: no connection{_last(said)}")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""
