"""Fills the idle slot with one batch: one restic run by difference, then databases, checks, owners.

The slot says ``filling`` from before the first byte until all of it is good. Killed anywhere, the next refresh goes on
from what is there: restic restores by difference, and a database whose dump is the one recorded is not loaded again.
"""

from __future__ import annotations

import json
import os
from typing import Any

from .. import process
from ..data import manifest as manifests
from ..data import stage
from ..data.plan import Plan, Service
from ..data.state import seen
from ..disk import Disk
from ..dumps import kinds
from ..dumps.common import sha256_of
from ..errors import AgentError, because
from ..owner import fences
from ..owner.plan import Plan as Owners
from ..putback import arrive, choice, fetch, listing, running, safe, sources, versions
from ..putback.places import Layout
from ..root import Root
from ..say import say
from . import owners as mapping
from .slots import Held, Slot, folder, laid_out, save

__all__ = ["Filled", "fill", "forget_loaded", "loaded"]

_CREATE = 900.0
_RESERVE = 64 << 20


class Filled(dict[str, Any]):
    """What one service's part of a refresh found: files, bytes, rows, loaded, notes."""


def fill(
    disk: Disk,
    plan: Plan,
    owned: Owners,
    slot: Slot,
    batch: choice.Batch,
    before: Slot | None,
    timeout: float,
    always: bool = False,
) -> dict[str, Filled]:
    """Bring one batch into the slot. Raises AgentError; the slot then stays ``filling`` and nothing is published."""
    root = disk.root
    work = folder(slot.group, slot.name)
    for top in (folder(slot.group), work):
        disk.private_dir(top)
    _begin(disk, slot, batch, before)
    if any(not slot.services[service.name].types for service in batch.services):
        _learn_types(disk, slot, batch, work, timeout)
    layouts = {}
    for service in batch.services:
        sources.make_parents(root, service)
        sources.make_volumes(service)
        layouts[service.name] = laid_out(root, plan, service, slot.services[service.name], slot.name)
        _ready_folders(disk, layouts[service.name])
        disk.checkpoint(f"slot folders {service.name}")
    _room(root, slot, batch, layouts)
    _restore(disk, slot, batch, layouts, work, timeout, always)
    disk.checkpoint("slot restored")
    return {
        s.name: _service(disk, plan, owned, slot, s, layouts[s.name], work, timeout) for s in batch.services
    }


def _begin(disk: Disk, slot: Slot, batch: choice.Batch, before: Slot | None) -> None:
    snapshot = batch.snapshot
    slot.state = "filling"
    for service in batch.services:
        known = slot.services.get(service.name)
        types = (known and known.types) or (_of(before, service.name) or {})
        slot.services[service.name] = Held(
            snapshot.id, batch.repo.name, snapshot.host, snapshot.epoch, snapshot.seq, snapshot.time, "",
            types=types, databases=known.databases if known and not known.taken else {},
            bytes=_held_bytes(slot, service.name),
        )  # fmt: skip
    save(disk, slot)
    disk.checkpoint("slot filling")


def _of(slot: Slot | None, name: str) -> dict[str, str] | None:
    return slot.services[name].types if slot and name in slot.services else None


def _learn_types(disk: Disk, slot: Slot, batch: choice.Batch, work: str, timeout: float) -> None:
    """The first time: whether each mount is a folder or a file. One more call of restic; later ones know it."""
    keys = {service.name: [mount.key for mount in service.mounts] for service in batch.services}
    sums = listing.take(batch.repo, batch.snapshot.id, keys, f"{disk.root.at(work)}.list", timeout)
    os.unlink(f"{disk.root.at(work)}.list")
    for name, parts in sums.items():
        devices = [path for part in parts.values() for path in part.devices]
        if devices:
            raise AgentError(
                f"{name}: the snapshot holds the device node {devices[0]}, which is never restored"
            )
        slot.services[name].types = {key: part.type for key, part in parts.items() if part.type}
    save(disk, slot)


def _ready_folders(disk: Disk, found: Layout) -> None:
    """The slot's folders, with whatever is in them."""
    for target in found.targets:
        above = os.path.dirname(target.new)
        for place in (above, target.new):
            if not os.path.isdir(disk.root.at(place)):
                disk.make_dir(place, 0o700, os.geteuid(), os.getegid())
    for place in (*found.binds.values(), *found.empty.values()):
        os.makedirs(disk.root.at(place), mode=0o700, exist_ok=True)


def _room(root: Root, slot: Slot, batch: choice.Batch, layouts: dict[str, Layout]) -> None:
    """What the slot lacks fits. Raises AgentError kind "space" before a byte is fetched."""
    there = sum(_held_bytes(slot, service.name) for service in batch.services)
    need = max(0, batch.snapshot.bytes - there) + _RESERVE
    places = [os.path.dirname(target.new) for found in layouts.values() for target in found.targets]
    for place in places:
        disk = os.statvfs(root.at(place))
        free = disk.f_bavail * disk.f_frsize
        if free < need:
            raise AgentError(
                f"{slot.group}: {free / 1e9:.1f} GB free on the disk of {place} and {need / 1e9:.1f} GB needed for another "
                f"slot: make room, or set ownership.groups.{slot.group}.slots to 1; what is published stays",
                "space",
            )


def _held_bytes(slot: Slot, name: str) -> int:
    known = slot.services.get(name)
    return known.bytes if known and not known.taken else 0


def _restore(
    disk: Disk,
    slot: Slot,
    batch: choice.Batch,
    layouts: dict[str, Layout],
    work: str,
    timeout: float,
    always: bool,
) -> None:
    """One restic run. What the snapshot does not hold goes, but other batches and the databases placed in files."""
    names = [service.name for service in batch.services]
    others = {*fetch.others(batch.snapshot, names), *(name for name in slot.services if name not in names)}
    for service in batch.services:
        layouts[service.name].spared += [
            f"/{service.name}/data/{pattern}"
            for database in service.databases
            for pattern in stage.database_files(database)
        ]
    say(
        f"refresh of {slot.group}: {', '.join(names)} from snapshot {batch.snapshot.id[:8]} into slot {slot.name}"
    )
    fetch.run(
        disk, batch.repo, batch.snapshot.id, list(layouts.values()), sorted(others), work, timeout,
        in_place=True, compare=False, always=always,
    )  # fmt: skip


def _service(
    disk: Disk,
    plan: Plan,
    owned: Owners,
    slot: Slot,
    service: Service,
    found: Layout,
    work: str,
    timeout: float,
) -> Filled:
    root, held, base = disk.root, slot.services[service.name], f"{work}/{service.name}"
    try:
        manifest = manifests.read(root.at(f"{base}/manifest.json"))
    except (OSError, ValueError) as error:
        raise AgentError(
            f"{service.name}: the snapshot has no usable manifest ({error})", "mismatch"
        ) from error
    result = Filled(notes=list(found.notes))
    _check_dumps(root, service, manifest, held, base)
    rows = _place(disk, service, manifest, held, found, base, timeout)
    arrive.caches(disk, manifest, found.trees)
    looked = {t.key: safe.look(root.at(t.new), "/nonexistent", {}, frozenset(t.keep)) for t in found.targets}
    safe.refuse(service.name, looked, allow=True)
    mapping.fit(disk, service, manifest, found)
    rows |= _load(disk, plan, owned, slot.group, service, manifest, base, timeout)
    held.files, held.bytes = sum(x.files for x in looked.values()), sum(x.bytes for x in looked.values())
    counted = [
        sum(facts["rows"].values()) for facts in (manifest.get("databases") or {}).values() if facts["rows"]
    ]
    held.rows = sum(counted) if counted else None
    held.images = {
        name: str(facts.get("image") or "") for name, facts in (manifest.get("images") or {}).items()
    }
    refused = [v for v in versions.compare(service, manifest) if v["verdict"] == "refused"]
    result |= {
        "files": held.files,
        "bytes": held.bytes,
        "rows": held.rows,
        "loaded": sorted(rows),
        "versions": refused,
    }
    save(disk, slot)
    disk.checkpoint(f"slot service {service.name}")
    return result


def _check_dumps(root: Root, service: Service, manifest: dict[str, Any], held: Held, base: str) -> None:
    """Each dump that is not the one of last time is the one its manifest names. Raises AgentError kind "mismatch"."""
    for name, facts in sorted((manifest.get("databases") or {}).items()):
        if held.databases.get(name) == facts["sha256"]:
            continue
        try:
            same = sha256_of(root.at(f"{base}/{facts['file']}")) == facts["sha256"]
        except OSError as error:
            raise AgentError(
                f"{service.name}: the dump of {name} is not there: {because(error)}", "mismatch"
            ) from error
        if not same:
            raise AgentError(
                f"{service.name}: the dump of {name} is not the one its manifest names", "mismatch"
            )


def _place(
    disk: Disk,
    service: Service,
    manifest: dict[str, Any],
    held: Held,
    found: Layout,
    base: str,
    timeout: float,
) -> dict[str, Any]:
    """Databases in files whose dump changed, and those whose file is not there."""
    databases = manifest.get("databases") or {}
    files = {name: facts for name, facts in databases.items() if not kinds.in_database_server(facts["kind"])}
    due = {
        n: f
        for n, f in files.items()
        if held.databases.get(n) != f["sha256"] or not _placed(disk.root, service, n, f, found)
    }
    held.databases = {
        name: sha for name, sha in held.databases.items() if name in databases and name not in due
    }
    rows = arrive.place_files(disk, service, {**manifest, "databases": due}, found.trees, base, timeout)
    held.databases |= {name: facts["sha256"] for name, facts in databases.items()}
    return rows


def _placed(root: Root, service: Service, name: str, facts: dict[str, Any], found: Layout) -> bool:
    database = arrive.database_of(service, name)
    tree = found.trees.get((database.mount or database.data_mount) if database else "")
    path = (facts.get("extra") or {}).get("path")
    return tree is not None and bool(path) and os.path.isfile(root.at(f"{tree}/{path}"))


# --- databases in servers


def loaded(root: Root, group: str) -> dict[str, str]:
    """SERVICE/DATABASE to the sha256 of the dump that is loaded as ``DB__new`` in this host's server."""
    found = seen(root, f"{folder(group)}/loaded.json", dict)
    return found if isinstance(found, dict) else {}


def _note_loaded(disk: Disk, group: str, found: dict[str, str]) -> None:
    disk.private_dir(folder(group))
    disk.replace(f"{folder(group)}/loaded.json", json.dumps(found).encode())


def forget_loaded(disk: Disk, group: str, key: str) -> None:
    """Before a load or a swap: what ``DB__new`` holds is not known from here on."""
    known = loaded(disk.root, group)
    if known.pop(key, None) is not None:
        _note_loaded(disk, group, known)


def _load(
    disk: Disk,
    plan: Plan,
    owned: Owners,
    group: str,
    service: Service,
    manifest: dict[str, Any],
    base: str,
    timeout: float,
) -> dict[str, Any]:
    """Load what changed beside the live databases; promotion then only renames."""
    found, _ = arrive.served(service, manifest)
    known = loaded(disk.root, group)
    due = [(n, d, f) for n, d, f in found if known.get(f"{service.name}/{n}") != f["sha256"]]
    if not due:
        return {}
    _servers(disk, plan, owned, group, service)
    rows = {}
    for name, database, facts in due:
        key = f"{service.name}/{name}"
        forget_loaded(disk, group, key)
        disk.checkpoint(f"loading {key}")
        rows[name] = kinds.load(disk.root, database, facts, f"{base}/{facts['file']}", "", timeout).rows
        _note_loaded(disk, group, {**loaded(disk.root, group), key: facts["sha256"]})
        disk.checkpoint(f"loaded {key}")
    return rows


def _servers(disk: Disk, plan: Plan, owned: Owners, group: str, service: Service) -> None:
    """The database servers alone, behind the fence: their networks are made first, so that it covers them."""
    for database in service.databases:
        owner = plan.running(database.project, database.container)
        if kinds.in_database_server(database.kind) and owner is not None:
            ended = process.run([*owner.compose, "create", "--no-recreate", database.container], _CREATE)
            if not ended.ok:
                raise AgentError(
                    f"{service.name}: its database server cannot be made: {ended.why()}", "docker"
                )
    if fences.learn_bridges(disk, owned):
        fences.up(disk.root, owned, group)
    running.servers_up(service, plan)
