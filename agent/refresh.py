"""Brings this host's replica of a group up to date with the repository, without touching anything that is published.

Request: {"words": [GROUP]} of its timer, or {"group", "repository": "" (the first that answers), "snapshot": "" (the
newest that counts), "accept_shrunk": false, "verify": false (read every file again, not only size and time),
"lock_wait": 5, "timeout": seconds for each restic run}.
Reply: {"group", "slot", "idle": nothing new, "snapshots": {service: {"snapshot", "name": HOST:EPOCH:SEQ, "time"}}, "age":
seconds of the oldest, "services": {service: {"files", "bytes", "rows", "loaded", "notes", "versions"}}, "missing":
{service: why}, "pulled": [images], "seconds", "phases", "restic": [commands given to it]} or {"group", "skipped": why}. A shrunken or
broken snapshot is refused: the published slot stays, and "error" says so.
"""

from __future__ import annotations

import time
from typing import Any

from . import backup, lock, may
from .data import clock, guards, ledger
from .data import plan as plans
from .data.plan import Plan
from .data.state import Good
from .disk import Disk
from .errors import AgentError
from .freeze import wanted
from .owner.plan import Plan as Owners
from .owner.plan import load
from .putback.choice import Batch
from .putback.turn import Phases
from .replica import choose, fill, images, slots
from .replica.slots import Slot
from .repo import restic
from .root import Root
from .say import say

__all__ = ["LOCK", "run"]

LOCK = "refresh"
_TIMEOUT = 6 * 3600.0
_VERIFY_EVERY = 7 * 86400.0


def run(request: dict[str, Any], root: Root, checkpoint: Any = None) -> dict[str, Any]:
    """The verb. ``checkpoint`` is for tests that kill this process everywhere."""
    owned, plan, group = load(root), plans.load(root), wanted(request)
    owned.group(group)
    if may.allowed(root, group):
        return {"group": group, "skipped": f"{owned.host} runs {group} itself"}
    began, disk = time.monotonic(), Disk(root, checkpoint)
    try:
        with (
            backup.stoppable(),
            lock.exclusive(
                root, f"{LOCK}-{group}", f"refresh of {group}", float(request.get("lock_wait", 5)), say
            ),
        ):
            reply = _Refresh(disk, plan, owned, group, request).run()
    except backup.Stopped:
        raise AgentError(
            f"the refresh of {group} was stopped by a signal; what is published stays", "interrupted"
        ) from None
    except AgentError as error:
        seconds = round(time.monotonic() - began, 3)
        ledger.add(root, "refresh", ok=False, error=error.sentence, group=group, seconds=seconds)
        raise
    reply["seconds"] = round(time.monotonic() - began, 3)
    kept = ("slot", "idle", "seconds", "phases", "snapshots", "pulled", "missing", "restic")
    ledger.add(root, "refresh", group=group, **{key: reply[key] for key in kept})
    return reply


class _Refresh:
    """One refresh; the caller holds its lock."""

    def __init__(self, disk: Disk, plan: Plan, owned: Owners, group: str, request: dict[str, Any]) -> None:
        self.disk, self.root, self.plan, self.owned, self.group = disk, disk.root, plan, owned, group
        self.request, self.phases = request, Phases()
        self.timeout = float(request.get("timeout", _TIMEOUT))

    def run(self) -> dict[str, Any]:
        """All of it. Raises AgentError with the published slot as it was."""
        self.disk.private_dir(slots.folder(self.group))
        self.disk.drop_unfinished(slots.folder(self.group))
        with self.phases.timed("look"):
            asked = (str(self.request.get(key) or "") for key in ("repository", "snapshot"))
            chosen = choose.choose(self.root, self.plan, self.group, *asked)
        published = slots.current(self.root, self.group)
        verify = bool(self.request.get("verify")) or (published is not None and self._unread(published))
        if published and not verify and not any(choose.stale(published, batch) for batch in chosen.batches):
            return self._idle(published, chosen)
        self._refuse_older(published, chosen)
        one_only = self.owned.groups[self.group].slots == 1
        slot = published if published and one_only else slots.idle(self.root, self.group)
        always = verify or (bool(slot.services) and self._unread(slot))
        filled: dict[str, Any] = {}
        for batch in chosen.batches:
            if not always and slot.state == "whole" and not choose.stale(slot, batch):
                self._date(slot, batch)
                continue
            self._refuse_shrunk_whole(published, batch)
            with self.phases.timed("fill"):
                filled |= fill.fill(
                    self.disk, self.plan, self.owned, slot, batch, published, self.timeout, always
                )
        for batch in chosen.batches:
            for service in batch.services:
                slot.services[service.name].tree = batch.snapshot.tree
            names = ",".join(sorted(service.name for service in batch.services))
            slot.sums[names] = [batch.snapshot.files, batch.snapshot.bytes]
        with self.phases.timed("pull"):
            pulled, absent = images.pull(slot)
        self._refuse_shrunk(published, slot)
        slot.state, slot.at = "whole", round(clock.now(self.root), 3)
        if always or not slot.verified:
            slot.verified = slot.at
        with self.phases.timed("publish"):
            self._publish(slot)
        return {
            **self._reply(slot, chosen, False),
            "services": filled,
            "pulled": pulled,
            "images_missing": absent,
        }

    def _unread(self, slot: Slot) -> bool:
        """Whether it is time for a pass that reads every file again: size and time can lie."""
        return bool(slot.verified) and abs(clock.now(self.root) - slot.verified) > _VERIFY_EVERY

    def _idle(self, slot: Slot, chosen: choose.Chosen) -> dict[str, Any]:
        """The snapshots' content is what is published: only their dates are new."""
        for batch in chosen.batches:
            self._date(slot, batch)
        slot.at = round(clock.now(self.root), 3)
        slots.save(self.disk, slot)
        return {**self._reply(slot, chosen, True), "services": {}, "pulled": [], "images_missing": []}

    def _date(self, slot: Slot, batch: Batch) -> None:
        one = batch.snapshot
        for service in batch.services:
            held = slot.services[service.name]
            held.snapshot, held.host, held.epoch, held.seq, held.time = (
                one.id,
                one.host,
                one.epoch,
                one.seq,
                one.time,
            )

    def _publish(self, slot: Slot) -> None:
        from .putback import turn

        places = [slots.folder(self.group, slot.name)]
        for name, held in slot.services.items():
            if name in self.plan.services:
                found = slots.laid_out(self.root, self.plan, self.plan.services[name], held, slot.name)
                places += [target.new for target in found.targets]
        turn.sync(self.disk, places)
        slots.publish(self.disk, slot)

    def _reply(self, slot: Slot, chosen: choose.Chosen, idle: bool) -> dict[str, Any]:
        now = clock.now(self.root)
        return {
            "group": self.group,
            "slot": slot.name,
            "idle": idle,
            "snapshots": {
                name: {"snapshot": held.snapshot, "name": held.name, "time": held.time}
                for name, held in slot.services.items()
            },
            "age": round(now - slot.age, 1) if slot.age is not None else None,
            "missing": chosen.missing,
            "phases": dict(self.phases),
            "restic": list(restic.calls),
        }

    # --- what is refused

    def _refuse_older(self, published: Slot | None, chosen: choose.Chosen) -> None:
        """A repository that has lost its newest snapshots must not turn the replica back."""
        if published is None or self.request.get("snapshot"):
            return
        for name, snapshot in chosen.snapshots.items():
            held = published.services.get(name)
            if held and not held.taken and snapshot.order < held.order and not self._left_behind(held):
                raise AgentError(
                    f"{name}: the newest snapshot that counts is {snapshot.host}:{snapshot.epoch}:{snapshot.seq}, older than "
                    f"what this replica holds ({held.name}): find out what became of the newer ones; nothing was changed",
                    "older",
                )

    def _left_behind(self, held: slots.Held) -> bool:
        """Whether ownership has moved on since: what the slot holds may have been an epoch's unaccepted end."""
        from .owner import state

        return state.load(self.root, self.group).epoch > held.epoch

    def _refuse_shrunk_whole(self, published: Slot | None, batch: Batch) -> None:
        """Before a byte is fetched, by the sums that restic keeps with a snapshot."""
        if published is None or self.request.get("accept_shrunk"):
            return
        names = {service.name for service in batch.services}
        if not batch.snapshot.files or not names <= set(published.services):
            return
        before = published.sums.get(",".join(sorted(names)))
        if before:
            self._refuse(
                self._shrank(
                    self.group, before[0], before[1], None, batch.snapshot.files, batch.snapshot.bytes, None
                )
            )

    def _refuse_shrunk(self, published: Slot | None, slot: Slot) -> None:
        """After it: by service, rows too. The slot stays ``filling``; the next refresh goes on from it."""
        for name, held in slot.services.items():
            was = published.services.get(name) if published else None
            if was and not was.taken and not self.request.get("accept_shrunk"):
                self._refuse(
                    self._shrank(name, was.files, was.bytes, was.rows, held.files, held.bytes, held.rows)
                )

    def _shrank(self, name: str, files: int, size: int, rows: int | None, *now: int | None) -> str | None:
        before = Good("the published", self.group, "", 0, 0, [], 0, 0, 0, files, size, rows)
        return guards.shrank(name, before, now[0] or 0, now[1] or 0, now[2], self.plan.settings)

    def _refuse(self, sentence: str | None) -> None:
        if sentence:
            said = sentence.partition("; the snapshot before")[0]
            raise AgentError(
                f"{said}: this snapshot is not published; if that is right, `refresh {self.group}` with accept_shrunk",
                "shrunk",
            )
