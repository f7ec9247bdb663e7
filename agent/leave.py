"""Takes everything of ours off a host; stacks and data run on. Killed anywhere, it is run again.

Request: as footprint takes it. Reply: {"done": [items as footprint gives them], "kept": [items]}.
Refused while a backup or restore is at work or unfinished, and on a host that is not ours.
The manifest goes last: until then a second run knows all that is left to do.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from . import apt, footprint, lock, originals, ours, process, recover, unguard
from .disk import Disk
from .errors import AgentError, because
from .footprint import DUMPS, UNITS, Item, Wish
from .root import STATE, Root
from .say import say

__all__ = ["run"]

_TIMEOUT = 300
# What reads a file of ours and has to hear that it is gone; nothing here restarts a container.
_HEARS = {
    "/etc/ssh/": ["systemctl", "try-reload-or-restart", "ssh.service"],
    "/etc/systemd/journald": ["systemctl", "restart", "systemd-journald.service"],
    "/etc/docker/": ["systemctl", "try-reload-or-restart", "docker.service"],
    "/etc/fail2ban/": ["systemctl", "try-reload-or-restart", "fail2ban.service"],
}


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    footprint.require_readable(root)
    wait = float(request.get("lock_wait", 10))
    with lock.exclusive(root, "data", "leave", wait, say), lock.exclusive(root, "apply", "leave", wait, say):
        _refuse_unfinished(root)
        recover.recover(Disk(root))
        found = footprint.items(root, Wish.of(request))
        done = _carry_out(root, found)
    return {"done": [asdict(i) for i in done], "kept": [asdict(i) for i in found if i.fate == "keep"]}


def _refuse_unfinished(root: Root) -> None:
    for folder, what in (
        ("restore", "a restore"),
        ("stopped", "a backup that stopped something"),
        ("update", "an update"),
    ):
        place = root.at(f"{STATE}/{folder}")
        names = os.listdir(place) if os.path.isdir(place) else []
        open_ones = sorted(name for name in names if name.endswith(".json") and not name.startswith("."))
        if open_ones:
            raise AgentError(
                f"{what} is unfinished ({open_ones[0].removesuffix('.json')}): run "
                "`/usr/lib/understudy/agent.pyz lift` on the host first; nothing was removed",
                "refused",
            )


def _carry_out(root: Root, found: list[Item]) -> list[Item]:
    """Everything that is not kept, step by step; what could not be removed raises and a second run goes on."""
    todo = [item for item in found if item.fate != "keep"]
    _units(root, _of(todo, "unit"), _of(todo, "enabled"))
    for item in _of(todo, "restart policy"):
        unguard.free_container(item.what, item.why.removesuffix(" again"))
    for item in _of(todo, "condition"):
        unguard.free_unit(root, item.what)
    for kind, action in _ACTIONS.items():
        for item in _of(todo, kind):
            action(root, item)
    _tell({item.what for item in todo if item.kind in ("file", "link")})
    packages = [item.what for item in _of(todo, "package")]
    if packages:
        say(f"removing {len(packages)} packages")
        apt.purge(packages)
    for item in _of(todo, "dumps"):
        shutil.rmtree(root.at(item.what))
    kept = any(item.kind == "dumps" and item.fate == "keep" for item in found)
    for item in _of(todo, "state"):
        _empty(root, item.what, DUMPS if kept else "")
    say(f"{len(todo)} things of ours are gone")
    return todo


def _of(items: Iterable[Item], kind: str) -> list[Item]:
    return [item for item in items if item.kind == kind]


def _units(root: Root, units: list[Item], enabled: list[Item]) -> None:
    names = [item.what for item in units]
    if names:
        say(f"stopping {len(names)} units")
        process.run(["systemctl", "disable", "--now", "--quiet", "--", *names], _TIMEOUT)
        instances = [name.replace("@.", "@*.") for name in names if "@." in name]
        process.run(["systemctl", "stop", "--quiet", "--", *instances], _TIMEOUT)
        active = [name for name in names if ours.unit_state(name) in ("active", "activating")]
        if active:
            raise AgentError(f"{active[0]} does not stop; nothing else was removed", "io")
    for item in enabled:
        process.run(["systemctl", "disable", "--now", "--quiet", "--", item.what], _TIMEOUT)
    for name in names:
        _unlink(root, f"/var/lib/systemd/timers/stamp-{name}")


def _table(root: Root, item: Item) -> None:
    # The unit that loaded it takes it down when it stops.
    if item.what in ours.tables():
        _must(["nft", "delete", "table", *item.what.split()])


def _scratch(root: Root, item: Item) -> None:
    force = {"container": ["rm", "--force"], "network": ["network", "rm"], "volume": ["volume", "rm"]}
    _must(["docker", *force[item.kind], item.what])


def _file(root: Root, item: Item) -> None:
    if item.fate == "remove":
        _unlink(root, item.what)
        return
    former = originals.load(root)[item.what]
    old, disk, temp = originals.seen(former), Disk(root), f"{os.path.dirname(item.what)}/.understudy-leave~"
    if old.kind == "file":
        disk.create(temp, [originals.content(root, former)], old.mode, old.uid, old.gid)
    elif old.kind == "link":
        disk.symlink(old.target, temp, old.uid, old.gid)
    else:
        raise AgentError(f"{item.what} was a {old.kind} before us: make it again by hand", "refused")
    disk.rename(temp, item.what)
    disk.sync_dirs([os.path.dirname(item.what)])


def _directory(root: Root, item: Item) -> None:
    # One that holds something by now is somebody's.
    Disk(root).remove_dir(item.what)


_ACTIONS: dict[str, Callable[[Root, Item], None]] = {
    "nft table": _table,
    "container": _scratch,
    "network": _scratch,
    "volume": _scratch,
    "file": _file,
    "link": _file,
    "dir": _directory,
}


def _unlink(root: Root, path: str) -> None:
    try:
        os.unlink(root.at(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise AgentError(f"{path} cannot be removed: {because(error)}", "io") from error


def _tell(paths: set[str]) -> None:
    """The programs whose files went, and systemd. A folder of links that only ours were in goes with them."""
    if any(path.startswith(UNITS) for path in paths):
        for name in os.listdir(UNITS):
            if name.endswith((".wants", ".requires")) and not os.listdir(os.path.join(UNITS, name)):
                os.rmdir(os.path.join(UNITS, name))
    process.run(["systemctl", "daemon-reload"], _TIMEOUT)
    process.run(["systemctl", "reset-failed", "understudy-*"], _TIMEOUT)
    for prefix, command in _HEARS.items():
        if any(path.startswith(prefix) for path in paths):
            _must(command)


def _empty(root: Root, path: str, spare: str) -> None:
    """Remove one of our own folders; the manifest in it last, and the dumps only when they may go."""
    real = root.at(path)
    names = sorted(os.listdir(real), key=lambda name: (name in ("manifest.json",), name))
    for name in names:
        inner = os.path.join(real, name)
        if f"{path}/{name}" == spare:
            continue
        if os.path.isdir(inner) and not os.path.islink(inner):
            shutil.rmtree(inner)
        else:
            os.unlink(inner)
    if not os.listdir(real):
        os.rmdir(real)


def _must(argv: list[str]) -> str:
    ended = process.run(argv, _TIMEOUT)
    if not ended.ok:
        raise AgentError(f"{' '.join(argv[:3])}: {ended.why()}; run it again when that is mended", "io")
    return ended.out
