"""Data that only this host has, after its group moved away: noted when that is learnt, saved before anything replaces it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..data import clock, jobs, ledger
from ..data import state as states
from ..data.plan import Plan
from ..disk import Disk
from ..errors import AgentError
from ..owner import lease, state
from ..owner.accept import base_of
from ..owner.plan import Plan as Owners
from ..owner.record import Ownership
from ..putback import running
from ..repo import commands, repository, restic
from ..root import Root
from ..say import say
from .choose import services

__all__ = ["note", "pending", "repository_of", "save"]

_TIMEOUT = 300


def repository_of(group: str, epoch: int) -> str:
    """The move group's name under which diverged data is stored: a repository of its own beside the group's."""
    return f"diverged-{group}-{epoch}"


def note(root: Root, owned: Owners, held: state.Held, answer: Ownership) -> None:
    """Into ``held.moved``, when an answer takes the group from this host. The caller saves ``held``."""
    host = owned.host
    if (held.owner or owned.groups[held.group].first) != host or answer.owner == host:
        return
    now = clock.now(root)
    held.moved.append(
        {
            "epoch": max(1, held.epoch),
            "at": round(now, 3),
            "clean": _clean(root, host, held, answer),
            "saved": None,
            "to": answer.owner,
        }
    )


def _clean(root: Root, host: str, held: state.Held, answer: Ownership) -> bool:
    """Frozen since its last snapshot, which is the one the new owner began from."""
    freeze, base = lease.load(root, held.group), base_of(answer.base)
    if freeze is None or freeze.left <= 0 or base is None:
        return False
    memory = states.load(root)
    last = max((g for goods in memory.good.values() for g in goods.values() if g.group == held.group),
               key=lambda good: (good.epoch, good.seq), default=None)  # fmt: skip
    return last is not None and base == (host, last.epoch, last.seq) and last.at >= freeze.since


def pending(held: state.Held) -> list[dict[str, Any]]:
    """Moves whose data is nowhere but on this host."""
    return [one for one in held.moved if not one["clean"] and not one.get("saved")]


def save(disk: Disk, plan: Plan, owned: Owners, group: str) -> dict[str, Any] | None:
    """Store the live data of what is pending; the caller holds the lock of the data. Raises AgentError."""
    root, held = disk.root, state.load(disk.root, group)
    waiting = pending(held)
    if not waiting:
        return None
    last, ours = waiting[-1], services(plan, group)
    name = repository_of(group, last["epoch"])
    say(f"{group}: what this host wrote after its last accepted snapshot is saved as {name}")
    for service in ours:
        running.servers_up(service, plan)
    stored = _store(disk, plan, ours, name)
    for one in waiting:
        one["saved"] = stored
    state.save(disk, held)
    ledger.add(root, "diverged", group=group, epoch=last["epoch"], **stored)
    return stored


def _store(disk: Disk, plan: Plan, ours: list[Any], name: str) -> dict[str, Any]:
    from ..data.tick import Tick

    root = disk.root
    moved = {one.name: replace(one, group=name) for one in ours}
    apart = replace(plan, services={**plan.services, **moved})
    targets = jobs.targets(apart, next(iter(moved.values())))
    for target in targets:
        _make(root, apart, target, name)
    ask = jobs.Ask("", tuple(moved), targets, "diverged", confirm=True)
    reply = Tick(root, apart, ask).run()
    good = [row for row in reply["services"] if row["ok"]]
    bad = [row for row in reply["services"] if not row["ok"]]
    if len({row["service"] for row in good}) < len(moved):
        raise AgentError(
            f"diverged data is not saved: {bad[0]['error'] if bad else 'nothing was stored'}", "failed"
        )
    return {
        "repository": good[0]["repository"],
        "name": name,
        "snapshot": good[0]["snapshot"],
        "services": sorted(moved),
    }


def _make(root: Root, plan: Plan, target: str, name: str) -> None:
    """The repository, unless it is there."""
    repo = repository.open(root, plan, target, name)
    try:
        restic.run(repo, commands.probe(), _TIMEOUT)
    except AgentError as error:
        if error.kind != "no-repository":
            raise
        restic.run(repo, commands.init(), _TIMEOUT)
