"""What a tick owes a service: hooks to run and containers to start again, written down before it touches the service.

/var/lib/understudy/stopped/SERVICE.json outlives a kill and a power cut; the next tick, the unit's ExecStopPost= and
the boot (``lift``) pay what is found there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

from .. import process
from ..disk import Disk
from ..errors import AgentError
from ..root import STATE, Root
from ..say import say
from . import engine
from .plan import Hook, Plan, Service
from .state import seen

__all__ = ["FOLDER", "clear", "debts", "due", "pay", "record", "run_hooks", "stop", "to_stop"]

FOLDER = f"{STATE}/stopped"
_STOP = 300.0
_WAIT = 60.0


def _path(service: str) -> str:
    return f"{FOLDER}/{service}.json"


def to_stop(service: Service) -> list[str]:
    """What of a service runs now and may be stopped for its dump: its Compose services but the database servers,

    or ["unit"] for a native service that is active. Raises AgentError when Docker does not say.
    """
    if service.unit:
        active = process.run(["systemctl", "is-active", "--quiet", service.unit], _STOP).ok
        return ["unit"] if active else []
    if not service.project:
        return []
    running = engine.running(service.project)
    return [name for name in running if service.has(name) and name not in service.servers]


def record(disk: Disk, service: Service, stopped: list[str], hooks: bool) -> None:
    """Write down what is owed to a service, durably: start ``stopped``, and run its after_dump hooks."""
    disk.private_dir(FOLDER)
    owed = {
        "service": service.name,
        "project": service.project,
        "compose": list(service.compose),
        "unit": service.unit,
        "stopped": stopped,
        "after_dump": [hook.__dict__ for hook in service.hooks.get("after_dump", ())] if hooks else [],
        "at": time.time(),
    }
    disk.replace(_path(service.name), json.dumps(owed, sort_keys=True).encode())


def clear(disk: Disk, service: str) -> None:
    """Nothing is owed any more."""
    disk.unlink(_path(service))
    disk.sync_dirs([FOLDER])


def stop(service: Service, names: list[str]) -> None:
    """Stop them; every application gets the time it declares. Raises AgentError."""
    if names == ["unit"]:
        _systemctl("stop", service.unit)
    elif names:
        engine.stop(service.compose, names, _STOP)


def debts(root: Root) -> Iterator[dict[str, Any]]:
    """What is owed to services, as ``record`` wrote it; damaged records are said and left."""
    try:
        names = sorted(
            n for n in os.listdir(root.at(FOLDER)) if n.endswith(".json") and not n.startswith(".")
        )
    except FileNotFoundError:
        return
    for name in names:
        owed = seen(root, f"{FOLDER}/{name}")
        if isinstance(owed, dict) and owed.get("service"):
            yield owed
        else:
            say(f"{FOLDER}/{name} is damaged: look whether {name.removesuffix('.json')} runs, then remove it")


def due(disk: Disk, plan: Plan) -> list[dict[str, Any]]:
    """The debts to services of the plan. One to a service that was retired meanwhile is settled: nobody wants it started."""
    found = []
    for debt in list(debts(disk.root)):
        if debt["service"] in plan.services:
            found.append(debt)
        else:
            say(f"{debt['service']} is no longer in this host's plan: nothing is owed to it")
            clear(disk, debt["service"])
    return found


def pay(disk: Disk, owed: dict[str, Any]) -> None:
    """Start exactly what was stopped, then run the hooks; the record goes only when all of it is done.

    Raises AgentError naming the service.
    """
    name = owed["service"]
    try:
        if owed["stopped"] == ["unit"]:
            _systemctl("start", owed["unit"])
        elif owed["stopped"]:
            # Not recreated: the containers come back as they were.
            engine.start(owed["compose"], owed["stopped"], recreate=False)
        run_hooks(
            name, owed["project"], [_hook(raw) for raw in owed["after_dump"]], _WAIT if owed["stopped"] else 0
        )
    except AgentError as error:
        raise AgentError(
            f"{name}: it was touched for a backup and is not as before yet: {error.sentence}", "owed"
        ) from error
    clear(disk, name)


def _hook(raw: dict[str, Any]) -> Hook:
    return Hook(raw["service"], tuple(raw["run"]), raw["user"], raw["timeout"])


def run_hooks(service: str, project: str, hooks: list[Hook], wait: float = 0) -> None:
    """Run each hook in its container, all of them even when one fails; then raise AgentError with the first failure.

    ``wait``: seconds to wait for a container that is starting.
    """
    failed: list[str] = []
    for hook in hooks:
        try:
            _run_hook(project, hook, wait)
        except AgentError as error:
            failed.append(error.sentence)
    if failed:
        raise AgentError(f"{service}: {failed[0]}", "hook")


def _run_hook(project: str, hook: Hook, wait: float) -> None:
    until = time.monotonic() + wait
    container = engine.container_of(project, hook.service)
    while container is None and time.monotonic() < until:
        time.sleep(1)
        container = engine.container_of(project, hook.service)
    if container is None:
        raise AgentError(f"the hook {' '.join(hook.run)!r} needs {hook.service}, which does not run", "hook")
    ended = engine.run_in(container, hook.run, hook.timeout, user=hook.user)
    if not ended.ok:
        raise AgentError(f"the hook {' '.join(hook.run)!r} in {hook.service} failed: {ended.why()}", "hook")


def _systemctl(verb: str, unit: str) -> None:
    ended = process.run(["systemctl", verb, unit], _STOP)
    if not ended.ok:
        raise AgentError(f"systemctl {verb} {unit}: {ended.why(1)}", "unit")
