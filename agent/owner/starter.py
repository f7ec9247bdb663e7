"""The one starter and restarter of managed stacks and units: what a group needs to run, and what ended by itself.

A stack that does not stay up is tried again after 30 s, 1 min, 2 min ... 30 min. What a backup, a restore, a freeze or
an update holds down is theirs, and what a person stopped stays stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from .. import lock, markers, process
from ..data import engine as compose
from ..data import owed
from ..data.state import seen
from ..errors import AgentError
from ..may import note
from ..putback import journal
from ..root import Root
from ..say import say
from . import lease
from .engine import Seen, listed, stopped_by_hand
from .plan import Managed, Plan
from .state import HERE, boottime

__all__ = ["active", "held_down", "keep_up", "levels", "start", "stop"]

_START, _STOP = 900.0, 300.0
_FIRST, _LONGEST = 30.0, 1800.0
_MEMORY = f"{HERE}/starter.json"
_PARALLEL = 3


def start(root: Root, plan: Plan, group: str) -> list[str]:
    """Start all of a group, each service after those it needs. Returns a sentence for each that did not start."""
    down = held_down(root)
    failed: list[str] = []
    with lock.exclusive(root, "stacks", f"guard: start of {group}", 120, say):
        for level in levels(plan, group):
            ready = [service for service in level if service.name not in down]
            with ThreadPoolExecutor(_PARALLEL) as pool:
                failed += [
                    why for why in pool.map(partial(_start, alone=_projects(plan, down)), ready) if why
                ]
    return failed


def levels(plan: Plan, group: str) -> list[list[Managed]]:
    """The services of a group in the order they start; those of one level side by side."""
    left, done, found = plan.of(group), set[str](), list[list[Managed]]()
    names = {service.name for service in left}
    while left:
        ready = [s for s in left if not (set(s.needs) & names) - done] or left[:1]
        found.append(ready)
        done |= {service.name for service in ready}
        left = [service for service in left if service.name not in done]
    return found


def _projects(plan: Plan, down: Iterable[str]) -> frozenset[str]:
    """The Compose projects of services that something of ours keeps stopped."""
    return frozenset(plan.services[name].project for name in down if name in plan.services)


def _start(service: Managed, only: tuple[str, ...] = (), alone: frozenset[str] = frozenset()) -> str:
    """``only``: of its containers; ``alone``: projects of which nothing else may be started with it."""
    try:
        if service.compose:
            # A whole start takes files that changed while the group was down; a restart changes nothing.
            needed = not only and service.project not in alone
            compose.start(
                service.compose, only or service.containers, _START, recreate=not only, needed=needed
            )
        if service.unit and not only:
            _systemctl("start", service.unit)
    except AgentError as error:
        return f"{service.name} did not start: {error.sentence}"
    say(f"guard: started {service.name}{' (' + ', '.join(only) + ')' if only else ''}")
    return ""


def stop(plan: Plan, group: str, servers: bool = False) -> list[str]:
    """Stop what runs of a group, the last first; database servers only when asked. Sentences of what did not stop."""
    failed = []
    running = listed(exact=True)
    for level in reversed(levels(plan, group)):
        with ThreadPoolExecutor(_PARALLEL) as pool:
            failed += [why for why in pool.map(partial(_stop, running, servers), level) if why]
    return failed


def _stop(running: dict[str, list[Seen]], servers: bool, service: Managed) -> str:
    up = (
        {one.service for one in service.own(running.get(service.project, [])) if one.running}
        if service.project
        else set()
    )
    names = sorted(up if servers else up - set(service.servers))
    try:
        if names:
            compose.stop(service.compose, names, _STOP)
            say(f"guard: stopped {service.name} ({', '.join(names)})")
        if service.unit and active(service.unit):
            _systemctl("stop", service.unit)
            say(f"guard: stopped {service.unit}")
    except AgentError as error:
        return f"{service.name} did not stop: {error.sentence}"
    return ""


def active(unit: str) -> bool:
    """Whether a unit runs or is being started."""
    said = process.run(["systemctl", "is-active", unit], 30).out.strip()
    return said in ("active", "activating", "reloading")


def _systemctl(verb: str, unit: str) -> None:
    ended = process.run(["systemctl", verb, unit], _STOP)
    if not ended.ok:
        raise AgentError(f"systemctl {verb} {unit}: {ended.why(1)}", "unit")


def held_down(root: Root) -> dict[str, str]:
    """Services that something of ours keeps stopped now, and what."""
    found = dict.fromkeys(journal.names(root), "its restore is unfinished")
    found |= {str(debt["service"]): "it is stopped for its backup" for debt in owed.debts(root)}
    found |= dict.fromkeys(markers.open_updates(root), "its update is being judged")
    found |= {name: "its group is frozen" for name in lease.frozen_services(root)}
    return found


# --- what ended by itself


def keep_up(root: Root, plan: Plan, groups: Iterable[str]) -> list[str]:
    """Restart containers of these groups that ended although their owner's policy keeps them up.

    Returns sentences about what did not start. Does nothing while a converge works on stacks.
    """
    wanted, memory, now = set(groups), _remembered(root), time.time()
    running = listed()
    by_hand = set(memory["by_hand"])
    if memory["looked"]:
        by_hand |= stopped_by_hand(memory["looked"], now)
    up = {one.id for ones in running.values() for one in ones if one.running}
    by_hand -= up
    down, failed = held_down(root), []
    try:
        with lock.exclusive(root, "stacks", "guard: restarts", 0, lambda line: None):
            for service in plan.services.values():
                if service.group in wanted and service.name not in down:
                    ended = _ended(service, service.own(running.get(service.project, [])), by_hand)
                    failed += _again(service, ended, memory["tries"])
    except AgentError as error:
        if error.kind != "busy":
            raise
    note(root.at(_MEMORY), json.dumps({**memory, "looked": now, "by_hand": sorted(by_hand)}))
    return failed


def _remembered(root: Root) -> dict[str, Any]:
    found = seen(root, _MEMORY)
    return found if isinstance(found, dict) else {"looked": 0.0, "by_hand": [], "tries": {}}


def _ended(service: Managed, containers: list[Seen], by_hand: set[str]) -> list[str]:
    """Compose services that should run by the policy their owner wrote and do not."""
    found = []
    for one in containers:
        policy = service.restart.get(one.service, "no").partition(":")[0]
        again = policy in ("always", "unless-stopped") or (policy == "on-failure" and one.code != 0)
        if one.state in ("exited", "dead") and again and one.id not in by_hand:
            found.append(one.service)
    return sorted(found)


def _again(service: Managed, ended: list[str], tries: dict[str, Any]) -> list[str]:
    """One more try, if it is time for one."""
    known = tries.get(service.name)
    if not ended:
        if known and boottime() > known["next"] + known["wait"]:
            del tries[service.name]
        return []
    if known and boottime() < known["next"]:
        return []
    wait = min(known["wait"] * 2, _LONGEST) if known else _FIRST
    tries[service.name] = {"wait": wait, "next": boottime() + wait}
    why = _start(service, tuple(ended))
    return [why] if why else []
