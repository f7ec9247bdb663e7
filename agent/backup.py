"""A backup tick: ``backup TIER`` by its timer, or by name.

Request: {"words": [TIER]} or {"services": [], "repositories": [], "reason": "", "confirm": false, "quiesce": false,
"lock_wait": seconds}. Reply: {"tier", "seq", "seconds", "late", "warnings", "troubles", "ping", "clock_off",
"services": [{"service", "repository", "ok", "error", "snapshot", "epoch", "seq", "started", "seconds", "files",
"bytes", "added", "rows", "unavailable", "shrank", ...}]} with one entry for each service and repository, and
"error" and "reasons" when anything failed.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from . import lock
from .data import ledger
from .data import plan as plans
from .data.jobs import asked, owned_only
from .data.tick import Tick
from .errors import AgentError
from .root import Root
from .say import say

__all__ = ["LOCK", "Stopped", "run", "stoppable"]

LOCK = "data"
"""Held by whatever writes or replaces data: ticks, restores, copies."""


class Stopped(BaseException):
    """A signal asked for the end. Not an Exception: no service's failure handling may swallow it."""


def run(
    request: dict[str, Any], root: Root, checkpoint: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """The verb. ``checkpoint`` is told of each step (tests)."""
    plan = plans.load(root)
    ask = owned_only(root, plan, asked(request, plan), bool(request.get("services")))
    if not ask.services and ask.left_out:
        return {
            "tier": ask.tier,
            "services": [],
            "skipped": f"{', '.join(ask.left_out)}: another host may own them now",
        }
    what = f"backup {ask.tier}".strip()
    try:
        with stoppable(), lock.exclusive(root, LOCK, what, ask.lock_wait, say):
            return Tick(root, plan, ask, checkpoint).run()
    except Stopped:
        sentence = f"{what} was stopped by a signal; what it had touched is as before"
    except AgentError as error:
        # A tick that never began is a fact that status must see.
        ledger.add(root, "tick", ok=False, error=error.sentence, tier=ask.tier, reason=ask.reason)
        raise
    ledger.add(root, "tick", ok=False, error=sentence, tier=ask.tier, reason=ask.reason)
    raise AgentError(sentence, "interrupted")


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, SIGTERM and SIGINT raise Stopped, once, so that everything opened is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: types.FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
