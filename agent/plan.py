"""From a request and the live tree to the exact steps. Looks, never writes; run twice to see what moved."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import manifest, mounts, originals
from .errors import AgentError
from .look import MISSING, Seen, fingerprint, is_empty, link, look
from .request import Entry, Request
from .root import MANIFEST, Root
from .steps import Op, Step, temp_name

__all__ = ["Plan", "build"]


@dataclass
class Plan:
    """Ordered steps (the manifest is the last) and the manifest's new bytes."""

    steps: list[Step]
    manifest: bytes

    def paths(self, *ops: str) -> list[str]:
        """Host paths of the steps with these operations, without our own manifest."""
        return [step.path for step in self.steps if step.op in ops and step.path != MANIFEST]


def build(root: Root, request: Request, before: dict[str, Any] | None) -> Plan:
    """The steps that turn the live tree into the requested one; paths that already are right give none.

    Raises AgentError kind "stale" where the live tree is not the one the request was made for.
    """
    dirs, puts = _entries(root, request)
    deletes = _deletes(root, request, before)
    made = {step.path for step in dirs if step.op == "mkdir"}
    kept = set(manifest.entries(request.manifest)) | {entry.path for entry in request.entries}
    ours = manifest.created(before) | made
    rmdirs = _empty_parents(root, [step.path for step in deletes if step.op == "delete"], ours - made, kept)
    content = manifest.render(request.manifest, ours - {step.path for step in rmdirs})
    steps = dirs + puts + deletes + rmdirs
    for number, step in enumerate(step for step in steps if step.op in ("put", "delete")):
        step.saved = f"{number:04d}" if step.old.kind in ("file", "link") else ""
    return Plan(steps + _manifest_step(root, request, content), content)


def _manifest_step(root: Root, request: Request, content: bytes) -> list[Step]:
    old, new = look(root, MANIFEST), manifest.seen(hashlib.sha256(content).hexdigest())
    if old == new:
        return []
    return [
        Step(
            "put",
            MANIFEST,
            old,
            new,
            temp_name(request.release, MANIFEST),
            "manifest" if old != MISSING else "",
        )
    ]


def _entries(root: Root, request: Request) -> tuple[list[Step], list[Step]]:
    """Directory steps (parents first), then file and link steps in request order."""
    dirs: dict[str, Step] = {}
    puts: list[Step] = []
    busy = mounts.points(root)
    for entry in request.entries:
        step = _entry(root, request, entry, busy)
        if step is None:
            continue
        if entry.kind == "dir":
            dirs[entry.path] = step
        else:
            puts.append(step)
    for path in [*dirs, *(step.path for step in puts)]:
        for parent in mounts.missing_parents(root, path):
            dirs.setdefault(parent, Step("mkdir", parent, MISSING, _new_dir(root)))
    return sorted(dirs.values(), key=lambda step: (step.op != "mkdir", step.path.count("/"), step.path)), puts


def _new_dir(root: Root) -> Seen:
    return Seen("dir", 0o755, *root.owner(0, 0))


def wanted(root: Root, entry: Entry) -> Seen:
    """How an entry's path looks once it is right."""
    uid, gid = root.owner(entry.user, entry.group)
    if entry.kind == "link":
        return link(entry.target, uid, gid)
    return Seen(entry.kind, entry.mode, uid, gid, sha256=entry.sha256 if entry.kind == "file" else "")


def _entry(root: Root, request: Request, entry: Entry, busy: set[str]) -> Step | None:
    live, new = look(root, entry.path), wanted(root, entry)
    if live == new:
        return None
    same_content = live.kind == new.kind and live.sha256 == new.sha256
    expected = request.expect.get(entry.path)
    if expected is not None and fingerprint(live) != expected and not same_content:
        raise _stale(entry.path)
    reactions = list(entry.reactions)
    if live == MISSING and entry.kind == "dir":
        return Step("mkdir", entry.path, live, new, reactions=reactions)
    _refuse_target(root, entry, live, busy)
    if same_content and entry.kind != "link":
        return Step("meta", entry.path, live, new, reactions=reactions)
    return Step("put", entry.path, live, new, temp_name(request.release, entry.path), reactions=reactions)


def _stale(path: str) -> AgentError:
    return AgentError(
        f"{path} changed on the host since it was compared: compare again; nothing was changed", "stale"
    )


def _refuse_target(root: Root, entry: Entry, live: Seen, busy: set[str]) -> None:
    path, kind = entry.path, entry.kind
    if live.kind == "other":
        raise AgentError(f"{path} is a device, socket or pipe: it is not replaced; nothing was changed")
    if kind == "dir" and live.kind != "dir":
        what = f"a symbolic link to {live.target}" if live.kind == "link" else "a file"
        raise AgentError(f"{path} should be a directory and is {what}: move it away; nothing was changed")
    if kind != "dir" and live.kind == "dir" and not is_empty(root, path):
        raise AgentError(
            f"{path} should be a {kind} and is a directory that holds data: move it away; nothing was changed"
        )
    if kind != "dir" and path in busy:
        raise AgentError(
            f"{path} is a mount point of its own and cannot be replaced: unmount it; nothing was changed"
        )


def _deletes(root: Root, request: Request, before: dict[str, Any] | None) -> list[Step]:
    """Steps for files that are ours no more: what stood there before us comes back, else the file goes."""
    known = manifest.entries(before)
    former = originals.load(root) if request.delete else {}
    steps = []
    for path, sha256 in request.delete.items():
        live = look(root, path)
        if live == MISSING:
            continue
        if live.kind not in ("file", "link") or known.get(path, {}).get("sha256") != sha256:
            raise AgentError(f"{path} is not a file that we wrote: it is not deleted; nothing was changed")
        if fingerprint(live) != sha256:
            raise _stale(path)
        mounts.missing_parents(root, path)
        reactions = list(request.delete_reactions.get(path, ()))
        old = originals.seen(former[path]) if path in former else MISSING
        if old == live:
            continue
        op: Op = "delete" if old == MISSING else "meta" if _same_content(live, old) else "put"
        steps.append(Step(op, path, live, old, temp_name(request.release, path), reactions=reactions))
    return steps


def _same_content(one: Seen, other: Seen) -> bool:
    return one.kind == other.kind == "file" and one.sha256 == other.sha256


def _empty_parents(root: Root, deleted: Iterable[str], ours: set[str], kept: set[str]) -> list[Step]:
    """Directories that we made and that hold nothing once the deletes are done, deepest first."""
    gone, steps = set(deleted), []
    parents = {parent for path in gone for parent in _above(path)} & ours
    for parent in sorted(parents, key=lambda path: -path.count("/")):
        live = look(root, parent)
        needed = any(path == parent or path.startswith(f"{parent}/") for path in kept)
        if live.kind != "dir" or needed:
            continue
        if all(f"{parent}/{name}" in gone for name in os.listdir(root.at(parent))):
            gone.add(parent)
            steps.append(Step("rmdir", parent, live, MISSING))
    return steps


def _above(path: str) -> list[str]:
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]
