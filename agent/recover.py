"""Finishes or undoes what a killed apply or restore left behind. The next run does it, and so does every boot.

Of a restore only files and fences: Docker may not run yet; ``lift`` does the rest.
"""

from __future__ import annotations

from typing import Any

from . import commit, lock, originals, stage
from . import journal as journals
from .disk import Disk
from .errors import AgentError, because
from .journal import Journal
from .root import PENDING, STATE, Root
from .say import say

__all__ = ["files", "recover", "restores", "run"]


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """{} -> {"recovered": null | {"release", "outcome": "finished" | "undone", "kept": [paths]},

    "restores": [{"service", "snapshot", "state", "outcome": "finished" | "undone" | "fenced" | "broken", "error"}]}.
    """
    return {"recovered": files(request, root), "restores": restores(root)}


def files(request: dict[str, Any], root: Root) -> dict[str, Any] | None:
    """Close an interrupted apply, under its lock."""
    with lock.exclusive(root, "apply", "recover", float(request.get("lock_wait", 120)), say):
        return recover(Disk(root))


def restores(root: Root) -> list[dict[str, Any]]:
    """Interrupted restores; one that is still at work holds the lock of the data and is left alone."""
    # Not above: what travels with each converge closes its own journal only and has no restores on board.
    from .putback import journal as putback

    if not putback.names(root):
        return []
    from .putback import resuming

    try:
        with lock.exclusive(root, "data", "recover", 0, lambda line: None):
            return resuming.before_docker(Disk(root))
    except AgentError as error:
        if error.kind != "busy":
            raise
        return []


def recover(disk: Disk) -> dict[str, Any] | None:
    """Close an open journal; the caller holds the lock. ``kept``: paths that somebody else changed since."""
    journal = journals.load(disk.root)
    report = None
    if journal is not None:
        say(f"an earlier run ({journal.release}) was interrupted: {journal.state}")
        report = {"release": journal.release, **_close(disk, journal)}
        say(f"it was {report['outcome']}")
    stage.sweep(disk)
    for folder in (STATE, PENDING, originals.FOLDER):
        disk.drop_unfinished(folder)
    return report


def _close(disk: Disk, journal: Journal) -> dict[str, Any]:
    if journal.state == "committing" and commit.can_go_forward(disk, journal):
        try:
            return {"outcome": "finished", "kept": commit.forward(disk, journal, strict=False)}
        except (OSError, AgentError) as error:
            say(f"it cannot be finished: {error}")
    return {"outcome": "undone", "kept": back(disk, journal)}


def back(disk: Disk, journal: Journal) -> list[str]:
    """Undo; when even that fails the journal stays, and the error says so."""
    try:
        return commit.undo(disk, journal)
    except OSError as error:
        sentence = f"release {journal.release} could neither be finished nor undone ({because(error)})"
        raise AgentError(f"{sentence}: repair that and run recover", "broken") from error
