"""The journal: what a transaction is about to do, on disk before it does it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, Literal

from .disk import Disk
from .errors import AgentError, because
from .root import JOURNAL, STATE, Root
from .steps import Step

__all__ = ["Journal", "State", "erase", "load", "save", "summary"]

State = Literal["prepared", "committing", "undoing", "done"]
_FORMAT = 1


@dataclass
class Journal:
    """``prepared``: nothing live has changed. ``committing``: some may have. ``undoing``: on its way back.

    ``reactions`` become due with the first rename; ``added`` are those of them that were not due before.
    """

    release: str
    since: str
    state: State = "prepared"
    steps: list[Step] = field(default_factory=list)
    reactions: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)

    def of(self, *ops: str) -> list[Step]:
        """The steps with these operations, in order."""
        return [step for step in self.steps if step.op in ops]


def save(disk: Disk, journal: Journal) -> None:
    """Write the journal durably; the state it carries holds from here on."""
    values = {
        "format": _FORMAT,
        "release": journal.release,
        "since": journal.since,
        "state": journal.state,
        "reactions": journal.reactions,
        "added": journal.added,
        "steps": [step.to_json() for step in journal.steps],
    }
    disk.replace(JOURNAL, json.dumps(values).encode())


def erase(disk: Disk) -> None:
    """The transaction is over."""
    disk.unlink(JOURNAL)
    disk.sync_dirs([STATE])


def load(root: Root) -> Journal | None:
    """The journal of an unfinished transaction, or None. An unreadable one stops all work on this host."""
    values = _read(root)
    if values is None:
        return None
    if values.get("format") != _FORMAT:
        raise AgentError(
            f"{JOURNAL} was written by another version of the agent: use that one to recover", "broken"
        )
    steps = [Step.from_json(step) for step in values["steps"]]
    return Journal(
        values["release"], values["since"], values["state"], steps, values["reactions"], values["added"]
    )


def _read(root: Root) -> dict[str, Any] | None:
    try:
        with open(root.at(JOURNAL), "rb") as stream:
            values: dict[str, Any] = json.load(stream)
            return values
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AgentError(f"{JOURNAL} cannot be read: {because(error)}", "broken") from error
    except ValueError as error:
        raise AgentError(
            f"{JOURNAL} is damaged: look at it and at {os.path.dirname(JOURNAL)}/previous", "broken"
        ) from error


def summary(root: Root) -> dict[str, Any] | None:
    """The unfinished transaction in three words, for the survey."""
    journal = load(root)
    if journal is None:
        return None
    return {
        "release": journal.release,
        "since": journal.since,
        "state": journal.state,
        "steps": len(journal.steps),
    }
