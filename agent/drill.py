"""Proves that services can be restored: each critical one, every night, in a scratch stack of its own.

Request: {"services": [names] (none: all of tier critical), "repository": name or "" (the first that answers)}.
Reply: {"services": [{"service", "group", "tier", "ok", "error", "scope", "repository", "snapshot", "snapshot_time",
"seconds", "phases", "rows", "databases", "bytes", "files", "probes", "left_out", "notes"}], "skipped": reason or
null} with "error" when one failed. Each is a ``drill`` record of the ledger: the last good one of a service is its
last proven restore.

Nothing live is touched: no lock on data is held, ticks go on meanwhile.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from . import backup, lock
from .data import ledger
from .data import plan as plans
from .data.plan import Plan, Service
from .errors import AgentError
from .putback import journal
from .root import Root
from .say import say
from .scratch import leftovers
from .scratch.rehearsal import Rehearsal

__all__ = ["run"]

_TIER = "critical"
_DATA = "data"


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    plan = plans.load(root)
    wanted = _wanted(plan, list(request.get("services") or request.get("words") or []))
    repository, wait = str(request.get("repository") or ""), float(request.get("lock_wait", 5))
    with backup.stoppable(), lock.exclusive(root, leftovers.LOCK, "drill", wait, say):
        for name in leftovers.remove(root):
            say(f"removed what an interrupted drill of {name} had left")
        done: list[dict[str, Any]] = []
        for service in wanted:
            reason = _restoring(root)
            if reason:
                say(reason)
                return _reply(done, reason)
            done.append(_one(root, plan, service, repository))
    return _reply(done, None)


def _wanted(plan: Plan, names: list[str]) -> list[Service]:
    if not names:
        return plan.of_tier(_TIER)
    unknown = [name for name in names if name not in plan.services]
    if unknown:
        raise AgentError(
            f"{unknown[0]} is not in this host's plan; it holds {', '.join(plan.services) or 'nothing'}",
            "bad-request",
        )
    return [plan.services[name] for name in dict.fromkeys(names)]


def _restoring(root: Root) -> str | None:
    """Why no drill may start now. A restore needs the disk and the memory, and is worth more."""
    who = lock.holder(root, _DATA)
    if who and who.startswith("restore"):
        return f"no drill now: {who} is at work"
    open_ = journal.names(root)
    return f"no drill now: the restore of {open_[0]} is not finished" if open_ else None


def _one(root: Root, plan: Plan, service: Service, repository: str) -> dict[str, Any]:
    rehearsal = Rehearsal(root, plan, service, repository)
    try:
        report = asdict(rehearsal.run())
    except backup.Stopped:
        sentence = f"the drill of {service.name} was stopped by a signal; its copy is removed"
        ledger.add(root, "drill", **{**asdict(rehearsal.report), "error": sentence})
        raise AgentError(sentence, "interrupted") from None
    ledger.add(root, "drill", **report)
    verdict = "proven" if report["ok"] else f"FAILED: {report['error']}"
    say(f"drill of {service.name}: {verdict} ({report['seconds']:.1f} s)")
    return report


def _reply(done: list[dict[str, Any]], skipped: str | None) -> dict[str, Any]:
    failed = [report for report in done if not report["ok"]]
    reply: dict[str, Any] = {"services": done, "skipped": skipped}
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        reply |= {"error": f"{failed[0]['error']}{more}", "kind": "failed"}
    return reply
