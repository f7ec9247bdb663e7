"""Exchanges content by renames. Each function may be killed anywhere and called again, and then ends the same.

Why it is never a mix: while ``aside`` runs, the live folder holds old entries only; while ``in`` runs, new ones
only. A step is written to the journal before its first rename, and only after the folders of the step before are
on the disk. So whoever finds the journal knows for each entry of the live folder which side it is from.

    step     entries move         what is in the live folder
    waiting  -                    old
    aside    live → old           old
    carry    old/P → new/P        nothing
    in       new → live           new
    done     -                    new
    out      live → new           new
    uncarry  new/P → old/P        nothing
    back     old → live           old
    undone   -                    old
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ..disk import Disk
from ..errors import AgentError, because
from .target import NEW, Target, entries, meta_of, ours, set_meta

__all__ = ["backward", "forward", "remove_new", "remove_tree"]

Save = Callable[[], None]

# Where the way back begins, for each step of the way forward.
_TURN = {"aside": "back", "carry": "uncarry", "in": "out", "done": "out"}


def forward(disk: Disk, target: Target, save: Save) -> None:
    """New content in, old content aside. ``save`` writes the journal that holds this target.

    Raises AgentError kind "io" in the words of the system; the caller goes backward.
    """
    try:
        if target.step == "waiting":
            _prepare(disk, target)
            _to(target, "aside", save)
        if target.step == "aside":
            _move(disk, target, target.live, target.old)
            _to(target, "carry", save)
        if target.step == "carry":
            _carry(disk, target, target.old, target.new)
            _to(target, "in", save)
        if target.step == "in":
            _arrive(disk, target)
            _to(target, "done", save)
    except OSError as error:
        raise AgentError(f"{target.live} could not be exchanged: {because(error)}", "io") from error


def backward(disk: Disk, target: Target, save: Save) -> None:
    """Old content in, new content away, from wherever ``forward`` was. Raises OSError."""
    if target.step in _TURN:
        _to(target, _TURN[target.step], save)
    if target.step == "out":
        _move(disk, target, target.live, target.new)
        _to(target, "uncarry", save)
    if target.step == "uncarry":
        _carry(disk, target, target.new, target.old)
        _to(target, "back", save)
    if target.step == "back":
        _move(disk, target, target.old, target.live)
        if target.was:
            set_meta(disk.root.at(target.live), target.was)
        _to(target, "undone", save)
    if target.made:
        disk.remove_dir(target.live)


def _to(target: Target, step: str, save: Save) -> None:
    target.step = step
    save()


def _prepare(disk: Disk, target: Target) -> None:
    for folder in (target.live, os.path.dirname(target.old), target.old):
        if not os.path.isdir(disk.root.at(folder)):
            disk.make_dir(folder, 0o700, os.geteuid(), os.getegid())
    disk.sync_dirs([os.path.dirname(target.old), os.path.dirname(os.path.dirname(target.old))])


def _move(disk: Disk, target: Target, source: str, goal: str) -> None:
    for name in entries(disk.root, source, target):
        disk.rename(f"{source}/{name}", f"{goal}/{name}")
    disk.sync_dirs(folder for folder in (source, goal) if os.path.isdir(disk.root.at(folder)))


def _carry(disk: Disk, target: Target, source: str, goal: str) -> None:
    """What no snapshot holds follows the content that is live; one that was carried is not there any more."""
    touched = set()
    for path in target.carry:
        if not os.path.lexists(disk.root.at(f"{source}/{path}")):
            continue
        folder = os.path.dirname(f"{goal}/{path}")
        _make_parents(disk, source, goal, os.path.dirname(path))
        _clear(disk, f"{goal}/{path}")
        disk.rename(f"{source}/{path}", f"{goal}/{path}")
        touched |= {folder, os.path.dirname(f"{source}/{path}")}
    disk.sync_dirs(touched)


def _clear(disk: Disk, path: str) -> None:
    """What the snapshot has where something is carried to: the live content wins there."""
    real = disk.root.at(path)
    if os.path.isdir(real) and not os.path.islink(real):
        remove_tree(disk, path)
    else:
        disk.unlink(path)


def _make_parents(disk: Disk, source: str, goal: str, path: str) -> None:
    """Folders above a carried path that the snapshot does not have, as they were."""
    so_far = ""
    for part in path.split("/") if path else []:
        so_far = f"{so_far}/{part}"
        if os.path.isdir(disk.root.at(goal + so_far)):
            continue
        # Whole at once: a kill must not leave a folder of ours, closed to the service, in its data.
        temp = f"{goal}/{NEW}.folder"
        disk.remove_dir(temp)
        disk.make_dir(temp, 0o700, os.geteuid(), os.getegid())
        set_meta(disk.root.at(temp), meta_of(disk.root.at(source + so_far)))
        disk.rename(temp, goal + so_far)


def _arrive(disk: Disk, target: Target) -> None:
    _move(disk, target, target.new, target.live)
    if not target.only and os.path.isdir(disk.root.at(target.new)):
        set_meta(disk.root.at(target.live), meta_of(disk.root.at(target.new)))
        disk.checkpoint(f"meta {target.live}")


def remove_new(disk: Disk, target: Target) -> None:
    """Remove what came from the snapshot and is not live. Raises OSError."""
    if target.step not in ("waiting", "done", "undone"):
        raise AgentError(f"{target.live} is in the middle of an exchange ({target.step})", "internal")
    if target.spare and target.step != "done":
        return
    remove_tree(disk, target.new)
    _remove_shell(disk, os.path.dirname(target.new))


def remove_tree(disk: Disk, folder: str) -> None:
    """Remove a folder of ours and all it holds, but nothing of another file system. Raises OSError."""
    real = disk.root.at(folder)
    if not os.path.lexists(real):
        return
    # Nothing is ever mounted here outside our own, private namespace; across a mount point nothing is deleted.
    device = os.lstat(real).st_dev
    for top, folders, files in os.walk(real, topdown=False, onerror=_raise):
        for name in files:
            os.unlink(os.path.join(top, name))
        for name in folders:
            path = os.path.join(top, name)
            if os.path.islink(path):
                os.unlink(path)
            elif os.lstat(path).st_dev == device:
                os.rmdir(path)
    os.rmdir(real)
    disk.checkpoint(f"remove {folder}")


def _raise(error: OSError) -> None:
    raise error


def _remove_shell(disk: Disk, folder: str) -> None:
    """``.understudy-restore`` itself, when no other restore uses it."""
    if ours(os.path.basename(folder)):
        disk.remove_dir(folder)
