"""Takes a group from this host: fenced, stopped, and what nobody else has saved as a diverged snapshot.

Request: {"group", "record": "" | the text of the ownership record that names another (what DNS will say), "save": true,
"lock_wait": 60}. Reply: {"group", "epoch", "owner", "stopped": [sentences of what did not stop], "moved": [{"epoch", "at",
"until", "clean", "saved": null | {...}}], "diverged": bool, "error"}.

The live data stays where it is, behind the fence; the next promotion sets it aside for ``keep_days``. It is ``clean``
when the group was frozen from its last snapshot to the end and the new owner began from exactly that one. Otherwise it
goes into a repository of its own, ``diverged-GROUP-EPOCH`` beside the group's, which nobody forgets automatically.
A promotion that was given up is demoted the same way: its grant ends, its services stop.
"""

from __future__ import annotations

from typing import Any

from . import backup, lock, may
from .data import clock, ledger
from .data import plan as plans
from .disk import Disk
from .errors import AgentError
from .freeze import wanted
from .guard import LOCK as GUARD
from .guard import hold, learn
from .owner import state
from .owner.plan import Plan as Owners
from .owner.plan import load
from .owner.record import Malformed, parse
from .replica import diverged
from .root import Root
from .say import say

__all__ = ["run"]


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    owned, group, disk = load(root), wanted(request), Disk(root)
    owned.group(group)
    wait = float(request.get("lock_wait", 60))
    with lock.exclusive(root, GUARD, f"demotion of {group}", wait, say):
        held = state.load(root, group)
        _record(disk, owned, held, str(request.get("record") or ""), clock.now(root))
        if (held.owner or owned.groups[group].first) == owned.host and may.allowed(
            root, group
        ) != may.GRANTED:
            raise AgentError(
                f"{owned.host} owns {group} (epoch {held.epoch}) by all it knows: move it with a switchover; "
                "nothing was changed",
                "owner",
            )
        failed, _ = hold(root, owned, group)
    problem = None
    if request.get("save", True):
        try:
            with backup.stoppable(), lock.exclusive(root, backup.LOCK, f"demotion of {group}", wait, say):
                diverged.save(disk, plans.load(root), owned, group)
        except AgentError as error:
            problem = error.sentence
    held = state.load(root, group)
    open_ones = [one for one in held.moved if not one["clean"] and not one.get("saved")]
    reply: dict[str, Any] = {
        "group": group, "epoch": held.epoch, "owner": held.owner, "stopped": failed, "moved": held.moved,
        "diverged": any(not one["clean"] for one in held.moved), "unsaved": [one["epoch"] for one in open_ones],
    }  # fmt: skip
    ledger.add(
        root,
        "demote",
        ok=not (failed or problem),
        error=problem,
        group=group,
        epoch=held.epoch,
        owner=held.owner,
    )
    why = problem or (failed[0] if failed else None)
    return {**reply, "error": why, "kind": "failed"} if why else reply


def _record(disk: Disk, owned: Owners, held: state.Held, text: str, now: float) -> None:
    """Take the record that the control machine brings, as if a resolver had said it."""
    if not text:
        return
    try:
        answer = parse(text)
    except Malformed as error:
        raise AgentError(f"that is no ownership record: {error}", "bad-request") from None
    if answer.group != held.group or answer.epoch < held.epoch:
        raise AgentError(
            f"the record is of {answer.group}, epoch {answer.epoch}: {held.epoch} is known", "epoch"
        )
    learn(disk, owned, held, answer, now)
