"""One converge of one host: its desired state, its survey (read once, dropped after a change), its report.

pyinfra caches no facts, so this is where a converge keeps what it knows. Every command that goes to
the host passes :meth:`Session.send`, those of the agent through :meth:`Session.agent`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec

from pyinfra import host as current
from pyinfra import logger, state
from pyinfra.api import FunctionCommand, StringCommand
from pyinfra.api.command import PyinfraCommand
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.connectors.util import CommandOutput

from .. import compare, hostside, render
from ..desired import Desired
from ..errors import BadInput, Refused, UnderstudyError
from ..preflight import Allowances
from ..protection.files import PLAN

P = ParamSpec("P")
Commands = Generator[PyinfraCommand, None, None]
REPORT_VARIABLE = "UNDERSTUDY_REPORT"


@dataclass
class Session:
    """What is known of one host during one run.

    ``only`` names the one service that this run is about, "" for the whole host. ``changing`` is set once the lock is
    held: then a survey first finishes or undoes what a killed run left. ``owners``: what the host remembers of the groups'
    owners (agent/owner/state.py, ``known``), None before it was read.
    """

    host: Host
    desired: Desired
    allowed: Allowances = field(default_factory=Allowances)
    report: dict[str, Any] = field(default_factory=dict)
    commands: int = 0
    changing: bool = False
    only: str = ""
    owners: dict[str, Any] | None = None
    _survey: dict[str, Any] | None = None
    _changes: compare.HostChanges | None = None

    def survey(self) -> dict[str, Any]:
        """The host's state, read in one round trip and kept until something changes it."""
        if self._survey is None:
            request = {**compare.request(self.desired), "recover": self.changing}
            self._survey = self.agent("survey", request, timeout=300)
            render.complete(self.desired, self._survey)
            self.owners = self._survey.get("owners")
        return self._survey

    def changes(self) -> compare.HostChanges:
        """The differences between the survey and the desired state."""
        if self._changes is None:
            found = compare.changes(self.desired, self.survey())
            self._changes = found.of(self.only, (PLAN,)) if self.only else found
        return self._changes

    def forget(self) -> None:
        """Drop the survey: the host has changed."""
        self._survey = self._changes = None

    def agent(self, verb: str, request: dict[str, Any], timeout: int) -> dict[str, Any]:
        """Run an agent verb on the host. Raises UnderstudyError with the host's own sentence."""
        ok, output = self.send(
            hostside.command(verb), f"{self.host.name}: {verb}", timeout, _stdin=hostside.stdin(request)
        )
        try:
            return hostside.parse(output.stdout_lines)
        except hostside.HostsideError as error:
            detail = f" ({_last(output.stderr_lines)})" if not ok and output.stderr_lines else ""
            raise UnderstudyError(f"{self.host.name}: {error}{detail}") from error

    def send(self, command: str, problem: str, timeout: int, **arguments: Any) -> tuple[bool, CommandOutput]:
        """Run one shell command, counted, with the host's privileges; every command of a run passes here.

        Raises UnderstudyError, beginning with ``problem``, when there is no answer within ``timeout`` seconds.
        """
        self.commands += 1
        if self.desired.settings.sudo:
            arguments["_sudo"] = True
        try:
            return self.host.run_shell_command(StringCommand(command), _timeout=timeout, **arguments)
        except TimeoutError as error:
            raise UnderstudyError(f"{problem}: no answer within {timeout} s") from error

    def note(self, **facts: Any) -> None:
        """Add facts to the report of this host."""
        self.report.update(facts)

    def record(self, step: str, items: list[Any]) -> None:
        """Remember what a step changed, for the report."""
        self.report.setdefault("changed", {}).setdefault(step, []).extend(items)

    def write_report(self) -> None:
        """Append this host's report as one JSON line for the process that started us, if it asked."""
        path = os.environ.get(REPORT_VARIABLE)
        if path:
            line = json.dumps({"host": self.host.name, "commands": self.commands, **self.report})
            with open(path, "a", encoding="utf-8") as file:
                file.write(line + "\n")


_sessions: dict[str, Session] = {}


def start(host: Host, desired: Desired) -> Session:
    """Start the session of a host and make its connection quick.

    ``--data overwrite=a,b`` (also ``fresh`` and ``downgrade``) names services the owner allows that for.
    """
    no_delay(host)
    named = {
        key: frozenset(filter(None, str(host.data.get(key, "")).split(",")))
        for key in ("fresh", "overwrite", "downgrade")
    }
    only = str(host.data.get("only", ""))
    if only and only not in desired.services:
        raise BadInput(f"{host.name} has no service {only!r}; it has {', '.join(desired.services)}")
    # An application of a file is brought up with its file.
    allowed = Allowances(**{key: frozenset(map(desired.stack_named, names)) for key, names in named.items()})
    _sessions[host.name] = Session(host, desired, allowed, only=desired.stack_named(only))
    return _sessions[host.name]


def of(host: Host) -> Session:
    """The session of a host."""
    return _sessions[host.name]


def everyone() -> list[Session]:
    """The sessions of all hosts of this run."""
    return list(_sessions.values())


def no_delay(host: Host) -> None:
    """Set TCP_NODELAY, which neither paramiko nor pyinfra does: 48 ms a command become 3 ms."""
    client = getattr(host.connector, "client", None)
    transport = client.get_transport() if client else None
    sock = getattr(transport, "sock", None)
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def run(session: Session, step: Callable[[Session], None]) -> FunctionCommand:
    """A command that runs ``step`` during execution; its errors become one sentence and a failed host."""

    def execute(state: State, host: Host) -> bool:
        try:
            step(session)
        except UnderstudyError as error:
            fail(session, error)
            return False
        finally:
            session.forget()
        return True

    return FunctionCommand(execute, [], {})


def looking(step: Callable[[Session], None], said: str) -> Commands:
    """An operation that only looks: ``step`` runs during execution and nothing counts as a change."""
    if state.is_executing:
        step(of(current))
    current.noop(said)
    return
    yield


def fail(session: Session, error: UnderstudyError) -> None:
    """Log an error as the host's one sentence and put it into the report."""
    for line in str(error).splitlines():
        session.host.log_styled(line, fg="red", log_func=logger.error)
    session.note(error=str(error), exit_code=error.exit_code)
    session.write_report()


def guarded(body: Callable[P, Commands]) -> Callable[P, Commands]:
    """For an operation's body: what it raises while comparing fails this host only, in one sentence."""

    @wraps(body)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Commands:
        try:
            yield from body(*args, **kwargs)
        except UnderstudyError as error:
            problem = error
        else:
            return

        def execute(state: State, host: Host) -> bool:
            fail(of(host), problem)
            return False

        yield FunctionCommand(execute, [], {})

    return wrapper


def refuse(sentences: list[str]) -> None:
    """Raise Refused with all sentences, if there are any."""
    if sentences:
        raise Refused("\n".join(sentences))


def _last(lines: list[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
