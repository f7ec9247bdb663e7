"""Removes what a drill made: containers, networks, volumes, folders and the wall, in this order.

Everything is found by what it is called, not by what some record says: a killed drill wrote none.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator

from .. import lock, mounts, process
from ..errors import AgentError, because
from ..root import STATE, Root
from ..say import say
from . import fence
from .model import PREFIX

__all__ = ["DRILLS", "LOCK", "cleanup", "remove"]

DRILLS = f"{STATE}/drill"
LOCK = "drill"
_PROJECT = "com.docker.compose.project"
_TIMEOUT = 120
_PASSES = 3


def cleanup(root: Root) -> list[str]:
    """Remove what an interrupted drill left. Returns its services; [] when there is nothing, or a drill runs now.

    Cheap when there is nothing. Raises AgentError when something cannot be removed.
    """
    if not os.path.isdir(root.at(DRILLS)) or not os.listdir(root.at(DRILLS)):
        return []
    try:
        with lock.exclusive(root, LOCK, "removing what a drill left", 0, say):
            return remove(root)
    except AgentError as error:
        if error.kind == "busy":
            return []
        raise


def remove(root: Root) -> list[str]:
    """As ``cleanup``, for the holder of the lock. The folders go last but the wall: they say that there is work."""
    names = sorted(os.listdir(root.at(DRILLS))) if os.path.isdir(root.at(DRILLS)) else []
    if root.base == "/" and shutil.which("docker"):
        _docker_things()
    for name in names:
        _remove_folder(root, f"{DRILLS}/{name}")
    if root.base == "/":
        fence.down()
    return names


def _docker_things() -> None:
    # Compose may still have been at work when its drill was killed: what came after the first look goes as well.
    for _ in range(_PASSES):
        found = {kind: list(_ours(kind)) for kind in ("container", "network", "volume")}
        if not any(found.values()):
            return
        for kind, names in found.items():
            flags = {"container": ["--force", "--volumes"], "volume": ["--force"]}.get(kind, [])
            if names:
                process.run(["docker", kind, "rm", *flags, *names], _TIMEOUT)
    left = [f"{kind} {name}" for kind in ("container", "network", "volume") for name in _ours(kind)]
    if left:
        raise AgentError(f"a drill's {left[0]} cannot be removed: try docker {left[0].split()[0]} rm --force")


def _ours(kind: str) -> Iterator[str]:
    """Ids or names of what belongs to any scratch project."""
    flags = {"container": ["ls", "--all", "--no-trunc"]}.get(kind, ["ls"])
    argv = ["docker", kind, *flags, "--filter", f"label={_PROJECT}", "--format", "{{json .}}"]
    ended = process.run(argv, _TIMEOUT)
    if not ended.ok:
        raise AgentError(f"docker {kind} ls: {ended.why(1)}", "docker")
    for line in ended.out.splitlines():
        facts = json.loads(line)
        if any(label.startswith(f"{_PROJECT}={PREFIX}") for label in str(facts.get("Labels")).split(",")):
            yield str(facts.get("ID") or facts["Name"])


def _remove_folder(root: Root, path: str) -> None:
    """A folder below the drill root; a link there is only unlinked. Nothing that is mounted in it is ever entered."""
    below = [point for point in mounts.points(root) if point == path or point.startswith(f"{path}/")]
    if below:
        raise AgentError(f"{below[0]} is a mount point, which no drill makes: unmount it, then remove {path}")
    real = root.at(path)
    try:
        if os.path.islink(real) or not os.path.isdir(real):
            os.unlink(real)
        else:
            shutil.rmtree(real)
    except OSError as error:
        raise AgentError(f"{path} cannot be removed: {because(error)}", "io") from error
    with contextlib.suppress(OSError):
        os.rmdir(root.at(DRILLS))
