"""What `understudy plan` reads: the differences, the problems and the refusals of one host."""

from __future__ import annotations

from typing import Any

from pyinfra.api import operation

from .. import compare, preflight
from ..compare import HostChanges
from . import protecting, traffic
from .session import Commands, Session, guarded, looking


@operation()
@guarded
def reported() -> Commands:
    """Write this host's differences into the report; nothing on the host changes."""
    yield from looking(report, "compared")


def report(session: Session) -> None:
    """Fill and write the session's report."""
    outside, notes = traffic.rows(session)
    survey = session.survey()
    changes = session.changes()
    problems = preflight.problems(session.desired, survey)
    refused = preflight.refusals(session.desired, survey, changes.files, session.allowed)
    parts = session.desired.settings.parts.switched_on()
    session.note(
        role=session.desired.settings.role,
        parts=parts,
        count=changes.count() + len(outside),
        plan=[*as_rows(changes), *outside],
    )
    session.note(problems=problems, refused=refused, unmanaged=preflight.unmanaged(session.desired, survey))
    faults = [str(fault) for fault in session.desired.catalog.warnings]
    session.note(warnings=[*_idle(session), *notes, *faults], drift=compare.drift(session.desired, survey))
    uncovered, unmade = protecting.coverage(session)
    session.note(uncovered=uncovered, unmade=unmade)
    session.write_report()


def _idle(session: Session) -> list[str]:
    settings = session.desired.settings
    if not settings.idle or not session.desired.kept:
        return []
    count = len(session.desired.kept)
    return [
        f"{settings.name}: no repository is declared, so {count} services are in no backup (docs/backups.md)"
    ]


def as_rows(changes: HostChanges) -> list[dict[str, Any]]:
    """One row a change: what it is, which object, why."""
    rows = [{"kind": "package", "what": name, "why": "not installed"} for name in changes.packages]
    rows += [{"kind": "user", "what": name, "why": "does not exist"} for name in changes.users]
    rows += [{"kind": "file", "what": c.path, "why": c.action} for c in changes.files]
    rows += [{"kind": "unit", "what": name, "why": "not enabled and running"} for name in changes.units]
    rows += [{"kind": "stack", "what": c.service, "why": "; ".join(c.reasons)} for c in changes.stacks]
    rows += [
        {"kind": "apply", "what": reaction, "why": "its files changed"} for reaction in changes.reactions
    ]
    return rows
