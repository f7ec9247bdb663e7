"""Backups, restores and their status: verbs of the agent that is installed on the host.

They run as a transient systemd unit, so that a long one goes on when the line or the control machine is gone.
"""

from __future__ import annotations

import json
import shlex
import uuid
from typing import Any

from pyinfra import host
from pyinfra.api import operation

from .. import hostside
from ..baseline import AGENT
from ..desired import Desired
from ..errors import UnderstudyError
from ..protection.files import PLAN
from ..protection.secrets import FOLDER
from .session import Commands, Session, guarded, looking, of, run

HOUR = 3600


@operation()
@guarded
def done(verb: str, request: dict[str, Any], timeout: int = 12 * HOUR) -> Commands:
    """Run a protecting verb of the agent. The reply goes into the report."""
    yield run(of(host), lambda session: _do(session, verb, request, timeout))


@operation()
@guarded
def told(verb: str, request: dict[str, Any], timeout: int = 600) -> Commands:
    """Like :func:`done`, for a verb that changes nothing."""
    yield from looking(lambda session: _do(session, verb, request, timeout), f"asked for its {verb}")


def _do(session: Session, verb: str, request: dict[str, Any], timeout: int) -> None:
    reply = call(session, verb, request, timeout)
    session.note(reply=reply)
    session.write_report()


def installed(session: Session) -> bool:
    """Whether the host has the agent and a plan already."""
    live = session.survey().get("files") or {}
    return all(live.get(path, {}).get("kind") == "file" for path in (AGENT, PLAN))


def coverage(session: Session) -> tuple[list[str], list[str]]:
    """(a sentence for all data on the host that is in no backup, one for each repository that does not exist yet).

    A host without a plan of ours has made no repository, and what it holds is not judged. Raises UnderstudyError when
    the host could not look: that is not "nothing uncovered".
    """
    if not installed(session):
        return [], not_asked(session.desired)
    _, answer = session.send(
        f"/usr/bin/python3 -IB {AGENT} coverage -", f"{session.host.name}: coverage", 300, _stdin=stdin({})
    )
    try:
        found = hostside.parse(answer.stdout_lines)
    except hostside.HostsideError as error:
        raise UnderstudyError(f"{session.host.name}: {error}") from error
    uncovered, unmade = (found.get(key) or [] for key in ("uncovered", "unmade"))
    return [str(item["sentence"]) for item in uncovered], [str(item["sentence"]) for item in unmade]


def not_asked(desired: Desired) -> list[str]:
    """The sentence about the repositories of a host that has no agent yet to ask."""
    names = ", ".join(desired.settings.backup.repositories) if PLAN in desired.tree.entries else ""
    made = f"this host has made no repository yet ({names}): after the converge `understudy repo init` makes what is missing"
    return [made] if names else []


def call(session: Session, verb: str, request: dict[str, Any], timeout: int) -> dict[str, Any]:
    """Run the verb and wait. Raises UnderstudyError with the host's own sentence.

    The reply stands in a file on the host, so that progress can be shown line by line meanwhile.
    """
    name = f"understudy-{verb}-{uuid.uuid4().hex[:8]}"
    _, output = session.send(
        command(name, verb), f"{session.host.name}: {verb}", timeout, _stdin=stdin(request), print_output=True
    )
    _, answer = session.send(collect(name), f"{session.host.name}: {verb}", 60)
    try:
        return hostside.parse(answer.stdout_lines)
    except hostside.HostsideError as error:
        last = next((line.strip() for line in reversed(output.stderr_lines) if line.strip()), "")
        unheard = error.kind == "no-answer"
        detail = f" ({last.removeprefix('understudy: ')})" if unheard and last else ""
        raise UnderstudyError(f"{session.host.name}: {error}{detail}") from error


def stdin(request: dict[str, Any]) -> str:
    """The request as the agent reads it."""
    return json.dumps(request) + "\n"


def command(name: str, verb: str) -> str:
    """The shell command that runs the verb in a unit of its own, its reply in a private file."""
    agent = f"/usr/bin/python3 -IB {AGENT} {verb} -"
    unit = [
        "systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={name}",
        "--property=UMask=0077", f"--property=LoadCredential=backup:{FOLDER}",
        f"--property=ExecStopPost=/usr/bin/python3 -IB {AGENT} lift",
        "/bin/sh", "-c", f"exec {agent} > {reply_path(name)}",
    ]  # fmt: skip
    missing = "{ echo 'the agent is not on this host: converge it with the backup part on' >&2; exit 1; }"
    return f"test -e {AGENT} || {missing}; mkdir -p -m 0700 /run/understudy; {shlex.join(unit)}"


def reply_path(name: str) -> str:
    """Where the reply of one call waits."""
    return f"/run/understudy/{name}.reply"


def collect(name: str) -> str:
    """The shell command that prints the reply and removes it."""
    path = reply_path(name)
    return f"cat {path}; rm -f {path}"
