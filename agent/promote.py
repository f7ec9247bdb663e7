"""Makes the published slot of a group live and runs it behind the fence; the guard lifts that once a record names us.

Request: {"group", "epoch": of the batch that is to come, "nonce", "base": HOST:EPOCH:SEQ, "seconds": 900 that the grant
holds, "until": 0 or when it ends by this host's CLOCK_BOOTTIME, "previous": false (the older slot), "rollback": false
(data goes back in time: those hooks run too), "allow_version": false, "torn": false (a single slot that a refresh left
half way), "lock_wait": 60, "services": [] (all of the group)}.
Reply: {"group", "epoch", "slot", "services": [{"service", "ok", "error", "kind", "snapshot", "name", "time", "rows",
"old", "notes", "hooks_failed", "phases", "seconds"}], "left": seconds of the grant, "failed", "seconds"}; "error" when a
service does not serve: repeat it, or ``demote``. Killed anywhere it goes on when called again; after a reboot the grant
is gone, and what was half exchanged goes back into its slot.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from . import backup, lock, may, process
from .data import ledger
from .data import plan as plans
from .disk import Disk
from .errors import AgentError
from .freeze import wanted
from .guard import LOCK as GUARD
from .owner import fences, objects, starter, state, storelease
from .owner.plan import Plan as Owners
from .owner.plan import load
from .owner.state import Grant
from .putback import resuming
from .refresh import LOCK as REFRESH
from .replica import live
from .root import RUN, Root
from .say import say

__all__ = ["run"]

_GRANT = 900.0


def run(request: dict[str, Any], root: Root, checkpoint: Any = None) -> dict[str, Any]:
    """The verb. ``checkpoint`` is for tests that kill this process everywhere."""
    owned, plan, group, began = load(root), plans.load(root), wanted(request), time.monotonic()
    grant, disk = _grant(root, owned, group, request), Disk(root, checkpoint)
    _interrupt(root, group)
    wait = float(request.get("lock_wait", 60))
    with (
        backup.stoppable(),
        lock.exclusive(root, f"{REFRESH}-{group}", f"promotion of {group}", wait, say),
        lock.exclusive(root, backup.LOCK, f"promotion of {group}", wait, say),
    ):
        work = live.Promotion(disk, plan, owned, group, grant, request)
        work.check()
        _granted(disk, owned, grant, again=bool(work.begun))
        resuming.resume(root, disk)
        rows = work.run()
    failed = [row["error"] for row in rows if row["error"]]
    if not failed:
        _promoted(disk, grant)
        state.set_grant(root, replace(grant, ready=True))
        failed = _rest(root, owned, group)
    seconds = round(time.monotonic() - began, 3)
    ledger.add(
        root, "promote", ok=not failed, error=failed[0] if failed else None, group=group, epoch=grant.epoch,
        base=grant.base, slot=work.slot.name, seconds=seconds, services=[row["service"] for row in rows],
    )  # fmt: skip
    reply = {
        "group": group, "epoch": grant.epoch, "slot": work.slot.name, "services": rows, "failed": failed,
        "left": round(grant.until - state.boottime(), 1), "seconds": seconds,
    }  # fmt: skip
    return {**reply, "error": failed[0], "kind": "failed"} if failed else reply


def _grant(root: Root, owned: Owners, group: str, request: dict[str, Any]) -> Grant:
    """The grant of the request. Raises AgentError where it can be none."""
    owned.group(group)
    epoch, nonce = request.get("epoch"), str(request.get("nonce") or "")
    if not isinstance(epoch, int) or epoch < 1 or not nonce:
        raise AgentError(
            "a promotion needs the epoch and the nonce of the batch that is to come", "bad-request"
        )
    held = state.load(root, group)
    if may.allowed(root, group) not in ("", may.GRANTED):
        raise AgentError(f"{group} runs on this host already; nothing was changed", "owner")
    if epoch <= held.epoch:
        raise AgentError(
            f"epoch {epoch} of {group} is over: {held.owner} owns {held.epoch}; nothing was changed", "epoch"
        )
    auto = owned.leased(group)
    if auto:  # without its lease the group would come up nowhere
        objects.read(storelease.place_of(root, auto), storelease.key(group))
    until = float(request.get("until") or state.boottime() + float(request.get("seconds", _GRANT)))
    if until <= state.boottime():
        raise AgentError(f"the grant for {group} has ended already; nothing was changed", "late")
    return Grant(group, epoch, nonce, str(request.get("base") or ""), until)


def _interrupt(root: Root, group: str) -> None:
    """A refresh that is at work gives way: what it fills is not published, and the promotion cannot wait for it."""
    holder = lock.holder(root, f"{REFRESH}-{group}") or ""
    number = holder.partition("(pid ")[2].partition(",")[0]
    if holder.startswith("refresh") and number.isdecimal():
        with suppress(ProcessLookupError):
            os.kill(int(number), signal.SIGTERM)


def _granted(disk: Disk, owned: Owners, grant: Grant, again: bool) -> None:
    """Fence first; a guard that looks at this moment must not see half of it.

    Unless it goes on with one that was begun (``again``), the live data is no batch's until all of it is exchanged.
    """
    root = disk.root
    disk.private_dir(RUN)
    with lock.exclusive(root, GUARD, f"grant of {grant.group}", 120, say):
        fences.up(root, owned, grant.group)
        held = state.load(root, grant.group)
        if held.promoted and not again:
            held.promoted = ""
            state.save(disk, held)
        state.set_grant(root, grant)
        may.allow(root, grant.group, may.GRANTED)
    disk.checkpoint("granted")


def _promoted(disk: Disk, grant: Grant) -> None:
    """From here on the live data is that batch's."""
    with lock.exclusive(disk.root, GUARD, f"promotion of {grant.group}", 120, say):
        held = state.load(disk.root, grant.group)
        held.promoted = grant.nonce
        state.save(disk, held)


def _rest(root: Root, owned: Owners, group: str) -> list[str]:
    """Services that keep no data, and the tunnel's connector, so that the batch finds it connected."""
    failed = starter.start(root, owned, group)
    for unit in owned.connectors:
        if not starter.active(unit):
            ended = process.run(["systemctl", "start", unit], 120)
            failed += [] if ended.ok else [f"{unit}: {ended.why(1)}"]
    return failed
