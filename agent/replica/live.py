"""From a slot to live: each service by the same journaled exchange as a restore, its new content being the slot's.

What was live is kept beside it for the plan's days (agent/putback/old.py). A service that does not serve goes back: its
content into the slot, so that the promotion can be tried again.
"""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ..data import manifest as manifests
from ..data.plan import Plan, Service
from ..data.state import seen
from ..disk import Disk
from ..errors import AgentError, because
from ..owner import fences, starter
from ..owner.engine import listed
from ..owner.plan import Plan as Owners
from ..owner.state import Grant
from ..putback import arrive, carry, old, running, sources, turn, versions
from ..putback import journal as journals
from ..putback.journal import Journal
from ..putback.places import Layout
from ..putback.target import meta_of
from ..say import say
from . import choose, fill, slots
from .slots import Held, Slot

__all__ = ["MODE", "Promotion"]

MODE = "promote"
_TIMEOUT = 3600.0
_PARALLEL = 3


class Promotion:
    """One group's promotion; the caller holds the locks of data and of the refresh. ``slot`` is known after ``check``."""

    def __init__(
        self, disk: Disk, plan: Plan, owned: Owners, group: str, grant: Grant, request: dict[str, Any]
    ) -> None:
        self.disk, self.root, self.plan, self.owned, self.group = disk, disk.root, plan, owned, group
        self.grant, self.request = grant, request
        self.services = choose.services(plan, group)
        self.slot = Slot(group, "a")
        self.begun: dict[str, float] = {}
        self._writing = threading.Lock()  # services of one level are promoted side by side

    def check(self) -> None:
        """Refuse before anything is changed. Raises AgentError naming what is missing."""
        self.begun = self._resumed()
        self.slot = self._chosen()
        lacking = [s.name for s in self.services if s.name not in self.slot.services]
        if lacking:
            raise AgentError(
                f"the replica of {self.group} lacks {', '.join(lacking)}: refresh it; nothing was changed",
                "missing",
            )
        gone = [
            n
            for n, held in self.slot.services.items()
            if held.taken and n not in self.begun and n in self.plan.services
        ]
        if gone:
            raise AgentError(
                f"slot {self.slot.name} no longer holds {gone[0]}, which an earlier promotion took: refresh it first; "
                "nothing was changed",
                "missing",
            )
        for service in self.services:
            if not self.slot.services[service.name].taken:
                versions.check(service, self._manifest(service), bool(self.request.get("allow_version")))

    def _chosen(self) -> Slot:
        published = slots.current(self.root, self.group)
        slot = slots.idle(self.root, self.group) if self.request.get("previous") else published
        torn = slot is not None and slot.state != "whole" and bool(self.request.get("torn")) and slot.torn
        if slot is None or (slot.state != "whole" and not torn):
            if slot is not None and slot.torn and slot.services:
                raise AgentError(
                    f"the only slot of {self.group} is in the middle of a refresh; torn are {', '.join(slot.torn)}: finish "
                    "the refresh, or take it as it is with torn; nothing was changed",
                    "torn",
                )
            which = "older slot" if self.request.get("previous") else "replica"
            raise AgentError(
                f"there is no whole {which} of {self.group} on this host: refresh it; nothing was changed",
                "missing",
            )
        return slot

    def _manifest(self, service: Service) -> dict[str, Any]:
        path = f"{slots.folder(self.group, self.slot.name)}/{service.name}/manifest.json"
        try:
            return manifests.read(self.root.at(path))
        except (OSError, ValueError) as error:
            raise AgentError(
                f"{path} cannot be read ({error}): refresh the replica; nothing was changed", "missing"
            ) from error

    # --- the record of what was begun

    @property
    def _path(self) -> str:
        return f"{slots.folder(self.group)}/promote.json"

    def _resumed(self) -> dict[str, float]:
        """Services that an earlier call for this very batch and snapshot began, and when.

        A switchover that was taken back and tries again has the same batch, but newer data.
        """
        known = seen(self.root, self._path, dict)
        same = isinstance(known, dict) and all(known.get(key) == value for key, value in self._batch.items())
        return dict(known["begun"]) if same else {}

    @property
    def _batch(self) -> dict[str, Any]:
        return {"epoch": self.grant.epoch, "nonce": self.grant.nonce, "base": self.grant.base}

    def _note(self, service: str, since: float) -> None:
        with self._writing:
            self._write_note(service, since)

    def _write_note(self, service: str, since: float) -> None:
        self.begun[service] = since
        record = {**self._batch, "slot": self.slot.name, "begun": self.begun}
        self.disk.replace(self._path, json.dumps(record).encode())

    # --- the work

    def run(self) -> list[dict[str, Any]]:
        """All services; those of one level side by side. A row for each."""
        names = {service.name: service for service in self.services}
        self._networks()
        rows: list[dict[str, Any]] = []
        for level in starter.levels(self.owned, self.group):
            ready = [names[service.name] for service in level if service.name in names]
            bad = {row["service"] for row in rows if row["error"]}
            with ThreadPoolExecutor(_PARALLEL) as pool:
                rows += pool.map(partial(self._row, bad), ready)
        return rows

    def _networks(self) -> None:
        """Made before anything is started, so that the fence covers their bridges."""
        there = listed()
        for service in self.services:
            if service.compose and service.project not in there:
                running.create(service)
        if fences.learn_bridges(self.disk, self.owned):
            fences.up(self.root, self.owned, self.group)

    def _row(self, bad: set[str], service: Service) -> dict[str, Any]:
        began, held = time.monotonic(), self.slot.services[service.name]
        row: dict[str, Any] = {
            "service": service.name, "snapshot": held.snapshot, "name": held.name, "time": held.time, "ok": False,
            "error": None, "kind": None, "rows": held.rows, "old": [], "notes": [], "hooks_failed": [], "phases": {},
        }  # fmt: skip
        try:
            blocking = bad & set(service.needs)
            if blocking:
                raise AgentError(f"{service.name}: it needs {min(blocking)}, which does not serve", "needs")
            self._one(service, held, row)
            row["ok"] = True
        except AgentError as error:
            row |= {"error": error.sentence, "kind": error.kind}
        except OSError as error:
            row |= {"error": f"{service.name}: {error.filename or 'a file'}: {because(error)}", "kind": "io"}
        return {**row, "seconds": round(time.monotonic() - began, 3)}

    def _one(self, service: Service, held: Held, row: dict[str, Any]) -> None:
        if self._done(service):
            row["notes"].append("it was promoted by an earlier call")
            self._took(service)
            return
        phases = turn.Phases()
        row["phases"] = phases
        with phases.timed("prepare"):
            sources.make_parents(self.root, service)
            sources.make_volumes(service)
            found = slots.laid_out(self.root, self.plan, service, held, self.slot.name)
            journal = self._opened(service, held, found, row)
        try:
            with phases.timed("load"):
                self._loaded(service, journal)
            with phases.timed("stop"):
                turn.stop(self.disk, service, journal)
            with phases.timed("swap"):
                self._exchange(journal, found)
            turn.finish(self.disk, self.plan, service, journal, phases)
        except (AgentError, OSError):
            if journal.state != "committed":
                say(f"{service.name} does not serve from the replica; it goes back into its slot")
                turn.back(self.disk, self.plan, service, journal)
            raise
        self._took(service)
        row["old"] = [t.old for t in journal.targets if os.path.lexists(self.root.at(t.old))]
        with phases.timed("hooks"):
            moments = ["after_promote", *(["after_rollback"] if self.request.get("rollback") else [])]
            row["hooks_failed"] = [
                why for m in moments for why in running.run_hooks(service, m, offline=False)
            ]

    def _opened(self, service: Service, held: Held, found: Layout, row: dict[str, Any]) -> Journal:
        manifest = self._manifest(service)
        journal = turn.begin(self.disk, service, held.snapshot, held.repository, self.owned.keep_days)
        journal.mode, journal.targets = MODE, found.targets
        databases, notes = arrive.served(service, manifest)
        base = f"{slots.folder(self.group, self.slot.name)}/{service.name}"
        journal.databases = [{"name": n, "facts": f, "file": f"{base}/{f['file']}"} for n, _, f in databases]
        row["notes"] += [*found.notes, *notes]
        self._note(service.name, journal.since)
        journals.save(self.disk, journal)
        return journal

    def _loaded(self, service: Service, journal: Journal) -> None:
        """What the refresh loaded beside the live databases is taken; what it did not is loaded now."""
        known, whole = fill.loaded(self.root, self.group), list(journal.databases)
        journal.databases = [
            d for d in whole if known.get(f"{service.name}/{d['name']}") != d["facts"]["sha256"]
        ]
        with self._writing:
            for one in whole:
                fill.forget_loaded(self.disk, self.group, f"{service.name}/{one['name']}")
        try:
            turn.load(self.disk, self.plan, service, journal, _TIMEOUT)
        finally:
            journal.databases = whole

    def _exchange(self, journal: Journal, found: Layout) -> None:
        for target in journal.targets:
            target.carry = carry.carried(self.root, self.plan, found, target)
            if not target.only and not target.made:
                target.was = meta_of(self.root.at(target.live))
        turn.exchange(self.disk, journal)

    def _done(self, service: Service) -> bool:
        """Whether an earlier call for this batch brought it all the way: its old content is on record."""
        since = self.begun.get(service.name)
        if since is None or service.name in journals.names(self.root):
            return False
        kept = old.kept(self.root)
        return any(r["service"] == service.name and float(r["since"]) == since for r in kept)

    def _took(self, service: Service) -> None:
        with self._writing:
            self.slot.services[service.name].taken = True
            slots.save(self.disk, self.slot)
