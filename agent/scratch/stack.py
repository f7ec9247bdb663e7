"""A scratch project while it runs: Compose commands, waiting for health, addresses, the last words of what failed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import process
from ..data import engine
from ..errors import AgentError, because
from ..validate import mask
from .model import NETWORK

__all__ = ["Stack", "read", "resolved", "resolved_argv", "write"]

_ASK = 60.0
_PAUSE = 0.5
_LOOK = 3


def resolved_argv(compose: Sequence[str]) -> list[str]:
    """A project as Compose understands its files, all variables filled in."""
    return [*compose, "config", "--format", "json"]


def resolved(service: str, compose: Sequence[str]) -> dict[str, Any]:
    """The model of a live project. Raises AgentError."""
    ended = process.run(resolved_argv(compose), _ASK)
    if not ended.ok:
        raise AgentError(f"{service}: its Compose files cannot be read: {ended.why()}", "docker")
    model: dict[str, Any] = json.loads(ended.out)
    return model


def write(real: str, model: Mapping[str, Any]) -> None:
    """The project file (it may hold variables with secrets: 0600), as the only file of its folder."""
    try:
        os.makedirs(os.path.dirname(real), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(real, flags, 0o600), "w", encoding="utf-8") as stream:
            json.dump(model, stream, indent=1)
    except OSError as error:
        raise AgentError(f"{real} cannot be written: {because(error)}", "io") from error


def read(real: str) -> dict[str, Any]:
    """The project file as it stands. Raises AgentError."""
    try:
        with open(real, encoding="utf-8") as stream:
            found: dict[str, Any] = json.load(stream)
    except (OSError, ValueError) as error:
        raise AgentError(f"{real} cannot be read: {error}", "io") from error
    return found


@dataclass(frozen=True)
class Stack:
    """A scratch project. ``file`` is its real path; ``hidden`` are strings that no sentence may show."""

    service: str
    project: str
    file: str
    hidden: tuple[str, ...] = ()

    def argv(self, *words: str) -> list[str]:
        """A Compose command on it, which ends when the agent is killed: nothing may be created after that."""
        leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        folder = os.path.dirname(self.file)
        named = ["--project-name", self.project, "--project-directory", folder, "--file", self.file]
        return [*leash, "docker", "compose", *named, *words]

    def up_argv(self, services: Sequence[str], alone: bool) -> list[str]:
        """Start these; ``alone``: without what they depend on."""
        return self.argv("up", "--detach", "--no-build", *(["--no-deps"] if alone else []), *services)

    def up(self, services: Sequence[str], timeout: float, alone: bool = False) -> None:
        """Start these services and wait until they are healthy, or done with status 0. Raises AgentError."""
        if not services:
            return
        deadline = time.monotonic() + timeout
        ended = process.run(self.up_argv(services, alone), timeout)
        if not ended.ok:
            raise AgentError(f"{self.service}: its copy does not start: {self._said(ended.why())}", "start")
        self._wait(services, deadline, timeout)

    def _wait(self, services: Sequence[str], deadline: float, timeout: float) -> None:
        while True:
            facts = self._facts(services)
            verdicts = {name: _verdict(facts.get(name)) for name in services}
            bad = next((name for name, verdict in verdicts.items() if verdict.startswith("!")), None)
            late = time.monotonic() >= deadline
            open_ = [name for name, verdict in verdicts.items() if verdict]
            if bad or (late and open_):
                name = bad or open_[0]
                why = verdicts[name].lstrip("!") + ("" if bad else f" after {timeout:.0f} s")
                raise AgentError(
                    f"{self.service}: {name} of its copy {why}: {self._last(facts.get(name))}", "start"
                )
            if not open_:
                return
            time.sleep(_PAUSE)

    def _facts(self, services: Iterable[str]) -> dict[str, dict[str, Any]]:
        wanted = set(services)
        return {
            c.service: engine.inspect(c.id) for c in engine.containers(self.project) if c.service in wanted
        }

    def _last(self, facts: Mapping[str, Any] | None) -> str:
        if facts is None:
            return "there is no container"
        logs = process.run(["docker", "logs", "--tail", "20", facts["Id"]], _ASK)
        lines = [line.strip() for line in (logs.out + logs.err).splitlines() if line.strip()]
        return self._said(" / ".join(lines[-_LOOK:])) or "it said nothing"

    def _said(self, text: str) -> str:
        return mask(text, self.hidden)

    def address(self, service: str) -> str:
        """Its address on the scratch network; of one in another's network, that one's. Raises AgentError."""
        facts = self._facts([service]).get(service)
        if facts is None:
            raise AgentError(f"{self.service}: {service} of its copy is gone", "start")
        mode = str((facts.get("HostConfig") or {}).get("NetworkMode") or "")
        if mode.startswith("container:"):
            facts = engine.inspect(mode.partition(":")[2])
        networks = (facts.get("NetworkSettings") or {}).get("Networks") or {}
        found = (networks.get(f"{self.project}_{NETWORK}") or {}).get("IPAddress")
        if not found:
            raise AgentError(
                f"{self.service}: {service} of its copy has no address: {self._last(facts)}", "start"
            )
        return str(found)

    def listens(self, service: str, port: int, timeout: float) -> None:
        """Wait until something accepts connections: a database's first start speaks to itself for a while."""
        deadline = time.monotonic() + timeout
        while True:
            facts = self._facts([service]).get(service)
            if facts is None or facts["State"]["Status"] != "running":
                raise AgentError(f"{self.service}: {service} of its copy ended: {self._last(facts)}", "start")
            try:
                socket.create_connection((self.address(service), port), 2).close()
                return
            except OSError:
                if time.monotonic() >= deadline:
                    raise AgentError(
                        f"{self.service}: {service} of its copy does not listen on port {port} "
                        f"after {timeout:.0f} s: {self._last(facts)}",
                        "start",
                    ) from None
            time.sleep(_PAUSE)


def _verdict(facts: Mapping[str, Any] | None) -> str:
    """ "" when it serves or did its work; else why not, with ! in front when waiting does not help."""
    if facts is None:
        return "is not there"
    state = facts["State"]
    status, health = state.get("Status"), (state.get("Health") or {}).get("Status")
    if status == "running":
        if health == "unhealthy":
            return "!is unhealthy"
        return "" if health in (None, "", "none", "healthy") else "is not healthy yet"
    if status in ("exited", "dead"):
        return "" if state.get("ExitCode") == 0 else f"!ended with status {state.get('ExitCode')}"
    return f"is {status}"
