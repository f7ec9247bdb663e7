"""Freezes and thaws the applications of a group; database servers keep running, so that they can be dumped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from .. import process
from ..data import clock, ledger
from ..data import engine as compose
from ..disk import Disk
from ..errors import AgentError
from ..root import Root
from ..say import say
from . import lease, starter
from .engine import listed
from .lease import Freeze
from .plan import Managed, Plan
from .state import boot, boottime

__all__ = ["drop", "freeze", "overdue", "thaw", "timer"]

_STOP, _START = 60.0, 300.0
_PARALLEL = 4


def timer(group: str) -> str:
    """The transient unit that thaws a group when nobody else does."""
    return f"understudy-thaw-{group}"


def freeze(
    disk: Disk,
    plan: Plan,
    group: str,
    seconds: float,
    servers: bool = False,
    id: str = "",
    again: bool = False,
) -> Freeze:
    """Stop the group's applications for ``seconds`` at most; again by the same ``id`` renews the lease. Raises AgentError.

    ``again``: it must have stood since the first time, or what was written meanwhile is in no snapshot of the move.

    The lease and its timer stand before anything is stopped, so a kill at any point ends in a thaw.
    """
    root, known = disk.root, lease.load(disk.root, group)
    if known and known.id != id and known.left > 0:
        raise AgentError(
            f"{group} is frozen by another switchover ({known.id}) for {known.left:.0f} s more; nothing was changed",
            "busy",
        )
    if again and not (known and known.id == id and known.left > 0):
        raise AgentError(f"{group} has thawed meanwhile, by this host's clock: begin again", "thawed")
    # Renewed before it was over, nothing has run since it began.
    since = known.since if known and known.left > 0 and not known.rebooted else round(clock.now(root), 3)
    now = Freeze(group, boottime() + seconds, since, {}, servers, id, seconds, boot(root))
    running, ours = listed(exact=True), plan.of(group)
    for service in ours:
        up = {c.service for c in service.own(running.get(service.project, [])) if c.running}
        names = _names(service, up, servers)
        before = known.stopped.get(service.name, []) if known else []
        if names or before:
            now.stopped[service.name] = sorted({*names, *before})
    lease.save(disk, now)
    _arm(group, seconds)
    disk.checkpoint("freeze lease")
    # Those that others need go last.
    for level in reversed(starter.levels(plan, group)):
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(lambda service: _stop(service, now.stopped.get(service.name, [])), level))
        disk.checkpoint("freeze level")
    if now.left <= 0:
        raise AgentError(f"stopping {group} took longer than its lease of {seconds:g} s; it thaws", "late")
    return now


def _names(service: Managed, up: set[str], servers: bool) -> list[str]:
    if service.unit:
        return ["unit"] if starter.active(service.unit) else []
    return sorted(up if servers else up - set(service.servers))


def _stop(service: Managed, names: list[str]) -> None:
    if names == ["unit"]:
        ended = process.run(["systemctl", "stop", service.unit], _STOP)
        if not ended.ok:
            raise AgentError(f"{service.unit} did not stop: {ended.why(1)}", "unit")
    elif names:
        compose.stop(service.compose, names, _STOP)


def _arm(group: str, seconds: float) -> None:
    """A timer of systemd's own, so that the thaw comes whatever becomes of us. Raises AgentError."""
    unit = timer(group)
    process.run(["systemctl", "stop", f"{unit}.timer"], 20)
    process.run(["systemctl", "reset-failed", f"{unit}.service", f"{unit}.timer"], 20)
    argv = [
        "systemd-run",
        "--quiet",
        f"--unit={unit}",
        f"--on-active={seconds:.0f}s",
        "--timer-property=AccuracySec=1s",
    ]
    ended = process.run(
        [*argv, "/usr/bin/python3", "-IB", "/usr/lib/understudy/agent.pyz", "thaw", group], 30
    )
    if not ended.ok:
        raise AgentError(
            f"the timer that would thaw {group} cannot be set: {ended.why(1)}; nothing was stopped", "unit"
        )


def thaw(root: Root, plan: Plan, group: str) -> list[str]:
    """Start what the freeze stopped. Returns sentences of what did not start; the freeze is then kept for another try."""
    known = lease.load(root, group)
    if known is None:
        return []
    failed = []
    for level in starter.levels(plan, group):
        with ThreadPoolExecutor(_PARALLEL) as pool:
            failed += [w for w in pool.map(lambda s: _start(s, known.stopped.get(s.name, [])), level) if w]
    if not failed:
        drop(root, group)
        if known.rebooted:  # then nothing of the group runs, not only what the freeze stopped
            failed += starter.start(root, plan, group)
        ledger.add(root, "thaw", group=group, seconds=round(clock.now(root) - known.since, 3))
        say(f"{group} is thawed")
    return failed


def _start(service: Managed, names: list[str]) -> str:
    try:
        if names == ["unit"]:
            ended = process.run(["systemctl", "start", service.unit], _START)
            return "" if ended.ok else f"{service.unit}: {ended.why(1)}"
        if names:
            compose.start(service.compose, names, _START, recreate=False)
    except AgentError as error:
        return f"{service.name}: {error.sentence}"
    return ""


def overdue(disk: Disk, plan: Plan, group: str) -> list[str]:
    """Thaw a freeze whose time is over."""
    known = lease.load(disk.root, group)
    return thaw(disk.root, plan, group) if known and known.left <= 0 else []


def drop(root: Root, group: str) -> None:
    """No freeze any more, and nothing is started for it."""
    if lease.load(root, group) is not None:
        process.run(["systemctl", "stop", f"{timer(group)}.timer"], 20)
        lease.clear(root, group)
