"""The journal of one service's restore: on the disk before anything of the service is touched.

    state      what is true                                            at boot, before Docker   after Docker
    prepared   all is old; new folders and db__new are being filled    new folders go           db__new goes, start
    swapping   files are exchanged, one target after the other         files go back            db__new goes, start
    databases  files are new; servers' databases are exchanged         fence up                 forward
    swapped    all is new, nothing started                             fence up                 forward
    started    all is new and runs behind the fence                    fence up                 forward
    undoing    on the way back: databases first, then files            fence up                 back, start
    undone     files are old again; databases and starting are left    nothing                  db__new goes, start
    committed  proven; the fence and this file have to go              fence down, closed       closed

"Forward" is: finish the databases, start behind the fence, probe, commit; and back to the old state when that
fails. Nobody outside wrote to the new data before the commit, because ``committed`` is on the disk before the
fence goes down; so going back never loses a write. ``mode`` in_place has no old copy: ``swapping`` then means that
the live files are a mixture behind the fence, and the way back is a restore of the snapshot ``before``, which
needs the repository and so waits for ``resume``.
"""

from __future__ import annotations

import json
import os
import urllib.parse
from dataclasses import dataclass, field
from typing import Any, Literal

from ..disk import Disk
from ..errors import AgentError, because
from ..root import STATE, Root
from .target import Target

__all__ = ["FOLDER", "Journal", "State", "erase", "load", "names", "path_of", "resume", "save"]

FOLDER = f"{STATE}/restore"
FORMAT = 1
State = Literal["prepared", "swapping", "databases", "swapped", "started", "undoing", "undone", "committed"]


@dataclass
class Journal:
    """``running`` is what ran before (agent/putback/running.py); ``stopped``: the service may be down because of us.

    ``databases`` are the servers' databases of this restore: {"name", "facts": the manifest's entry, "file",
    "loaded": what the loader gave}. ``work`` holds what no target does (manifest, dumps). ``before``: id of the
    snapshot of the state that an in-place restore replaces. ``until``: when the old copies may go. ``ports`` are
    what the fence closes.
    """

    service: str
    snapshot: str
    repository: str
    group: str
    state: State = "prepared"
    mode: str = "swap"
    since: float = 0.0
    until: float = 0.0
    work: str = ""
    before: str = ""
    stopped: bool = False
    ports: list[int] = field(default_factory=list)
    running: dict[str, Any] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    databases: list[dict[str, Any]] = field(default_factory=list)

    @property
    def token(self) -> str:
        """What marks this restore on a database server."""
        return f"{self.snapshot[:8]}-{self.since:.3f}"


def path_of(service: str) -> str:
    """The journal's host path."""
    return f"{FOLDER}/{urllib.parse.quote(service, safe='')}.json"


def save(disk: Disk, journal: Journal) -> None:
    """Write it durably; the state it carries holds from here on."""
    values = {**vars(journal), "format": FORMAT, "targets": [target.to_json() for target in journal.targets]}
    disk.private_dir(FOLDER)
    disk.replace(path_of(journal.service), json.dumps(values).encode())


def erase(disk: Disk, journal: Journal) -> None:
    """The restore is over, one way or the other."""
    disk.unlink(path_of(journal.service))
    disk.sync_dirs([FOLDER])


def names(root: Root) -> list[str]:
    """Services with an open journal, sorted."""
    try:
        found = os.listdir(root.at(FOLDER))
    except FileNotFoundError:
        return []
    ending = ".json"
    return sorted(
        urllib.parse.unquote(name[: -len(ending)])
        for name in found
        if name.endswith(ending) and not name.startswith(".")
    )


def load(root: Root, service: str) -> Journal | None:
    """The open journal of a service, or None. One that cannot be read stops all restores of the service."""
    path = path_of(service)
    try:
        with open(root.at(path), "rb") as stream:
            values = json.load(stream)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {because(error)}", "broken") from error
    except ValueError as error:
        raise AgentError(
            f"{path} is damaged: look at it and at the .understudy-* folders beside the data of {service}",
            "broken",
        ) from error
    if values.pop("format", None) != FORMAT:
        raise AgentError(f"{path} was written by another version of the agent: use that one", "broken")
    return Journal(**{**values, "targets": [Target(**target) for target in values["targets"]]})


def resume(root: Root) -> list[dict[str, Any]]:
    """Finish or undo what killed restores left, with Docker running; the caller holds the lock "data".

    Returns [{"service", "snapshot", "state", "outcome": finished | undone | broken, "error"}].
    """
    # Only here: what finishes a restore stands on this module.
    from . import resuming

    return resuming.resume(root)
