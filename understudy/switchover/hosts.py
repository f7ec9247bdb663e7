"""One host while a group moves: verbs of its agent over one open ssh connection, each with a time limit.

A switchover asks a dozen things within seconds of each other, so one connection is kept (OpenSSH's own sharing) with the
address, key and pinned host key that the inventory gives pyinfra.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import hostside
from ..baseline import AGENT
from ..errors import UnderstudyError
from ..operations import protecting

__all__ = ["CONNECT", "Remote", "Unreachable"]

CONNECT = 8
_LONG = ("backup", "refresh", "promote", "demote")
_UNREACHED = 255


class Unreachable(UnderstudyError):
    """The host did not answer in time; whether it did what it was asked is not known."""


@dataclass
class Remote:
    """``data`` is what the inventory says of the host; ``sockets`` a folder that is gone when this process ends."""

    name: str
    data: Mapping[str, Any]
    sockets: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="understudy-ssh-")))

    def ask(self, verb: str, request: dict[str, Any], timeout: float = 60) -> dict[str, Any]:
        """The reply of a verb of the installed agent.

        Raises Unreachable, or HostsideError with the host's own sentence and kind.
        """
        feed = protecting.stdin(request)
        if verb not in _LONG:
            return self._reply(verb, self.run(f"/usr/bin/python3 -IB {AGENT} {verb} -", feed, timeout))
        # In a unit of its own, so that it goes on when this process or the line is gone.
        name = f"understudy-{verb}-{uuid.uuid4().hex[:8]}"
        collect = f"{protecting.command(name, verb)}; {protecting.collect(name)}"
        return self._reply(verb, self.run(collect, feed, timeout))

    def _reply(self, verb: str, output: str) -> dict[str, Any]:
        try:
            return hostside.parse(output.splitlines())
        except hostside.HostsideError as error:
            raise hostside.HostsideError(f"{self.name}: {error}", error.kind, error.details) from None

    def run(self, command: str, feed: str = "", timeout: float = 60) -> str:
        """What a shell command printed, whatever its exit status. Raises Unreachable."""
        if self.data.get("_sudo"):
            command = f"sudo -n sh -c {shlex.quote(command)}"
        try:
            done = subprocess.run(
                [*self.argv(), command],
                input=feed,
                text=True,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"{self.name} gave no answer within {timeout:g} s") from error
        if done.returncode == _UNREACHED:
            last = next(
                (line for line in reversed(done.stderr.splitlines()) if line.strip()), "no reason given"
            )
            raise Unreachable(f"{self.name} cannot be reached: {last.strip()}")
        return done.stdout

    def argv(self) -> list[str]:
        """The ssh command line without the remote command."""
        given, options = self.data, ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT}"]
        options += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
        options += [
            "-o",
            "ControlMaster=auto",
            "-o",
            f"ControlPath={self.sockets}/%C",
            "-o",
            "ControlPersist=30",
        ]
        strict = str(given.get("ssh_strict_host_key_checking") or "yes")
        options += ["-o", f"StrictHostKeyChecking={strict}"]
        if given.get("ssh_known_hosts_file"):
            options += ["-o", f"UserKnownHostsFile={given['ssh_known_hosts_file']}"]
        if given.get("ssh_config_file"):
            options += ["-F", str(given["ssh_config_file"])]
        if given.get("ssh_key"):
            options += ["-i", str(given["ssh_key"]), "-o", "IdentitiesOnly=yes"]
        if given.get("ssh_port"):
            options += ["-p", str(given["ssh_port"])]
        if given.get("ssh_user"):
            options += ["-l", str(given["ssh_user"])]
        return ["ssh", "-T", *options, str(given.get("ssh_hostname") or self.name)]

    def reached(self, timeout: float = CONNECT + 2) -> bool:
        """Whether it answers at all."""
        try:
            return "here" in self.run("echo here", timeout=timeout)
        except Unreachable:
            return False

    def close(self) -> None:
        """End the shared connection."""
        argv = self.argv()
        subprocess.run([argv[0], "-O", "exit", *argv[1:]], capture_output=True, check=False, timeout=10)


def described(reply: Mapping[str, Any]) -> str:
    """A reply on one line, for a journal."""
    return json.dumps(reply, separators=(",", ":"))[:2000]
