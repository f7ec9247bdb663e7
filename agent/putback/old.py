"""The old copies that restores leave beside the live data: listed, and removed when their time is over."""

from __future__ import annotations

import json
import os
import urllib.parse
from typing import Any

from ..data import clock
from ..data.plan import Plan
from ..disk import Disk
from ..dumps import kinds
from ..errors import AgentError, because
from ..root import Root
from ..say import say
from .arrive import database_of
from .journal import FOLDER, Journal
from .swap import remove_tree
from .target import OLD

__all__ = ["forget", "kept", "note", "sweep"]

KEPT = f"{FOLDER}/old"


def note(disk: Disk, journal: Journal, until: float) -> None:
    """Remember what a restore set aside. Called before its commit; calling it again changes nothing."""
    disk.private_dir(KEPT)
    record = {
        "service": journal.service,
        "snapshot": journal.snapshot,
        "since": journal.since,
        "until": until,
        "paths": [target.old for target in journal.targets],
        "databases": [{"name": d["name"], "facts": d["facts"]} for d in journal.databases],
    }
    disk.replace(_path(journal), json.dumps(record).encode())


def forget(disk: Disk, journal: Journal) -> None:
    """What was set aside is back where it was: there is nothing to remember."""
    disk.unlink(_path(journal))


def _path(journal: Journal) -> str:
    name = urllib.parse.quote(journal.service, safe="")
    return f"{KEPT}/{name}-{journal.snapshot[:8]}-{journal.since:.3f}.json"


def kept(root: Root) -> list[dict[str, Any]]:
    """Every restore whose old copies are still there, oldest first: {"service", "snapshot", "since", "until", "paths"}."""
    found = []
    for name in _names(root):
        try:
            with open(root.at(f"{KEPT}/{name}"), encoding="utf-8") as stream:
                found.append({**json.load(stream), "record": f"{KEPT}/{name}"})
        except (OSError, ValueError):
            continue
    return sorted(found, key=lambda record: float(record["since"]))


def _names(root: Root) -> list[str]:
    try:
        return [n for n in os.listdir(root.at(KEPT)) if n.endswith(".json") and not n.startswith(".")]
    except FileNotFoundError:
        return []


def sweep(disk: Disk, plan: Plan | None = None) -> list[str]:
    """Remove old copies whose time is over; the caller holds the lock "data". Returns what went.

    Databases' old copies go with the plan given, when their server runs.
    """
    gone: list[str] = []
    now, records = clock.now(disk.root), kept(disk.root)
    for record in records:
        if float(record["until"]) > now:
            continue
        newer = any(r["service"] == record["service"] and r["since"] > record["since"] for r in records)
        try:
            gone += [path for path in record["paths"] if _remove(disk, path)]
            # DB__old is the newest restore's.
            if record["databases"] and not newer and plan is not None:
                _discard(plan, record)
            disk.unlink(record["record"])
        except OSError as error:
            say(f"old data of {record['service']} cannot be removed yet: {because(error)}")
        except AgentError as error:
            say(f"old data of {record['service']} cannot be removed yet: {error.sentence}")
    return gone


def _remove(disk: Disk, path: str) -> bool:
    """Only what lies in a folder that a restore made."""
    if not os.path.basename(os.path.dirname(path)).startswith(OLD) or not os.path.lexists(disk.root.at(path)):
        return False
    remove_tree(disk, path)
    disk.remove_dir(os.path.dirname(path))
    return True


def _discard(plan: Plan, record: dict[str, Any]) -> None:
    service = plan.services.get(record["service"])
    for one in record["databases"] if service else []:
        database = database_of(service, one["name"]) if service else None
        if database is not None:
            kinds.discard_old(database, one["facts"])
