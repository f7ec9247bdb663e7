"""Gives what the guard alone starts back to Docker and systemd, when we leave a host that owns it.

The guard's own plan says which policy the owner wrote for each container. What another host owns stays as it is:
down, and with nothing that would start it at boot.
"""

from __future__ import annotations

import json
from typing import Any

from . import process
from .disk import Disk
from .errors import AgentError, because
from .look import look
from .root import RUN, Root

__all__ = ["OVERRIDES", "containers", "elsewhere", "free_container", "free_unit", "units"]

PLAN = "/etc/understudy/owner.json"
OVERRIDES = "/etc/understudy/guard"
_MAY = f"{RUN}/may"
_UNITS = "/etc/systemd/system"
_TIMEOUT = 60


def _plan(root: Root) -> dict[str, Any]:
    try:
        with open(root.at(PLAN), encoding="utf-8") as stream:
            found: dict[str, Any] = json.load(stream)
            return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        why = because(error) if isinstance(error, OSError) else "it is damaged"
        raise AgentError(f"{PLAN} cannot be read: {why}", "io") from error


def _services(root: Root) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = _plan(root).get("services") or {}
    return found


def _owned(root: Root, group: str) -> bool:
    return look(root, f"{_MAY}/{group}").kind != "missing"


def elsewhere(root: Root) -> dict[str, str]:
    """Services that this host may not run now, each with its move group."""
    found = _services(root).items()
    return {name: str(entry["group"]) for name, entry in found if not _owned(root, str(entry["group"]))}


def containers(root: Root) -> dict[str, str]:
    """``PROJECT/CONTAINER`` to the restart policy that the owner wrote, for all that this host owns."""
    return {
        f"{entry['project']}/{container}": str(policy)
        for entry in _services(root).values()
        if _owned(root, str(entry["group"]))
        for container, policy in (entry.get("restart") or {}).items()
    }


def units(root: Root) -> list[str]:
    """Native units that this host owns and that wait for the guard at boot."""
    found = _services(root).values()
    own = [str(e["unit"]) for e in found if e.get("unit") and _owned(root, str(e["group"]))]
    connectors = _plan(root).get("connectors") or []
    return sorted([*own, *(connectors if _owned(root, "any") else [])])


def free_container(address: str, policy: str) -> None:
    """Give one container its restart policy back; it is not recreated."""
    project, _, service = address.partition("/")
    label = "label=com.docker.compose"
    argv = [
        "docker",
        "ps",
        "--all",
        "--quiet",
        "--filter",
        f"{label}.project={project}",
        "--filter",
        f"{label}.service={service}",
    ]
    listed = process.run(argv, _TIMEOUT)
    if not listed.ok:
        raise AgentError(f"docker ps: {listed.why(1)}", "io")
    for container in listed.out.split():
        ended = process.run(["docker", "update", f"--restart={policy}", container], _TIMEOUT)
        if not ended.ok:
            raise AgentError(f"docker update of {address}: {ended.why(1)}", "io")


def free_unit(root: Root, unit: str) -> None:
    """Take the guard's condition out of a native unit."""
    path = f"{_UNITS}/{unit}"
    seen = look(root, path)
    if seen.kind != "file":
        return
    with open(root.at(path), encoding="utf-8") as stream:
        lines = stream.readlines()
    rest = [line for line in lines if _MAY not in line and "the guard (" not in line]
    if rest != lines:
        disk, temp = Disk(root), f"{_UNITS}/.understudy-leave~"
        disk.create(temp, ["".join(rest).encode()], seen.mode, seen.uid, seen.gid)
        disk.rename(temp, path)
