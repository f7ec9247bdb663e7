"""Safe updates: an image of a service with data changes only with a fresh snapshot, and back if it does not serve."""

from __future__ import annotations

from typing import Any

from pyinfra import host
from pyinfra.api import operation

from ..desired import Desired
from ..errors import UnderstudyError
from ..ownership.held import held
from ..protection import files as protection
from ..service import unit_of
from . import protecting
from .session import Commands, Session, guarded, of, run

PATIENCE = 120.0
"""Seconds a new version has to answer (protocol.md §10)."""


@operation()
@guarded
def prepared() -> Commands:
    """Before anything of a service with data gets another image: a snapshot, and the way back written down."""
    session = of(host)
    if not candidates(session):
        host.noop("no service with data changes its image")
        return
    yield run(session, prepare)


@operation()
@guarded
def judged() -> Commands:
    """Keep a new version that serves; put images and data back where it does not."""
    session = of(host)
    if not waiting(session):
        host.noop("no update waits for its verdict")
        return
    yield run(session, judge)


def waiting(session: Session) -> list[str]:
    """Services whose update is open: begun now, or left by a killed run."""
    return sorted({*(session.survey().get("updates") or []), *candidates(session)})


def of_file(session: Session, stack: str, names: list[str]) -> list[str]:
    """Those of the named services whose containers are in one file."""
    return [name for name in names if session.desired.stack_named(name) == stack]


def image_changes(desired: Desired, survey: dict[str, Any]) -> dict[str, list[str]]:
    """Service to sentences "container: old → new" for every running container whose image would change."""
    found: dict[str, list[str]] = {}
    for stack in desired.stacks.values():
        live = {c["service"]: c for c in survey.get("containers") or [] if c.get("project") == stack.project}
        for name, image in stack.images:
            now = live.get(name, {}).get("image")
            if now and image and now != image:
                unit = unit_of(desired.catalog.services, stack.service, name)
                found.setdefault(unit.name, []).append(f"{name}: {now} → {image}")
    return found


def candidates(session: Session) -> list[str]:
    """Services with data whose image changes, on a host that backs up already and is to go on doing so."""
    if protection.PLAN not in session.desired.tree.entries or not protecting.installed(session):
        return []
    kept = protection.kept_services(session.desired) - held(session.desired, session.survey())
    return [name for name in image_changes(session.desired, session.survey()) if name in kept]


def prepare(session: Session) -> None:
    """Ask the host for the snapshots. Raises UnderstudyError when one fails: then nothing has changed."""
    written = [change for change in session.changes().files if change.action != "delete"]
    wanted = {
        name: sorted(change.path for change in written if change.service == session.desired.stack_named(name))
        for name in candidates(session)
    }
    reply = protecting.call(session, "update", {"action": "prepare", "services": wanted}, 6 * protecting.HOUR)
    failed = [
        f"{row['service']} is not updated: {row['error']}" for row in reply["services"] if not row["ok"]
    ]
    if failed:
        raise UnderstudyError("\n".join([*failed, "No snapshot, no update: nothing was changed."]))
    session.record("snapshots", list(wanted))


def judge(session: Session) -> None:
    """Probe each updated service; raises UnderstudyError after putting back what does not serve."""
    names = list(session.survey().get("updates") or [])
    bad = {name: why for name in names for why in [_objection(session, name)] if why}
    for name in list(bad):
        # One file goes back as a whole: its other applications would run what it no longer says.
        together = of_file(session, session.desired.stack_named(name), names)
        bad |= {other: f"{name}, in the same file, did not" for other in together if other not in bad}
    good: dict[str, list[str]] = {name: [] for name in names if name not in bad}
    if good:
        protecting.call(session, "update", {"action": "commit", "services": good}, 300)
    if bad:
        raise UnderstudyError("\n".join(put_back(session, bad)))


def _objection(session: Session, name: str) -> str:
    """Why a service does not serve, "" when it does."""
    probes = [{**w.request, "wait": PATIENCE} for w in session.desired.probes if w.service == name]
    if not probes:
        return ""
    results = session.agent("probe", {"probes": probes, "parallel": 4}, int(PATIENCE) + 120)["results"]
    return "; ".join(f"{result['name']}: {result['error']}" for result in results if not result["ok"])


def put_back(session: Session, bad: dict[str, str]) -> list[str]:
    """Roll these services back; one sentence each, with the application's last lines."""
    asked: dict[str, Any] = {"action": "rollback", "services": {name: [] for name in bad}}
    reply = protecting.call(session, "update", asked, 6 * protecting.HOUR)
    lines = []
    for row in reply["services"]:
        outcome = (
            f"put back to the images and the data of before in {row['seconds']} s"
            if row["ok"]
            else f"and could not be put back: {row['error']}"
        )
        lines.append(f"{row['service']} did not serve after its update ({bad[row['service']]}); {outcome}")
        lines += [f"    {line}" for line in row.get("last_words") or []]
    return lines
