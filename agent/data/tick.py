"""One backup tick: preflight, dumps, manifests, one restic run per group and repository, state, ledger, ping.

A service that fails is left out and reported, the others go on; a repository that fails stops no other.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ..disk import Disk
from ..errors import AgentError
from ..repo import commands, lock_name, locks, repository
from ..repo.restic import Repo
from ..root import RUN, STATE, Root
from ..say import say
from . import clock, engine, guards, ledger, manifest, owed, preflight, stage, tree
from . import plan as plans
from . import state as states
from .beside import Later, each
from .jobs import Ask, Job, Row, jobs_of
from .namespace import private_mounts
from .plan import Plan
from .quiesce import night
from .state import Good
from .stores import Stores, learn
from .upload import Upload, upload, write_excludes

__all__ = ["Tick"]

_DUMP_TIMEOUT = 3600
_QUIESCE_TIMEOUT = 900
_COVERAGE_EVERY = 3600.0
_SIDE_BY_SIDE = 4


class Tick:
    """One tick. ``troubles`` make it fail although every backup may be good; ``warnings`` are only said."""

    def __init__(
        self, root: Root, plan: Plan, ask: Ask, checkpoint: Callable[[str], None] | None = None
    ) -> None:
        self.root, self.plan, self.ask = root, plan, ask
        self.checkpoint = checkpoint or (lambda done: None)
        self.disk = Disk(root, checkpoint)
        self.raw = _raw(root)
        self.jobs = jobs_of(plan, ask)
        self.troubles: list[str] = []
        self.warnings: list[str] = []
        self.still_locked: set[str] = set()
        self.begun = time.monotonic()
        tiers = {job.service.tier for job in self.jobs} | ({ask.tier} if ask.tier else set())
        self.tier = ask.tier or (tiers.pop() if len(tiers) == 1 else "mixed")
        self.until = self.begun + max(
            (plan.tiers[t].timeout for t in tiers if t in plan.tiers), default=6 * 3600
        )

    def run(self) -> dict[str, Any]:
        """All of it. The reply has "error" when anything failed."""
        for folder in (STATE, RUN, stage.STAGE):
            self.disk.private_dir(folder)
        self.state = states.load(self.root)
        known = set(self.state.known)
        self._pay_debts()
        self.stores = Stores(self.root, self.plan, self.state)
        self._ask_early()
        with repository.attached(
            self.root, self.plan, sorted({n for j in self.jobs for n in j.repositories})
        ) as missing:
            self.stores.open(
                {(name, job.service.group) for job in self.jobs for name in job.repositories}, missing
            )
            if self.stores.clock_wrong:
                self.warnings.append(self.stores.clock_wrong)
            self._unlock(known)
            # Durable before its first use, so that no number is ever given twice.
            self.state.seq += 1
            self.state.writing = sorted({*self.state.writing, *map(_mark, self.stores.repos.values())})
            self.state.save(self.disk)
            self._services()
        return self._finish()

    def left(self) -> float:
        """Seconds left of the tick. Raises AgentError when there are none."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise AgentError("the tick's time was over before its turn came", "interrupted")
        return left

    def _pay_debts(self) -> None:
        """What an earlier run, killed before it could, still owes."""
        for debt in owed.due(self.disk, self.plan):
            try:
                owed.pay(self.disk, debt)
            except AgentError as error:
                self.troubles.append(error.sentence)

    def _unlock(self, known: set[str]) -> None:
        """A tick that was cut off (SIGKILL, power) leaves restic's lock, and no prune gets past it for an hour.

        A host that has never seen a repository may be the new one in the place of one that died so.
        """
        marks = {_mark(repo): repo for repo in self.stores.repos.values()}
        self.state.heir = sorted({*self.state.heir, *(marks.keys() - known)})
        if not lock_name.separate():
            return
        for mark, repo in marks.items():
            cut_off = mark in self.state.writing
            if not cut_off and mark not in self.state.heir:
                continue
            try:
                locks.clear(repo, lock_name.tick(self.plan.host), None if cut_off else clock.now(self.root))
                self.state.heir = [one for one in self.state.heir if one != mark]
            except AgentError as error:
                self.warnings.append(error.sentence)
                self.still_locked |= {mark} if cut_off else set()

    def _ask_early(self) -> None:
        """Questions to Docker that need no repository: their answers come while that is opened."""
        self.sources = {
            job.name: Later(partial(preflight.sources, self.root, job.service)) for job in self.jobs
        }
        projects = sorted({job.service.project for job in self.jobs if job.service.project})
        self.images = Later(partial(engine.images_of, projects))

    def _services(self) -> None:
        from ..putback import journal

        for name in journal.names(self.root):
            for job in self.jobs:
                if job.name == name:
                    # Half old, half new: nothing that should become the newest snapshot.
                    job.error = f"{name}: its restore was interrupted; `understudy restore {name}` or lift finishes it first"
        for job in self.jobs:
            if self._open_anywhere(job):
                with self._failing(job):
                    job.sources = self.sources[job.name].value()
        now = time.localtime(clock.now(self.root))
        tonight = night(str(self.plan.settings.get("quiesce_window") or ""), now)
        waiting = []
        for job in self.jobs:
            due = tonight and self.state.quiesced.get(job.name) != tonight
            if not job.error and job.service.quiesce == "daily" and (due or self.ask.quiesce):
                self._quiesced(job, tonight or time.strftime("%Y-%m-%d", now))
            else:
                waiting.append(job)
        self._dump_all(waiting)
        for group in dict.fromkeys(job.service.group for job in waiting):
            self._capture(group, [job for job in waiting if job.service.group == group])

    def _dump_all(self, jobs: list[Job]) -> None:
        """Side by side; after that, one after the other, those that have to be touched for it: what is owed to them

        is paid by this thread, which a signal reaches. Where there is no room for all at once none waits for another's.
        """
        last = sum(self.state.dumps.get(job.name, 0) for job in jobs)
        most = min(_SIDE_BY_SIDE, max(2, os.cpu_count() or 1)) if preflight.fits(self.root, last) else 1
        each([partial(self._dump_one, job) for job in jobs if not _hooked(job)], most)
        for job in filter(_hooked, jobs):
            self._dump_one(job)

    def _dump_one(self, job: Job) -> None:
        with self._failing(job), self._touched(job, []):
            self._dump(job)

    def _open_anywhere(self, job: Job) -> bool:
        """Without a repository to go to, a service is not touched."""
        return not job.error and any(
            (name, job.service.group) in self.stores.repos for name in job.repositories
        )

    @contextlib.contextmanager
    def _failing(self, job: Job) -> Iterator[None]:
        """An error inside is this job's alone; a job that has failed already is passed over by its steps."""
        try:
            yield
        except AgentError as error:
            job.error = job.error or error.sentence
        except OSError as error:
            job.error = job.error or f"{job.name}: {error}"

    @contextlib.contextmanager
    def _touched(self, job: Job, names: list[str]) -> Iterator[None]:
        """Hooks before and after, ``names`` stopped inside; what is owed is written down first and paid whatever happens."""
        hooks = job.service.hooks
        owes = bool(names or hooks.get("before_dump") or hooks.get("after_dump"))
        if not owes or job.error or not self._open_anywhere(job):
            yield
            return
        owed.record(self.disk, job.service, names, hooks=True)
        try:
            owed.run_hooks(job.name, job.service.project, list(hooks.get("before_dump", ())))
            self.checkpoint(f"hooks {job.name}")
            owed.stop(job.service, names)
            self.checkpoint(f"stopped {job.name}")
            yield
        finally:
            self._pay(job)

    def _pay(self, job: Job) -> None:
        for debt in owed.debts(self.root):
            if debt["service"] == job.name:
                try:
                    owed.pay(self.disk, debt)
                except AgentError as error:
                    self.troubles.append(error.sentence)

    def _quiesced(self, job: Job, tonight: str) -> None:
        """Once a night: dump and read the files while the application stands still, in runs of their own."""
        until = self.until
        self.until = min(
            until, time.monotonic() + float(self.plan.settings.get("quiesce_timeout") or _QUIESCE_TIMEOUT)
        )
        with self._failing(job):
            names = owed.to_stop(job.service)
            begun = time.monotonic()
            with self._touched(job, names):
                self._dump(job)
                self._capture(job.service.group, [job])
            job.unavailable = round(time.monotonic() - begun, 3) if names else 0.0
        for row in job.rows:
            row.unavailable = job.unavailable
        self.until = until
        if not job.error:
            self.state.quiesced[job.name] = tonight

    def _dump(self, job: Job) -> None:
        """Configuration and databases into the stage. Raises AgentError; the kept dumps are then as they were."""
        if job.error or not self._open_anywhere(job):
            return
        job.started, job.real = clock.now(self.root), time.time()
        stage.make(self.disk, job.service)
        self.checkpoint(f"stage {job.name}")
        self.warnings += stage.keep_config(self.disk, job.service)
        if job.service.databases:
            self._dump_databases(job)
        stage.publish(self.disk, job.service)

    def _dump_databases(self, job: Job) -> None:
        from ..dumps import kinds  # pulls in every kind's module; many hosts need none

        preflight.room(self.root, job.name, self.state.dumps.get(job.name, 0))
        target = stage.workshop(job.service.group, job.name)
        self.disk.private_dir(target)
        limit = float(self.plan.settings.get("dump_timeout") or _DUMP_TIMEOUT)
        for database in job.service.databases:
            source = job.sources.get(database.mount) if database.mount else None
            job.dumps += kinds.dump(self.root, database, source, target, min(limit, self.left()))
            self.checkpoint(f"dump {job.name} {database.name}")
        kinds.drop_others(self.root, target, job.dumps)
        self.state.dumps[job.name] = job.dump_bytes

    def _capture(self, group: str, jobs: list[Job]) -> None:
        """Show the good services to restic and store them in each repository."""
        good = [job for job in jobs if not job.error and self._open_anywhere(job)]
        if not good:
            return
        with private_mounts():
            for job in good:
                with self._failing(job):
                    self._show(job)
                    self.checkpoint(f"show {job.name}")
            good = [job for job in good if not job.error]
            excludes = write_excludes(self.disk, group, [job.service for job in good])
            for name in dict.fromkeys(name for job in good for name in job.repositories):
                repo = self.stores.repos.get((name, group))
                if repo:
                    self._store(repo, [job for job in jobs if name in job.repositories], excludes)
                    self.checkpoint(f"stored {name} {group}")

    def _show(self, job: Job) -> None:
        service = job.service
        stage.bind_all(self.root, service, job.sources)
        base = self.root.at(f"{stage.folder(service.group, service.name)}/data")
        caches = [pattern for pattern, _ in stage.cache_rules(service)]
        since = max((g.real for n in job.repositories if (g := self._last(n, job))), default=0.0)
        job.tree = tree.survey(base, stage.excluded(service), caches, since)
        if job.tree.unreadable:
            raise AgentError(f"{job.name}: {job.tree.unreadable[0]} cannot be read", "source")
        running = self.images.value()[service.project] if service.project else {}
        images = {name: facts for name, facts in running.items() if service.has(name)}
        facts = {dump.name: dump.facts() for dump in job.dumps}
        built = manifest.build(
            self.root,
            self.plan.host,
            service,
            self.raw.get(service.name, {}),
            images,
            facts,
            job.sources,
            job.tree,
        )
        manifest.keep(self.disk, service, built)

    def _last(self, name: str, job: Job) -> Good | None:
        repo = self.stores.repos.get((name, job.service.group))
        return self.state.last(repo.key, job.name) if repo else None

    def _store(self, repo: Repo, jobs: list[Job], excludes: str) -> None:
        """One repository; a refused or failed service gets its row and leaves the run."""
        rows = {job.name: self._row(repo.name, job) for job in jobs}
        for job in jobs:
            if not job.error and not self.ask.confirm:
                new = guards.added(job.tree, job.dump_bytes, self.state.last(repo.key, job.name))
                rows[job.name].error = guards.too_much(
                    job.name, repo.name, new, self.state.last(repo.key, job.name), self.plan.settings
                )
        good = [job for job in jobs if not job.error and not rows[job.name].error]
        if good:
            self._send(repo, good, [job.name for job in jobs if job not in good], excludes, rows)
        for job in jobs:
            if not job.error:
                job.rows.append(self._noted(rows[job.name]))

    def _send(
        self, repo: Repo, good: list[Job], failed: list[str], excludes: str, rows: dict[str, Row]
    ) -> None:
        names = tuple(job.name for job in good)
        started = min(job.started for job in good)
        try:
            wanted = commands.Backup(
                self.plan.host, repo.group, self.tier, self._epoch(repo.group), self.state.seq, names,
                tuple(failed), excludes=excludes, at=self.stores.corrected(started), base=states.base(self.root, repo.group),
            )  # fmt: skip

            def parent(again: bool) -> str:
                if again:
                    learn(self.root, self.state, repo, self.plan.host)
                return self.state.parent(repo.key, repo.group, names)

            done = upload(self.root, repo, wanted, self.left, parent)
        except (AgentError, OSError) as error:
            # restic may have ended without the store to take its lock back: the next tick looks.
            self.still_locked.add(_mark(repo))
            for job in good:
                rows[job.name].error = getattr(error, "sentence", str(error))
            return
        for job in good:
            self._stored(repo, job, rows[job.name], done, wanted.epoch, names)
        self.state.save(self.disk)

    def _epoch(self, group: str) -> int:
        return states.epoch(self.root, group, self.state.epochs.get(group, 0))

    def _stored(
        self, repo: Repo, job: Job, row: Row, done: Upload, epoch: int, names: tuple[str, ...]
    ) -> None:
        row.seconds = round(done.seconds, 3)
        if job.name in done.torn:
            row.error = done.torn[job.name]
            return
        count = done.counts.get(job.name)
        row.ok, row.snapshot, row.epoch, row.seq = True, done.snapshot, epoch, self.state.seq
        row.files, row.bytes, row.added = (count.files, count.bytes, count.added) if count else (0, 0, 0)
        row.rows = job.dump_rows
        before, now = self.state.last(repo.key, job.name), clock.now(self.root)
        if before:
            row.shrank = guards.shrank(job.name, before, row.files, row.bytes, row.rows, self.plan.settings)
            if row.shrank:
                self.troubles.append(row.shrank)
        self.state.unpin(repo.key, job.name, now)
        if row.shrank:
            self.state.pin(repo.key, job.name, row.shrank, now, shrunk=True)
        whole = [name for name in names if name not in done.torn]
        self.state.good.setdefault(repo.key, {})[job.name] = Good(
            done.snapshot, repo.group, job.service.tier, epoch, self.state.seq, whole, job.started, now, job.real,
            row.files, row.bytes, row.rows,
        )  # fmt: skip

    def _row(self, name: str, job: Job) -> Row:
        repo = self.stores.repos.get((name, job.service.group))
        row = Row(job.name, name, repo.key if repo else name, job.service.group, job.service.tier)
        row.started, row.unavailable = round(job.started, 3), job.unavailable
        return row

    def _noted(self, row: Row) -> Row:
        """Into the ledger, and the last good snapshot pinned when this one is none."""
        if not row.ok:
            self.state.pin(row.key, row.service, row.error or "it failed", clock.now(self.root))
            say(row.error or f"{row.service}: not backed up")
        return row

    def _finish(self) -> dict[str, Any]:
        for job in self.jobs:
            done = {row.repository for row in job.rows}
            for name in job.repositories or ("",):
                if name not in done:
                    row = self._row(name, job)
                    row.error = (
                        job.error
                        or self.stores.shut.get((name, job.service.group))
                        or f"{job.name}: not stored"
                    )
                    job.rows.append(self._noted(row))
        rows = [row for job in self.jobs for row in job.rows]
        facts = [{k: v for k, v in row.__dict__.items() if k != "shrank" or v} for row in rows]
        ledger.add_all(self.root, "backup", facts)
        self._look_around()
        closed = set(map(_mark, self.stores.repos.values()))
        self.state.writing = [
            mark for mark in self.state.writing if mark not in closed or mark in self.still_locked
        ]
        self.state.save(self.disk)
        return self._reply(rows)

    def _look_around(self) -> None:
        """At most hourly: is there data that nobody keeps. Its failure never fails a backup."""
        now = clock.now(self.root)
        if abs(now - self.state.coverage) >= _COVERAGE_EVERY:
            from .. import coverage

            try:
                coverage.look(self.root, self.plan)
                self.state.coverage = now
            except AgentError as error:
                self.warnings.append(f"coverage was not looked at: {error.sentence}")

    def _reply(self, rows: list[Row]) -> dict[str, Any]:
        bad = sorted({row.service for row in rows if not row.ok})
        reasons = list(dict.fromkeys(row.error or "" for row in rows if not row.ok)) + self.troubles
        seconds = round(time.monotonic() - self.begun, 3)
        every = self.plan.tiers[self.tier].every if self.tier in self.plan.tiers else 0
        late = bool(every) and seconds > every
        error = None
        if reasons:
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            head = f"{len(bad)} of {len(self.jobs)} services failed: " if bad else ""
            error = f"{head}{reasons[0]}{more}"
        reached = None if error else self._ping()
        facts = {
            "tier": self.tier, "seq": self.state.seq, "seconds": seconds, "late": late, "reason": self.ask.reason,
            "warnings": self.warnings, "troubles": self.troubles, "ping": reached,
            "clock_off": None if self.stores.off is None else round(self.stores.off, 1),
        }  # fmt: skip
        ledger.add(self.root, "tick", ok=error is None, error=error, failed=bad, **facts)
        for line in self.warnings:
            say(line)
        reply = {**facts, "services": [row.__dict__ for row in rows]}
        return {**reply, "error": error, "kind": "failed", "reasons": reasons} if error else reply

    def _ping(self) -> bool | None:
        """The dead-man switch of a timer's tier: only when all went well, and only for the whole tier."""
        name = (
            (self.plan.settings.get("ping") or {}).get(self.ask.tier)
            if self.ask.tier and not self.ask.left_out
            else None
        )
        if not name:
            return None
        from . import ping  # what speaks HTTP takes a while to load

        complaint = ping.send(self.root, name)
        if complaint:
            self.warnings.append(complaint)
        return complaint is None


def _mark(repo: Repo) -> str:
    return f"{repo.key}/{repo.group}"


def _hooked(job: Job) -> bool:
    return bool(job.service.hooks.get("before_dump") or job.service.hooks.get("after_dump"))


def _raw(root: Root) -> dict[str, Any]:
    """The services of the plan as they were rendered: a manifest keeps them word for word."""
    with open(root.at(plans.PLAN), encoding="utf-8") as stream:
        found: dict[str, Any] = json.load(stream)["services"]
    return found
