"""Puts data back: services onto this host, or anything into a folder.

Request: {"services": [names; none: all of the plan], "repository": name or "" (the first that answers), "snapshot": id
or "", "time": seconds since the epoch or null (the newest not after it), "to": "" or a folder that is empty or
not there, "paths": [patterns; with "to"], "dry_run", "in_place": onto the live folders by difference (where there is
no room for two copies), "keep_old_days": 30, "allow_version", "allow_special": programs and links that this host does
not have there, "confirm_loss": what is newer than the snapshot may go, "lock_wait": 600, "timeout": seconds for each
restic run, "reason"}.
Patterns are ``KEY/glob`` (a mount's key), ``CONTAINER:/path/glob``, ``dumps/glob`` or ``config/glob``.

Reply: {"services": [{"service", "snapshot", "repository", "age", "seconds", "phases": {name: seconds}, "bytes", "files",
"rows": {database: {table: count}}, "ok", "error", "kind", "newer": {"minutes", "files", "bytes", "examples", "rows"},
"old": [paths of the copies that are kept], "until", "versions", "notes", "wrong": {"count", "paths"}, "mode",
"hooks_failed", "made_volumes"}], "resumed": [what an earlier, killed restore ended as]}; and "error" when a service
failed. A dry run also has "space" (by file system), "fits", "would": {"bytes", "files"}, "config_changed".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import backup, lock, may
from .data import clock
from .data import plan as plans
from .data.plan import Plan
from .disk import Disk
from .errors import AgentError, because
from .putback import batch as batches
from .putback import choice, old, resuming, scratch
from .putback.asked import Asked, parse
from .putback.batch import One, Work
from .root import Root
from .say import say

__all__ = ["run"]

Chosen = tuple[list[choice.Batch], dict[str, AgentError]]


def run(
    request: dict[str, Any], root: Root, checkpoint: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """The verb. ``checkpoint`` is for tests that kill this process everywhere."""
    asked, plan = parse(request), plans.load(root)
    services = choice.ordered(plan, asked.services)
    if not asked.dry_run and not asked.to:
        _refuse_others(root, [service.name for service in services])
    disk = Disk(root, checkpoint)
    before: dict[str, tuple[str, str]] = {}
    refused: list[dict[str, Any]] = []
    chosen: Chosen | None = None
    if asked.in_place and not asked.dry_run:
        # Before the fresh snapshot, which would be the newest: it is the way back, not what is asked for.
        chosen = choice.batches(root, plan, asked)
        # Takes the same lock, so it comes first.
        names = [service.name for service in services if service.name not in chosen[1]]
        before, refused = _backed_up(root, names, asked) if names else ({}, [])
    what = f"restore {', '.join(asked.services) or 'all services'}"
    with backup.stoppable(), lock.exclusive(root, backup.LOCK, what, asked.lock_wait, say):
        # A look or a scratch copy touches no service, not even one that a killed run left half way.
        onto_host = not asked.dry_run and not asked.to
        resumed = resuming.resume(root, disk) if onto_host else []
        _refuse_broken(resumed, [service.name for service in services])
        if asked.to and not asked.dry_run:
            scratch.ready(root, asked.to)
        if onto_host:
            old.sweep(disk, plan)
        rows = [*refused, *_all(disk, plan, asked, before, {row["service"] for row in refused}, chosen)]
    reply: dict[str, Any] = {"services": rows, "resumed": resumed}
    failed = [row for row in rows if not row["ok"]]
    return {**reply, "error": failed[0]["error"], "kind": failed[0]["kind"]} if failed else reply


def _refuse_others(root: Root, names: list[str]) -> None:
    theirs = [name for name in names if may.waits(root, name)]
    if theirs:
        raise AgentError(
            f"{theirs[0]} is not this host's now, so nothing is restored over it here: restore it on the host that owns "
            "it; nothing was changed",
            "not-owner",
        )


def _refuse_broken(resumed: list[dict[str, Any]], names: list[str]) -> None:
    for report in resumed:
        if report["outcome"] == "broken" and report["service"] in names:
            raise AgentError(
                f"an earlier restore of {report['service']} is not closed: {report['error']}", "broken"
            )


def _backed_up(
    root: Root, names: list[str], asked: Asked
) -> tuple[dict[str, tuple[str, str]], list[dict[str, Any]]]:
    """A fresh snapshot of each service, (repository, snapshot); and rows for those that have none."""
    say("a snapshot of the current state comes first")
    reply = backup.run({"services": names, "reason": "before restore", "confirm": True}, root)
    found: dict[str, tuple[str, str]] = {}
    errors: dict[str, str] = {}
    for row in reply["services"]:
        if row["ok"] and row.get("snapshot"):
            found.setdefault(row["service"], (row["repository"], row["snapshot"]))
        else:
            errors[row["service"]] = str(row.get("error"))
    missing = [name for name in names if name not in found]
    rows = []
    for name in missing:
        sentence = (
            f"{name}: its current state could not be saved first ({errors.get(name)}); nothing was changed"
        )
        rows.append(_failed(name, AgentError(sentence, "refused")))
    return found, rows


def _all(
    disk: Disk,
    plan: Plan,
    asked: Asked,
    before: dict[str, tuple[str, str]],
    done: set[str],
    chosen: Chosen | None,
) -> list[dict[str, Any]]:
    found, without = chosen or choice.batches(disk.root, plan, asked)
    rows = []
    for name, error in without.items():
        # A snapshot asked for by its id, and no service: those that are in it are meant.
        if not (asked.snapshot and not asked.services and found):
            rows.append(_failed(name, error))
    for one in found:
        one.services = [service for service in one.services if service.name not in done]
        if one.services:
            rows += _batch(Work(disk, plan, asked, one, before))
    order = list(plan.services)
    return sorted(rows, key=lambda row: order.index(row["service"]))


def _batch(work: Work) -> list[dict[str, Any]]:
    started = time.monotonic()
    try:
        batches.prepare(work)
        if work.asked.dry_run:
            batches.check(work)
        elif work.asked.to:
            scratch.restore(work)
        else:
            batches.check(work)
            batches.restore(work)
    except (AgentError, OSError) as error:
        _fail_all(work, error)
    finally:
        if all(one.journal is None or one.error is None for one in work.ones):
            batches.clear(work)
    rows = [_row(work, one, time.monotonic() - started) for one in work.ones]
    if not work.asked.dry_run:
        for one, row in zip(work.ones, rows, strict=True):
            batches.record(work, one, row["seconds"])
    return rows


def _fail_all(work: Work, error: AgentError | OSError) -> None:
    if isinstance(error, OSError):
        error = AgentError(f"{error.filename or work.folder}: {because(error)}; nothing was changed", "io")
    if not work.ones:
        work.ones = [One(service, {}, {}) for service in work.batch.services]
    for one in work.ones:
        one.error = one.error or error


def _failed(name: str, error: AgentError) -> dict[str, Any]:
    return {"service": name, "snapshot": None, "ok": False, "error": error.sentence, "kind": error.kind}


def _row(work: Work, one: One, seconds: float) -> dict[str, Any]:
    snapshot, asked = work.batch.snapshot, work.asked
    row: dict[str, Any] = {
        "service": one.service.name,
        "snapshot": snapshot.id,
        "repository": work.batch.repo.name,
        "age": round(clock.now(work.disk.root) - snapshot.time, 1),
        "seconds": round(seconds, 3),
        "phases": {**work.shared, **one.phases},
        "ok": one.error is None,
        "error": one.error.sentence if one.error else None,
        "kind": one.error.kind if one.error else None,
        **one.facts,
    }
    row["wrong"] = vars(one.facts["wrong"]) if "wrong" in one.facts else {"count": 0, "paths": []}
    if one.journal is not None and row["ok"]:
        row["until"] = one.journal.until
    if asked.dry_run:
        row["would"] = {
            "bytes": sum(part.bytes for part in one.parts.values()),
            "files": sum(part.files for part in one.parts.values()),
            "rows": {name: facts["rows"] for name, facts in (one.manifest.get("databases") or {}).items()},
        }
    return row
