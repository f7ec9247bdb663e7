"""Carries a journal forward or back. Every function here may be killed anywhere and called again."""

from __future__ import annotations

import os
import shutil

from . import journal as journals
from . import markers
from .disk import Disk
from .errors import AgentError, because
from .journal import Journal
from .look import MISSING, look
from .root import MANIFEST, PREVIOUS
from .steps import Step, progress

__all__ = ["can_go_forward", "forward", "prepare", "save_previous", "undo"]

_GENERATIONS = 5


def save_previous(disk: Disk, journal: Journal) -> None:
    """Copy what will be replaced or deleted to previous/RELEASE, durably, before the journal exists."""
    folder = f"{PREVIOUS}/{journal.release}"
    disk.private_dir(PREVIOUS)
    shutil.rmtree(disk.root.at(folder), ignore_errors=True)
    disk.private_dir(folder)
    for step in journal.steps:
        if step.saved and step.old.kind == "file":
            disk.copy(step.path, f"{folder}/{step.saved}", 0o600, os.geteuid(), os.getegid())
    disk.sync_dirs([folder, PREVIOUS])


def prepare(disk: Disk, journal: Journal, contents: dict[str, bytes]) -> None:
    """Everything short of the first rename: folders, new files beside their targets, reaction markers."""
    journals.save(disk, journal)
    for step in journal.of("mkdir"):
        disk.make_dir(step.path, step.new.mode, step.new.uid, step.new.gid)
    for step in journal.of("put"):
        _write_temp(disk, step, contents)
    disk.sync_dirs(os.path.dirname(step.path) for step in journal.of("mkdir", "put"))
    markers.add(disk, journal.reactions, token(journal))
    journal.state = "committing"
    journals.save(disk, journal)


def token(journal: Journal) -> str:
    """What identifies this transaction in its markers."""
    return f"{journal.release} {journal.since}"


def _write_temp(disk: Disk, step: Step, contents: dict[str, bytes]) -> None:
    new = step.new
    if new.kind == "link":
        disk.symlink(new.target, step.temp, new.uid, new.gid)
    else:
        disk.create(step.temp, [contents[step.path]], new.mode, new.uid, new.gid)


def can_go_forward(disk: Disk, journal: Journal) -> bool:
    """Whether every file that still has to be renamed is there, whole."""
    waiting = [step for step in journal.of("put") if progress(disk.root, step) == "todo"]
    return all(look(disk.root, step.temp) == step.new for step in waiting)


def forward(disk: Disk, journal: Journal, strict: bool) -> list[str]:
    """Do what is not done yet; the manifest last, once all else is durable.

    Returns paths that somebody else changed meanwhile: they are left as they are. ``strict`` raises instead.
    """
    kept = []
    steps = [step for step in journal.steps if step.op != "mkdir"]
    for step in (step for step in steps if step.path != MANIFEST):
        if not _do(disk, step):
            kept.append(step.path)
            if strict:
                raise AgentError(f"{step.path} changed on the host at this very moment", "stale")
    disk.sync_dirs(_folders(disk, steps))
    for step in steps:
        if step.path == MANIFEST:
            _do(disk, step)
            disk.sync_dirs([os.path.dirname(MANIFEST)])
    journals.erase(disk)
    _prune_previous(disk)
    return kept


def _folders(disk: Disk, steps: list[Step]) -> set[str]:
    folders = {os.path.dirname(step.path) for step in steps if step.op != "meta"}
    return {folder for folder in folders if os.path.isdir(disk.root.at(folder))}


def _do(disk: Disk, step: Step) -> bool:
    state = progress(disk.root, step)
    if state != "todo":
        if step.temp:
            disk.unlink(step.temp)
        return state == "done"
    try:
        _carry_out(disk, step)
    except OSError as error:
        raise AgentError(f"{step.path} could not be changed: {because(error)}", "io") from error
    return True


def _carry_out(disk: Disk, step: Step) -> None:
    if step.op == "put":
        if step.old.kind == "dir":
            disk.remove_dir(step.path)
        disk.rename(step.temp, step.path)
    elif step.op == "meta":
        disk.set_meta(step.path, step.new.mode, step.new.uid, step.new.gid)
    elif step.op == "delete":
        disk.unlink(step.path)
    elif step.op == "rmdir":
        disk.remove_dir(step.path)


def undo(disk: Disk, journal: Journal) -> list[str]:
    """Put everything back, close the journal. Returns paths that somebody else changed: left as they are."""
    untouched = journal.state == "prepared"
    if journal.state == "committing":
        journal.state = "undoing"
        journals.save(disk, journal)
    steps = [] if untouched else [step for step in reversed(journal.steps) if step.op != "mkdir"]
    kept = [step.path for step in steps if not _revert(disk, journal, step)]
    for step in journal.of("put", "delete"):
        disk.unlink(step.temp)
    for step in reversed(journal.of("mkdir")):
        disk.remove_dir(step.path)
    disk.sync_dirs(_folders(disk, journal.steps))
    if untouched:
        # Once something was renamed, a service may have read it: then the restart stays due.
        markers.clear(disk, journal.added)
    journals.erase(disk)
    return kept


def _revert(disk: Disk, journal: Journal, step: Step) -> bool:
    now, old = look(disk.root, step.path), step.old
    if now == old:
        return True
    if old.kind == "dir" and now.kind == "dir":
        disk.set_meta(step.path, old.mode, old.uid, old.gid)
        return True
    if progress(disk.root, step) == "foreign":
        return False
    if step.op == "meta":
        disk.set_meta(step.path, old.mode, old.uid, old.gid)
    elif old.kind == "dir":
        disk.unlink(step.path)
        disk.make_dir(step.path, old.mode, old.uid, old.gid)
    elif old == MISSING:
        disk.unlink(step.path)
    else:
        _restore(disk, journal, step)
    return True


def _restore(disk: Disk, journal: Journal, step: Step) -> None:
    old = step.old
    if old.kind == "link":
        disk.symlink(old.target, step.temp, old.uid, old.gid)
    else:
        disk.copy(f"{PREVIOUS}/{journal.release}/{step.saved}", step.temp, old.mode, old.uid, old.gid)
        if look(disk.root, step.temp) != old:
            raise AgentError(
                f"{step.path}: its saved copy in {PREVIOUS}/{journal.release} is damaged", "broken"
            )
    disk.rename(step.temp, step.path)


def _prune_previous(disk: Disk) -> None:
    real = disk.root.at(PREVIOUS)
    names = sorted(os.listdir(real), key=lambda name: os.lstat(os.path.join(real, name)).st_mtime_ns)
    for name in names[:-_GENERATIONS]:
        shutil.rmtree(os.path.join(real, name), ignore_errors=True)
        disk.checkpoint(f"prune {name}")
