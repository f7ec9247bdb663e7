"""What lives on a host that nobody has described to us; nothing on it is written, started or stopped.

Request {}: reply with one key a part (``_readers``); a part that could not be read is {"unreadable": reason}.
Values of environment variables, and texts that may hold secrets, stay on the host. Request {"take": [paths], "skip": [paths]}: the
files and folders themselves (take.py). Request {"stacks": [...]}: as in survey, Compose's own configuration hashes.
"""

from __future__ import annotations

import os
import time
from typing import Any

from .. import process, stack_hashes
from ..parts import gather
from ..root import Root
from . import docker, jobs, machine, proxies, sizes, take, units

__all__ = ["run"]

_TIMEOUT = 150.0


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    if "take" in request:
        return {"taken": take.read(root, request["take"], request.get("skip") or [])}
    if "stacks" in request:
        return {"stack_hashes": stack_hashes.read(root, request["stacks"], keep=False)}
    started = time.monotonic()
    containers = gather({"docker": docker.read}, _TIMEOUT)
    seen = containers["docker"] if "unreadable" not in containers["docker"] else {}
    accounts = machine.people(root)
    found = gather(
        {
            "machine": lambda: machine.read(root),
            "units": lambda: units.read(root, accounts),
            "jobs": lambda: jobs.read(root, accounts, docker.names(seen)),
            "remotes": lambda: jobs.remotes(root, accounts),
            "routes": lambda: proxies.read(root, seen, accounts),
            "projects": lambda: docker.projects(root, seen),
            "databases": lambda: docker.databases(seen),
            "sizes": lambda: sizes.read(root, docker.sources(seen) + units.folders(root)),
            "plan": lambda: machine.plan(root),
        },
        _TIMEOUT,
    )
    return {
        **containers,
        **found,
        "privileged": os.geteuid() == 0,
        "commands": process.started(),
        "seconds": round(time.monotonic() - started, 3),
    }
