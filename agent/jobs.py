"""Copies of folders by timer: ``jobs NAME``, each with its own lock, record and memory.

Request: {"words": [NAME]} or {"jobs": [NAMES] or [] for all, "dry_run": bool, "confirm": bool}; ``confirm`` accepts
for this run that the source has shrunk and that more than ``max_delete`` entries go. Reply: {"jobs": [{"job", "ok",
"error", "files", "bytes", "changed", "sent", "deleted", "forgotten", "seconds"}]}: ``files`` and ``bytes`` of the
source, ``changed`` files with ``sent`` bytes; in a dry run what would happen. "error" and "reasons" when anything failed.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from . import lock
from .copying import memory, source
from .copying.memory import Memory
from .copying.rclone import Rclone
from .copying.rsync import Rsync
from .copying.work import MARKER, Look, Tool, Work, expired, stamp
from .data import clock, ledger
from .data import plan as plans
from .data.plan import CopyJob, Plan
from .errors import AgentError, because
from .root import Root
from .say import say

__all__ = ["run"]

TOOLS: dict[str, type[Rclone] | type[Rsync]] = {"rclone": Rclone, "rsync": Rsync}


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb. A job that fails does not keep the next one from running."""
    plan = plans.load(root)
    dry, confirm = bool(request.get("dry_run")), bool(request.get("confirm"))
    rows = [_row(root, job, dry, confirm) for job in _chosen(plan, request)]
    reasons = [str(row["error"]) for row in rows if not row["ok"]]
    if not reasons:
        return {"jobs": rows}
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return {"jobs": rows, "error": f"{reasons[0]}{more}", "kind": "failed", "reasons": reasons}


def _chosen(plan: Plan, request: dict[str, Any]) -> list[CopyJob]:
    names = [str(name) for name in request.get("words") or request.get("jobs") or plan.jobs]
    unknown = next((name for name in names if name not in plan.jobs), None)
    if unknown is not None:
        raise AgentError(
            f"there is no job {unknown!r}; known: {', '.join(plan.jobs) or 'none'}", "bad-request"
        )
    return [plan.jobs[name] for name in names]


def _row(root: Root, job: CopyJob, dry: bool, confirm: bool) -> dict[str, Any]:
    """Run one job; whatever happens becomes its row and, unless nothing was to happen, its record."""
    began = time.monotonic()
    facts: dict[str, Any] = {"ok": True, "error": None, "files": 0, "bytes": 0, "deleted": 0}
    try:
        with lock.exclusive(root, f"job-{job.name}", f"job {job.name}", 0, say):
            facts.update(_work(root, job, began, dry, confirm))
    except AgentError as error:
        facts.update(ok=False, error=_named(job, error.sentence), **error.details)
    except OSError as error:
        facts.update(ok=False, error=f"{job.name}: {error.filename or job.source}: {because(error)}")
    facts["seconds"] = round(time.monotonic() - began, 3)
    if not dry:
        ledger.add(root, "job", job=job.name, tool=job.tool, to=job.to, **facts)
    say(_told(job, facts, dry))
    return {"job": job.name, **facts}


def _named(job: CopyJob, sentence: str) -> str:
    return sentence if sentence.startswith(f"{job.name}:") else f"{job.name}: {sentence}"


def _told(job: CopyJob, facts: dict[str, Any], dry: bool) -> str:
    if not facts["ok"]:
        return str(facts["error"])
    would = "would send" if dry else "sent"
    return f"{job.name}: {facts['files']} files, {would} {facts['changed']}, deleted {facts['deleted']}"


def _work(root: Root, job: CopyJob, began: float, dry: bool, confirm: bool) -> dict[str, Any]:
    before = memory.load(root, job.name)
    with source.held(root, job) as folder:
        work = Work(root, job, folder, lambda: source.assert_mounted(root, job), began + job.timeout)
        tool: Tool = TOOLS[job.tool](work)
        _assert_marked(job, tool)
        look = tool.look()
        if look.files == 0:
            raise AgentError(
                f"{job.name}: {job.source} is empty; nothing was copied and nothing deleted", "source"
            )
        if dry:
            facts = {"changed": tool.rehearse(), "sent": 0, "deleted": look.gone, "forgotten": 0}
            return {
                **facts,
                "files": look.files,
                "bytes": look.bytes,
                "refused": _objection(job, look, before),
            }
        objection = _objection(job, look, before)
        if objection and not confirm:
            raise AgentError(objection, "refused", files=look.files, bytes=look.bytes)
        return _copy(
            work, tool, look, before, job.max_delete if not confirm else max(job.max_delete, look.gone)
        )


def _copy(work: Work, tool: Tool, look: Look, before: Memory, most: int) -> dict[str, Any]:
    """Send, remember, and only then let expired histories go."""
    root, job = work.root, work.job
    at = clock.now(root)
    now = stamp(at)
    # Noted before it can exist: a killed run leaves no history that nobody would ever remove.
    before = replace(before, stamps=(*before.stamps, now))
    memory.save(root, job.name, before)
    done = tool.copy(now, most)
    good = Memory(look.files, at, before.stamps)
    memory.save(root, job.name, good)
    kept = tool.kept(list(good.stamps))
    old = expired(kept, at, job.keep_days)
    tool.forget(old)
    stamps = tuple(name for name in good.stamps if name in kept and name not in old)
    memory.save(root, job.name, replace(good, stamps=stamps))
    return {
        "files": look.files,
        "bytes": look.bytes,
        "changed": done.changed,
        "sent": done.bytes,
        "deleted": done.deleted,
        "forgotten": len(old),
    }


def _assert_marked(job: CopyJob, tool: Tool) -> None:
    if job.marker and not tool.marked():
        raise AgentError(
            f"{job.name}: {job.to} has no {MARKER}: its disk is not mounted, or it is a new one "
            f"(then create the empty file {MARKER} there); nothing was copied",
            "target",
        )


def _objection(job: CopyJob, look: Look, before: Memory) -> str | None:
    """Why a run needs the owner's word first, or None."""
    if before.files and look.files < before.files * (1 - job.shrink_percent / 100):
        return (
            f"{job.name}: {job.source} has {look.files} files, {before.files} at the last good run: "
            f"nothing was copied and nothing deleted; if that is right, `understudy jobs {job.name} --confirm`"
        )
    if job.mode == "sync" and look.gone > job.max_delete:
        return (
            f"{job.name}: {look.gone} entries have gone from {job.source}, more than max_delete ({job.max_delete}): "
            f"nothing was copied and nothing deleted; if that is right, `understudy jobs {job.name} --confirm`"
        )
    return None
