"""Restore to a folder: nothing of a service is touched, and nothing that is there is overwritten."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from ..data import patterns
from ..data.plan import Service
from ..errors import AgentError, because
from ..repo import restic
from ..root import Root
from . import arrive, fetch, safe
from .batch import One, Work, refuse_devices

__all__ = ["check", "included", "ready", "restore"]


def ready(root: Root, folder: str) -> None:
    """Make the folder (0700). Raises AgentError when something is in it already."""
    real = root.at(folder)
    try:
        if not os.path.lexists(real):
            os.makedirs(real, mode=0o700)
        if not stat.S_ISDIR(os.lstat(real).st_mode):
            raise AgentError(f"{folder} is not a folder: name another one")
        if os.listdir(real):
            raise AgentError(
                f"{folder} is not empty: nothing is ever restored over other files; name another one"
            )
    except OSError as error:
        raise AgentError(f"{folder} cannot be used: {because(error)}", "io") from error


def check(root: Root, folder: str, needed: int, files: int) -> None:
    """Raise AgentError kind "space" when the folder's disk cannot take it."""
    disk = os.statvfs(root.at(folder))
    free = disk.f_bavail * disk.f_frsize
    if free < needed + 4096 * files + (64 << 20):
        raise AgentError(f"{free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB needed at {folder}", "space")


def included(service: Service, wanted: tuple[str, ...]) -> list[str]:
    """restic patterns for a request's ``paths``: ``KEY/glob`` as in the snapshot, ``CONTAINER:/path/glob``,

    ``dumps/glob`` or ``config/glob``. Patterns of other services give none.
    """
    base = f"/{patterns.escaped(service.name)}"
    found = []
    for pattern in wanted:
        container, colon, path = pattern.partition(":/")
        if colon and "/" not in container:
            found += [f"{base}/data/{rest}" for rest in _in_container(service, container, f"/{path}")]
        elif pattern.split("/")[0] in ("dumps", "config"):
            found.append(f"{base}/{pattern.strip('/')}")
        else:
            found.append(f"{base}/data/{pattern.strip('/')}")
    return found


def _in_container(service: Service, container: str, path: str) -> list[str]:
    """A path inside a container as KEY/rest, by the deepest mount that holds it."""
    best: tuple[int, str] | None = None
    for mount in service.mounts:
        for target in mount.targets:
            name, _, place = target.partition(":")
            place = place.rstrip("/")
            if name == container and (path == place or path.startswith(f"{place}/")):
                rest = path[len(place) :].strip("/")
                text = f"{patterns.escaped(mount.key)}/{rest}".rstrip("/")
                best = max(best or (-1, ""), (len(place), text))
    return [best[1]] if best else []


def restore(work: Work) -> None:
    """Restore the batch's services to TO/SERVICE. Each ends with facts or its ``error``."""
    asked, disk, batch = work.asked, work.disk, work.batch
    real = disk.root.at(asked.to)
    for one in work.ones:
        with _reported(one):
            refuse_devices(one)
    wanted = work.good
    if not wanted:
        return
    if asked.paths:
        includes = [pattern for one in wanted for pattern in included(one.service, asked.paths)]
        if not includes:
            raise AgentError(
                f"no mount of {', '.join(one.service.name for one in wanted)} holds {asked.paths[0]}",
                "bad-request",
            )
        argv = fetch.include_argv(batch.snapshot.id, real, includes)
    else:
        names = [one.service.name for one in wanted]
        needed = sum(part.bytes for one in wanted for part in one.parts.values())
        files = sum(part.files for one in wanted for part in one.parts.values())
        dumps = sum(one.parts["dumps"].bytes for one in wanted if "dumps" in one.parts)
        check(disk.root, asked.to, needed + dumps, files)
        leave_out = [f"/{patterns.escaped(name)}" for name in fetch.others(batch.snapshot, names)]
        argv = fetch.argv(batch.snapshot.id, real, leave_out)
    with work.shared.timed("files"):
        summary = restic.run(batch.repo, argv, asked.timeout).summary
    for one in wanted:
        _complete(work, one)
    if asked.paths and not sum(one.facts.get("files", 0) for one in wanted):
        raise AgentError(
            f"nothing in snapshot {batch.snapshot.id[:8]} matches {', '.join(asked.paths)}", "no-match"
        )
    for one in wanted:
        one.facts["restic"] = {key: summary.get(key) for key in ("files_restored", "bytes_restored")}


@contextlib.contextmanager
def _reported(one: One) -> Iterator[None]:
    try:
        yield
    except AgentError as error:
        one.error = error


def _complete(work: Work, one: One) -> None:
    """A whole tree gets its databases and caches, so that it is what a host would have."""
    disk, name = work.disk, one.service.name
    base = f"{work.asked.to}/{name}"
    with _reported(one):
        if not work.asked.paths:
            trees = {mount.key: f"{base}/data/{mount.key}" for mount in one.service.mounts}
            trees = {key: path for key, path in trees.items() if os.path.isdir(disk.root.at(path))}
            one.facts["rows"] = arrive.place_files(
                disk, one.service, one.manifest, trees, base, work.asked.timeout
            )
            arrive.caches(disk, one.manifest, trees)
        if os.path.isdir(disk.root.at(base)):
            found = safe.look(disk.root.at(base), disk.root.at(base), {})
            one.facts |= {"files": found.files, "bytes": found.bytes}
