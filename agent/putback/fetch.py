"""One restic run that brings all services of a batch into their new folders."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ..data import manifest as manifests
from ..data import namespace, patterns
from ..disk import Disk
from ..errors import AgentError, because
from ..repo import restic
from ..repo.restic import Repo
from ..repo.snapshots import Snapshot
from . import listing
from .journal import FOLDER
from .listing import Wrong
from .places import Layout

__all__ = ["argv", "include_argv", "make_folders", "others", "peek", "run", "work_of"]


def work_of(group: str, snapshot: str) -> str:
    """The host folder for what no mount holds: manifests, dumps, configuration, single files."""
    return f"{FOLDER}/work/{group}-{snapshot[:8]}"


def argv(
    snapshot: str, target: str, leave_out: Sequence[str], in_place: bool = False, always: bool = False
) -> list[str]:
    """Restore everything but these paths of the snapshot. ``in_place``: by difference, onto what is there; ``always``:

    by reading it, not by size and time.

    ``--delete`` spares what an exclude names.
    """
    words = ["restore", snapshot, "--json", "--no-lock", "--target", target]
    how = "always" if always else "if-changed"
    words += ["--overwrite", how, "--delete"] if in_place else ["--sparse"]
    for pattern in leave_out:
        words += ["--exclude", pattern]
    return words


def include_argv(snapshot: str, target: str, wanted: Sequence[str], sparse: bool = True) -> list[str]:
    """Restore only what these patterns name."""
    words = [
        "restore",
        snapshot,
        "--json",
        "--no-lock",
        "--target",
        target,
        *(["--sparse"] if sparse else []),
    ]
    for pattern in wanted:
        words += ["--include", pattern]
    return words


def peek(
    disk: Disk, repo: Repo, snapshot: str, services: Sequence[str], folder: str, timeout: float
) -> dict[str, dict[str, Any]]:
    """The manifests of these services in a snapshot. ``folder``: host path of an empty folder of ours."""
    real = disk.root.at(folder)
    wanted = [f"/{patterns.escaped(name)}/manifest.json" for name in services]
    restic.run(repo, include_argv(snapshot, real, wanted), timeout)
    found = {}
    for name in services:
        try:
            found[name] = manifests.read(f"{real}/{name}/manifest.json")
        except (OSError, ValueError) as error:
            raise AgentError(
                f"snapshot {snapshot[:8]} has no usable manifest of {name} ({error}): take another one",
                "no-snapshot",
            ) from error
    return found


def others(snapshot: Snapshot, wanted: Sequence[str]) -> list[str]:
    """The services in a snapshot, whole or torn, that are not wanted."""
    return sorted({os.path.basename(path) for path in snapshot.paths} - set(wanted))


def make_folders(disk: Disk, found: Layout, manifest: dict[str, Any]) -> None:
    """New, empty, closed folders for the service's content. Leftovers there are ours and go. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    for target in found.targets:
        above = os.path.dirname(target.new)
        real = disk.root.at(target.new)
        if os.path.lexists(real):
            shutil.rmtree(real)
        if not os.path.isdir(disk.root.at(above)):
            disk.make_dir(above, 0o700, uid, gid)
        disk.make_dir(target.new, 0o700, uid, gid)
    for folder in (*found.binds.values(), *found.empty.values()):
        os.makedirs(disk.root.at(folder), mode=0o700, exist_ok=True)
    for key, folder in found.empty.items():
        owner = (manifest.get("mounts") or {}).get(key, {}).get("owner")
        if owner:
            disk.set_meta(folder, owner[2], *_own(disk, owner))


def _own(disk: Disk, owner: Sequence[int]) -> tuple[int, int]:
    return disk.root.owner(int(owner[0]), int(owner[1]))


def run(
    disk: Disk,
    repo: Repo,
    snapshot: str,
    layouts: Sequence[Layout],
    others: Sequence[str],
    work: str,
    timeout: float,
    in_place: bool = False,
    compare: bool = True,
    always: bool = False,
) -> tuple[dict[str, Any], dict[str, Wrong]]:
    """Restore; then compare with the list ``WORK.list``. ``others``: services of the snapshot that are not wanted.

    Returns restic's summary and what differs, by service ({} without ``compare``). Raises AgentError.
    """
    real = disk.root.at(work)
    names = [found.service.name for found in layouts]
    leave_out = [f"/{name}" for name in others] + [path for found in layouts for path in found.skipped]
    spared = [pattern for found in layouts for pattern in found.spared]
    asked = argv(snapshot, real, [*map(patterns.escaped, leave_out), *spared], in_place, always)
    try:
        with namespace.private_mounts(), _threads_ended():
            for found in layouts:
                _bind(disk, found, real)
            result = restic.run(repo, asked, timeout)
            wrong = listing.compare(f"{real}.list", real, leave_out, names) if compare else {}
        for found in layouts:
            _bring_files(disk, found, real)
    except OSError as error:
        raise AgentError(f"{work} cannot be used: {because(error)}", "io") from error
    return result.summary, wrong


@contextlib.contextmanager
def _threads_ended() -> Iterator[None]:
    """Leave only when threads begun inside are gone: while one lives, the kernel refuses the way back (setns)."""
    before = _threads()
    try:
        yield
    finally:
        until = time.monotonic() + 10
        while _threads() - before and time.monotonic() < until:
            time.sleep(0.002)


def _threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


def _bind(disk: Disk, found: Layout, real: str) -> None:
    # Outer folders first: an inner one is mounted on what the outer shows.
    for stage, folder in sorted(found.binds.items(), key=lambda item: item[0].split("/")):
        os.makedirs(real + stage, mode=0o700, exist_ok=True)
        namespace.bind(disk.root.at(folder), real + stage, read_only=False)


def _bring_files(disk: Disk, found: Layout, real: str) -> None:
    """Mounts of single files: from the work folder to the file system where they belong."""
    for stage, path in found.files.items():
        if not os.path.lexists(real + stage):
            raise AgentError(f"{found.service.name}: {path} did not come out of the snapshot", "mismatch")
        temp = f"{disk.root.at(path)}.part"
        os.makedirs(os.path.dirname(temp), mode=0o700, exist_ok=True)
        _copy(real + stage, temp)
        os.rename(temp, disk.root.at(path))
        disk.checkpoint(f"file {path}")


def _copy(source: str, goal: str) -> None:
    shutil.copy2(source, goal, follow_symlinks=False)
    info = os.lstat(source)
    os.chown(goal, info.st_uid, info.st_gid, follow_symlinks=False)
    if not os.path.islink(source):
        os.chmod(goal, info.st_mode & 0o7777)
