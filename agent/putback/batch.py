"""All services of one snapshot: one look, one list, one restic run, then each service's own transaction."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..data import clock, ledger, preflight
from ..data.plan import Plan, Service
from ..disk import Disk
from ..dumps.common import sha256_of
from ..errors import AgentError, because
from ..say import say
from . import arrive, carry, fetch, inplace, listing, newer, room, running, turn, versions
from . import journal as journals
from .asked import Asked
from .choice import Batch
from .journal import Journal
from .listing import Part, Wrong
from .places import Layout, layout
from .sources import make_volumes, source_of
from .target import meta_of
from .turn import Phases

__all__ = ["One", "Work", "check", "clear", "prepare", "record", "refuse_devices", "restore"]


@dataclass
class One:
    """One service on its way: what is known of it, and its part of the reply."""

    service: Service
    manifest: dict[str, Any]
    parts: dict[str, Part]
    layout: Layout | None = None
    journal: Journal | None = None
    error: AgentError | None = None
    phases: Phases = field(default_factory=Phases)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Work:
    """What a batch needs at hand. ``before``: service to (repository, snapshot) of the state now, for in_place."""

    disk: Disk
    plan: Plan
    asked: Asked
    batch: Batch
    before: dict[str, tuple[str, str]] = field(default_factory=dict)
    ones: list[One] = field(default_factory=list)
    shared: Phases = field(default_factory=Phases)

    @property
    def folder(self) -> str:
        return fetch.work_of(self.batch.repo.group, self.batch.snapshot.id)

    @property
    def spool(self) -> str:
        return f"{self.disk.root.at(self.folder)}.list"

    @property
    def good(self) -> list[One]:
        return [one for one in self.ones if one.error is None]


def prepare(work: Work) -> None:
    """Look at the snapshot without touching a service: manifests and list. Raises AgentError."""
    disk, batch, timeout = work.disk, work.batch, work.asked.timeout
    names = [service.name for service in batch.services]
    clear(work)
    disk.private_dir(work.folder)
    with work.shared.timed("look"):
        manifests = fetch.peek(disk, batch.repo, batch.snapshot.id, names, work.folder, timeout)
        keys = {service.name: [mount.key for mount in service.mounts] for service in batch.services}
        sums = listing.take(batch.repo, batch.snapshot.id, keys, work.spool, timeout)
    work.ones = [One(service, manifests[service.name], sums[service.name]) for service in batch.services]


def clear(work: Work) -> None:
    """The work folder goes, and the list."""
    for end in ("", ".before"):
        real = work.disk.root.at(work.folder) + end
        shutil.rmtree(real, ignore_errors=True)
        if os.path.exists(f"{real}.list"):
            os.unlink(f"{real}.list")


def check(work: Work) -> None:
    """Everything that can be refused before anything is touched; a refused service has its ``error`` then."""
    with work.shared.timed("check"):
        for one in work.ones:
            _guarded(one, partial(_check, work, one))
        _refuse_nested(work.good)
        _check_room(work)


def _check(work: Work, one: One) -> None:
    asked, root = work.asked, work.disk.root
    one.facts["versions"] = versions.compare(one.service, one.manifest)
    versions.check(one.service, one.manifest, asked.allow_version)
    refuse_devices(one)
    preflight.mounted(root, one.service)
    if not asked.dry_run:
        made = make_volumes(one.service)
        one.facts |= {"made_volumes": made} if made else {}
    types = {key: part.type for key, part in one.parts.items() if part.type}
    snapshot = work.batch.snapshot
    one.layout = layout(root, work.plan, one.service, snapshot.id, types, source_of)
    one.facts["notes"] = list(one.layout.notes)
    if asked.in_place:
        _check_before(work, one)
        one.layout = inplace.onto_live(root, work.plan, one.layout)
    now = clock.now(root)
    one.facts["newer"] = newer.newer(root, one.layout, one.manifest, snapshot.time, now, work.spool)
    if not asked.dry_run:
        newer.refuse(one.service, one.facts["newer"], asked.confirm_loss)


def refuse_devices(one: One) -> None:
    """A device node is never restored, wherever to. Raises AgentError."""
    devices = [path for part in one.parts.values() for path in part.devices]
    if devices:
        raise AgentError(
            f"{one.service.name}: the snapshot holds the device node {devices[0]}, which is never restored; "
            "exclude it from the backup; nothing was changed"
        )


def _check_before(work: Work, one: One) -> None:
    if work.asked.dry_run:
        return
    if one.service.name not in work.before:
        raise AgentError(
            f"{one.service.name}: no fresh snapshot of the current state, so it is not restored in place; "
            "nothing was changed"
        )


def _refuse_nested(ones: list[One]) -> None:
    """Two services of one run must not exchange one another's folders."""
    taken: dict[str, str] = {}
    for one in ones:
        assert one.layout is not None
        lives = [live for key, live in one.layout.lives.items() if key in one.layout.trees]
        for live in lives:
            other = next(
                (o for o in taken if live == o or live.startswith(f"{o}/") or o.startswith(f"{live}/")), None
            )
            if other is not None:
                one.error = AgentError(
                    f"{one.service.name}: {live} overlaps {other} of {taken[other]}: restore them one after the other; "
                    "nothing was changed"
                )
                break
        else:
            taken |= dict.fromkeys(lives, one.service.name)


def _check_room(work: Work) -> None:
    root = work.disk.root
    for one in work.good:
        assert one.layout is not None
        parts = one.parts
        if work.asked.in_place:
            parts = {name: part for name, part in parts.items() if name not in one.layout.lives}
        found = room.needs(root, [one.layout], {one.service.name: parts}, work.folder)
        one.facts["space"] = [need.to_json() for need in found]
        one.facts["mode"] = "in_place" if work.asked.in_place else "swap"
        if work.asked.dry_run:
            one.facts["fits"] = not any(need.short for need in found)
        else:
            _guarded(one, partial(room.check, one.service.name, found))
    layouts = [one.layout for one in work.good if one.layout is not None]
    if not work.asked.in_place and not work.asked.dry_run and len(layouts) > 1:
        sums = {one.service.name: one.parts for one in work.good}
        together = room.needs(root, layouts, sums, work.folder)
        if any(need.short for need in together):
            for one in work.good:
                _guarded(one, partial(room.check, f"{one.service.name} and others at once", together))


def _guarded(one: One, step: Callable[[], None]) -> bool:
    try:
        step()
    except AgentError as error:
        one.error = error
    except OSError as error:
        one.error = AgentError(f"{one.service.name}: {error.filename or 'a file'}: {because(error)}", "io")
    return one.error is None


def restore(work: Work) -> None:
    """The services of the batch that passed ``check``; each ends restored, or as it was, with its ``error``."""
    for one in work.good:
        if not _guarded(one, partial(_open, work, one)) and one.journal is not None:
            _undo(work, one, one.error or AgentError("", "internal"))
    if not work.asked.in_place:
        _fetch(work)
    for one in work.good:
        _transact(work, one)
    clear(work)


def _open(work: Work, one: One) -> None:
    """The journal first, then the folders it names."""
    assert one.layout is not None
    asked, batch = work.asked, work.batch
    journal = turn.begin(work.disk, one.service, batch.snapshot.id, batch.repo.name, asked.keep_old_days)
    journal.work, journal.targets = work.folder, one.layout.targets
    if asked.in_place:
        journal.mode = "in_place"
        journal.repository, journal.before = work.before[one.service.name]
    found, notes = arrive.served(one.service, one.manifest)
    one.facts["notes"] += notes
    base = f"{work.folder}/{one.service.name}"
    journal.databases = [{"name": n, "facts": f, "file": f"{base}/{f['file']}"} for n, _, f in found]
    one.journal = journal
    journals.save(work.disk, journal)
    fetch.make_folders(work.disk, one.layout, one.manifest)


def _fetch(work: Work) -> None:
    """One restic run for all of them; when it fails nothing was touched and all of them are as they were."""
    ones = work.good
    if not ones:
        return
    layouts = [one.layout for one in ones if one.layout is not None]
    names = [one.service.name for one in ones]
    batch = work.batch
    say(f"restoring {', '.join(names)} from snapshot {batch.snapshot.id[:8]} of {batch.repo.title}")
    try:
        with work.shared.timed("files"):
            leave_out = fetch.others(batch.snapshot, names)
            summary, wrong = fetch.run(
                work.disk, batch.repo, batch.snapshot.id, layouts, leave_out, work.folder, work.asked.timeout
            )
    except BaseException as error:
        for one in ones:
            _undo(work, one, error)
        if not isinstance(error, (AgentError, OSError)):
            raise
        return
    for one in ones:
        one.facts["restic"] = {key: summary.get(key) for key in ("files_restored", "bytes_restored")}
        one.facts["wrong"] = wrong[one.service.name]


def _transact(work: Work, one: One) -> None:
    assert one.journal is not None
    try:
        if work.asked.in_place:
            _onto_live(work, one)
        else:
            _arrive(work, one)
            _exchange(work, one)
        turn.finish(work.disk, work.plan, one.service, one.journal, one.phases)
    except BaseException as error:
        _undo(work, one, error)
        if not isinstance(error, (AgentError, OSError)):
            raise
        return
    with one.phases.timed("hooks"):
        one.facts["hooks_failed"] = running.run_hooks(one.service, "after_rollback", offline=False)
    for sentence in one.facts["hooks_failed"]:
        say(sentence)
    places = [target.old for target in one.journal.targets]
    one.facts["old"] = [place for place in places if os.path.lexists(work.disk.root.at(place))]


def _arrive(work: Work, one: One) -> None:
    """The new tree complete and looked at; databases loaded beside the live ones. Nothing live has changed."""
    assert one.layout is not None and one.journal is not None
    base = f"{work.folder}/{one.service.name}"
    with one.phases.timed("inspect"):
        _dumps_whole(work, one)
        files, size = arrive.inspect(work.disk, one.layout, one.manifest, work.asked.allow_special)
        one.facts |= {"files": files, "bytes": size}
    with one.phases.timed("load"):
        rows = arrive.place_files(
            work.disk, one.service, one.manifest, one.layout.trees, base, work.asked.timeout
        )
        arrive.caches(work.disk, one.manifest, one.layout.trees)
        rows |= turn.load(work.disk, work.plan, one.service, one.journal, work.asked.timeout)
        one.facts["rows"] = rows
    with one.phases.timed("sync"):
        turn.sync(work.disk, [target.new for target in one.journal.targets])


def _dumps_whole(work: Work, one: One) -> None:
    """Every dump is the one its manifest names; files that differ are only reported."""
    wrong: Wrong = one.facts.get("wrong") or Wrong()
    name = one.service.name
    ours = [path for path in wrong.paths if path.startswith((f"/{name}/dumps/", f"/{name}/manifest.json"))]
    if ours:
        raise AgentError(f"{name}: a dump did not come out whole: {ours[0]}", "mismatch")
    for database, facts in sorted((one.manifest.get("databases") or {}).items()):
        real = work.disk.root.at(f"{work.folder}/{name}/{facts['file']}")
        try:
            good = sha256_of(real) == facts["sha256"]
        except OSError as error:
            raise AgentError(
                f"{name}: the dump of {database} is not there: {because(error)}", "mismatch"
            ) from error
        if not good:
            raise AgentError(
                f"{name}: the dump of {database} in snapshot {work.batch.snapshot.id[:8]} is not the one its manifest "
                "names: take another snapshot",
                "mismatch",
            )


def _exchange(work: Work, one: One) -> None:
    assert one.layout is not None and one.journal is not None
    with one.phases.timed("stop"):
        turn.stop(work.disk, one.service, one.journal)
    with one.phases.timed("swap"):
        for target in one.journal.targets:
            target.carry = carry.carried(work.disk.root, work.plan, one.layout, target)
            if not target.only and not target.made:
                target.was = meta_of(work.disk.root.at(target.live))
        turn.exchange(work.disk, one.journal)


def _onto_live(work: Work, one: One) -> None:
    assert one.layout is not None and one.journal is not None
    disk, batch, name = work.disk, work.batch, one.service.name
    with one.phases.timed("stop"):
        turn.stop(disk, one.service, one.journal)
    turn.to(disk, one.journal, "swapping")
    with one.phases.timed("files"):
        leave_out = fetch.others(batch.snapshot, [name])
        args = (leave_out, work.folder, work.asked.timeout)
        summary, wrong = inplace.put(
            disk, work.plan, batch.repo, batch.snapshot.id, one.layout, one.manifest, *args
        )
    one.facts["restic"] = {key: summary.get(key) for key in ("files_restored", "bytes_restored")}
    one.facts["wrong"] = wrong[name]
    one.facts["bytes"] = sum(part.bytes for part in one.parts.values())
    one.facts["files"] = sum(part.files for part in one.parts.values())
    with one.phases.timed("load"):
        _dumps_whole(work, one)
        one.facts["rows"] = turn.load(disk, work.plan, one.service, one.journal, work.asked.timeout)
    with one.phases.timed("swap"):
        turn.exchange(disk, one.journal)


def _undo(work: Work, one: One, error: BaseException) -> None:
    """As it was; what could not be undone now is in the journal for the next run."""
    assert one.journal is not None
    if isinstance(error, OSError):
        one.error = AgentError(f"{one.service.name}: {error.filename or 'a file'}: {because(error)}", "io")
    else:
        one.error = (
            error if isinstance(error, AgentError) else AgentError(f"stopped: {error!r}", "interrupted")
        )
    if one.journal.state == "committed":
        # Past the commit nothing goes back: only the cleaning up is left, and the next run does it.
        return
    say(f"{one.service.name}: {one.error.sentence}; putting everything back")
    try:
        turn.back(
            work.disk,
            work.plan,
            one.service,
            one.journal,
            lambda open_one: inplace.undo(work.disk, work.plan, open_one),
        )
    except AgentError as worse:
        one.error = AgentError(f"{one.error.sentence}; and {worse.sentence}", "broken")
        return
    kept = "the old data serves as before" if one.journal.stopped else "nothing was changed"
    sentence = one.error.sentence
    if not sentence.endswith(("nothing was changed", kept)):
        one.error = AgentError(f"{sentence}; {kept}", one.error.kind, **one.error.details)


def record(work: Work, one: One, seconds: float) -> None:
    """The ledger's line."""
    facts = one.facts
    ledger.add(
        work.disk.root,
        "restore",
        ok=one.error is None,
        error=one.error.sentence if one.error else None,
        service=one.service.name,
        group=work.batch.repo.group,
        repository=work.batch.repo.name,
        snapshot=work.batch.snapshot.id,
        seconds=seconds,
        phases={**work.shared, **one.phases},
        files=facts.get("files"),
        bytes=facts.get("bytes"),
        rows=facts.get("rows"),
        mode=facts.get("mode", "swap"),
        reason=work.asked.reason,
    )
