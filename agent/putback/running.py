"""Stops and starts a service around a restore, and runs its hooks.

What ran before stands in the restore's journal before anything is stopped. It is not among the debts of
agent/data/owed.py: whoever pays those would start the service between two halves of an exchange.
"""

from __future__ import annotations

from typing import Any

from .. import process
from ..data import engine
from ..data.plan import Hook, Plan, Service
from ..disk import Disk
from ..dumps import kinds
from ..errors import AgentError
from . import journal

__all__ = [
    "create",
    "hook_argv",
    "look",
    "offline_argv",
    "run_hooks",
    "servers_up",
    "start_again",
    "start_all",
    "stop",
    "volumes",
]

_STOP = 300.0
_START = 900.0

Running = dict[str, Any]


def look(service: Service) -> Running:
    """What of a service runs: {"containers": Compose services, "unit": bool}."""
    running = engine.running(service.project) if service.compose and service.project else []
    containers = [name for name in running if service.has(name)]
    unit = bool(service.unit) and process.run(["systemctl", "is-active", "--quiet", service.unit], 30).ok
    return {"containers": containers, "unit": unit}


def kept_up(service: Service) -> set[str]:
    """Its database servers: their databases are exchanged while they run."""
    return {
        d.container
        for d in service.databases
        if kinds.in_database_server(d.kind) and d.project == service.project
    }


def stop(disk: Disk, service: Service, running: Running) -> None:
    """Stop everything that runs but the database servers; what runs is in the journal by then."""
    applications = [name for name in running["containers"] if name not in kept_up(service)]
    if applications:
        engine.stop(service.compose, applications, _STOP)
    if running["unit"]:
        _systemctl("stop", service.unit)
    disk.checkpoint(f"stop {service.name}")


def servers_up(service: Service, plan: Plan) -> list[str]:
    """Start the database servers that the service's databases are in, alone, where they do not run.

    Returns what was started as "PROJECT/CONTAINER".
    """
    started = []
    for database in service.databases:
        if not kinds.in_database_server(database.kind):
            continue
        if engine.container_of(database.project, database.container) is not None:
            continue
        owner = plan.running(database.project, database.container)
        if owner is None:
            raise AgentError(
                f"{service.name}: no service of the plan runs the database server "
                f"{database.project}/{database.container}"
            )
        engine.start(owner.compose, [database.container], _START, wait=True, recreate=False)
        started.append(f"{database.project}/{database.container}")
    return started


def start_all(disk: Disk, plan: Plan, service: Service) -> None:
    """Start the service as its files declare it. Raises AgentError with the last words of what failed."""
    if service.compose:
        needed = not _neighbour_is_down(disk, plan, service)
        engine.start(service.compose, service.containers, _START, needed=needed)
    if service.unit:
        _systemctl("start", service.unit)
    disk.checkpoint(f"start {service.name}")


def _neighbour_is_down(disk: Disk, plan: Plan, service: Service) -> bool:
    """Whether another unit of the same file is between two halves of an exchange: nothing may start it."""
    others = [
        s.name for s in plan.services.values() if s.project == service.project and s.name != service.name
    ]
    return any(_stopped(disk, name) for name in set(journal.names(disk.root)) & set(others))


def _stopped(disk: Disk, name: str) -> bool:
    try:
        known = journal.load(disk.root, name)
    except AgentError:
        return True  # nobody can tell how far it was
    return known is not None and known.stopped


def start_again(service: Service, running: Running) -> None:
    """Start what ran before, and nothing else."""
    if running.get("containers"):
        engine.start(service.compose, running["containers"], _START, recreate=False)
    if running.get("unit"):
        _systemctl("start", service.unit)


def _systemctl(verb: str, unit: str) -> None:
    ended = process.run(["systemctl", verb, unit], _STOP)
    if not ended.ok:
        raise AgentError(f"systemctl {verb} {unit}: {ended.why()}", "docker")


def volumes(service: Service, missing: list[str]) -> None:
    """Make volumes that are not there yet, by Compose, so that it knows them as its own. Nothing is started."""
    ended = process.run([*service.compose, "create", *service.containers], _START)
    if not ended.ok:
        raise AgentError(f"{service.name}: the volume {missing[0]} cannot be made: {ended.why()}", "docker")


def create(service: Service) -> None:
    """Make a service's networks, volumes and containers; nothing is started. Raises AgentError."""
    ended = process.run([*service.compose, "create", *service.containers], _START)
    if not ended.ok:
        raise AgentError(f"{service.name}: its containers cannot be made: {ended.why()}", "docker")


def offline_argv(service: Service, hook: Hook) -> list[str]:
    """A hook while the service is down: a container of its own, without what it depends on; on the host for a unit."""
    if not service.compose:
        return _on_host(hook)
    user = ["--user", hook.user] if hook.user else []
    flags = ["--rm", "--no-deps", "-T", *user, "--entrypoint", hook.run[0]]
    return [*service.compose, "run", *flags, hook.service, *hook.run[1:]]


def hook_argv(service: Service, hook: Hook) -> list[str]:
    """A hook in the running service."""
    if not service.compose:
        return _on_host(hook)
    container = engine.container_of(service.project, hook.service)
    if container is None:
        raise AgentError(f"{service.name}: {hook.service} does not run, so its hook cannot")
    return engine.exec_argv(container, list(hook.run), hook.user)


def _on_host(hook: Hook) -> list[str]:
    return ["runuser", "-u", hook.user, "--", *hook.run] if hook.user else list(hook.run)


def run_hooks(service: Service, moment: str, offline: bool) -> list[str]:
    """Run the hooks of a moment in order. Returns a sentence for each that failed; the others still run."""
    failed = []
    for hook in service.hooks.get(moment, ()):
        name = f"{service.name}: {moment} hook {' '.join(hook.run)[:60]}"
        try:
            argv = offline_argv(service, hook) if offline else hook_argv(service, hook)
        except AgentError as error:
            failed.append(f"{name}: {error.sentence}")
            continue
        ended = process.run(argv, hook.timeout)
        if not ended.ok:
            failed.append(f"{name}: {ended.why()}")
    return failed
