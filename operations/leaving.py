"""What of a host is ours, and taking it away (agent/footprint.py, agent/leave.py)."""

from __future__ import annotations

from typing import Any

from pyinfra import host
from pyinfra.api import operation

from .session import Commands, Session, guarded, looking, of, run

LONGEST = 1800


@operation()
@guarded
def listed(request: dict[str, Any]) -> Commands:
    """Read what is ours on the host into the report; nothing changes."""
    yield from looking(lambda session: _ask(session, "footprint", request), "read what is ours")


@operation()
@guarded
def left(request: dict[str, Any]) -> Commands:
    """Remove what is ours; stacks and data run on."""
    yield run(of(host), lambda session: _ask(session, "leave", request))


def _ask(session: Session, verb: str, request: dict[str, Any]) -> None:
    natives = session.desired.natives.values()
    needed = sorted({package for wish in natives for package in wish.native.packages})
    session.note(reply=session.agent(verb, {**request, "needed": needed}, timeout=LONGEST))
    session.write_report()
