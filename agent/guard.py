"""Lets groups run that this host owns, and nothing else: the only starter of managed stacks and units.

Request: {"words": []} looks at all groups (by timer, every 30 s), [GROUP, ...] at these; ["fence"] puts the fences up
before Docker starts; ["off"] and ["on"] switch the guard off at the console, with no network. "lock_wait": 0 by timer.
{"told": {GROUP: record}} takes the control machine's word for what the resolvers would say in a minute; with
"leave": {GROUP: {"promoted": nonce} or {"ran": epoch}} the group may run although no grant holds, if the live data here is
that batch's, or of that epoch.

Reply: {"host", "off": null | {...}, "groups": {GROUP: {"action", "why", "epoch", "owner", "base", "may", "fence",
"silent": {resolver: why}, "answered", "failed": [sentences], "changed", "stood": id of the freeze that held until now,
"unleased": why its lease is over, in auto mode}},
"error" when something did not start or stop}.
The rules are in agent/owner/decide.py; what was found is also in /run/understudy/owner/look.json.
"""

from __future__ import annotations

import getpass
import json
from contextlib import suppress
from typing import Any

from . import lift, lock, may, process
from .data import clock, ledger
from .disk import Disk
from .errors import AgentError
from .owner import doh, fences, lease, line, starter, state, storelease, thawing
from .owner.decide import Verdict, View, decide, unleased
from .owner.doh import Heard
from .owner.plan import Plan, load
from .owner.record import Malformed, Ownership, parse
from .owner.state import HERE, Held
from .parts import gather
from .replica import diverged
from .root import Root
from .say import say

__all__ = ["LOCK", "hold", "learn", "look", "run"]

LOCK = "guard"
LOOKED = f"{HERE}/look.json"
_SAVE_EVERY = 600.0
_NO_END = 10 * 365 * 86400.0


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    plan, words = load(root), [str(word) for word in request.get("words") or request.get("groups") or []]
    if words in (["off"], ["on"]):
        _switch(root, words == ["off"])
        words = []
    purpose = "guard: fences" if words == ["fence"] else "guard"
    with lock.exclusive(root, LOCK, purpose, float(request.get("lock_wait", 20)), say):
        if words == ["fence"]:
            return _fence(root, plan)
        told = _told(request)
        leave = request.get("leave") or {}
        return look(root, plan, words or list(told or plan.groups), told, leave)


def _told(request: dict[str, Any]) -> dict[str, Heard]:
    try:
        return {group: Heard(parse(str(text))) for group, text in (request.get("told") or {}).items()}
    except Malformed as error:
        raise AgentError(f"what was told is no record: {error}", "bad-request") from error


def _switch(root: Root, off: bool) -> None:
    by = "root"
    with suppress(KeyError, OSError):
        by = getpass.getuser()
    state.set_off(Disk(root), {"at": round(clock.now(root), 3), "by": by} if off else None)
    ledger.add(root, "guard", action="off" if off else "on", by=by)


def look(
    root: Root,
    plan: Plan,
    groups: list[str],
    told: dict[str, Heard] | None = None,
    leave: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Ask (or take what was told), decide, act; the caller holds the guard's lock."""
    for name in groups:
        plan.group(name)
    off, disk = state.off(root), Disk(root)
    for name, data in (leave or {}).items():
        _leave(disk, name, (told or {})[name], data)
    said = {} if off else told or _heard(plan, groups)
    if said and not told:
        line.heard(root, any(one.answer for one in said.values()))
    for name, heard in ({} if told else said).items():
        if heard.answer:
            state.hear(root, name)
    with suppress(AgentError):  # without Docker the fences of before are right
        if fences.learn_bridges(disk, plan):
            for name in filter(fences.standing, plan.groups):
                fences.up(root, plan, name)
    found = {name: _group(disk, plan, name, said.get(name) or Heard(), bool(off)) for name in groups}
    failed = [why for facts in found.values() for why in facts["failed"]]
    failed += _connectors(root, plan)
    running = [name for name in plan.groups if may.allowed(root, name) not in ("", may.GRANTED)]
    failed += _guarded(lambda: starter.keep_up(root, plan, running))
    reply: dict[str, Any] = {"host": plan.host, "off": off, "groups": found}
    may.note(root.at(LOOKED), json.dumps({**reply, "at": round(clock.now(root), 3)}))
    return {**reply, "error": failed[0], "kind": "failed", "failed": failed} if failed else reply


def _leave(disk: Disk, name: str, heard: Heard, data: dict[str, Any]) -> None:
    """A grant without end for the batch that was told. Raises AgentError kind "not-ready" for other data than was meant."""
    held, answer = state.load(disk.root, name), heard.answer
    assert answer is not None
    right = held.promoted == data["promoted"] if "promoted" in data else held.ran == data.get("ran")
    if not right or answer.epoch < held.epoch:
        raise AgentError(
            f"{name}: the live data here is of epoch {held.ran} (batch {held.promoted or 'none'}), not what was meant; "
            "nothing was changed",
            "not-ready",
        )
    if not may.allowed(disk.root, name):
        state.set_grant(
            disk.root,
            state.Grant(name, answer.epoch, answer.nonce, answer.base, state.boottime() + _NO_END, True),
        )


def _heard(plan: Plan, groups: list[str]) -> dict[str, Heard]:
    def reader(group: str) -> Any:
        return lambda: doh.ask(plan.resolvers, group, plan.domain, plan.cacert)

    found = gather({group: reader(group) for group in groups}, 10)
    return {name: value for name, value in found.items() if isinstance(value, Heard)}


def _group(disk: Disk, plan: Plan, name: str, heard: Heard, off: bool) -> dict[str, Any]:
    root, held = disk.root, state.load(disk.root, name)
    verdict, frozen = decide(_view(root, plan, held, off), heard.answer), lease.load(root, name)
    why = _unleased(root, plan, held, heard.answer, verdict, off)
    verdict = unleased(verdict, why)
    if verdict.learn and heard.answer:
        ran = heard.answer.epoch if verdict.action == "run" and not off else held.ran
        learn(disk, plan, held, heard.answer, clock.now(root), ran)
    failed, changed = _act(disk, plan, name, verdict)
    if changed:
        say(f"guard: {name}: {verdict.action}: {verdict.why}")
        ledger.add(
            root,
            "guard",
            group=name,
            action=verdict.action,
            why=verdict.why,
            epoch=held.epoch,
            owner=held.owner,
        )
    return {
        "action": verdict.action,
        "why": verdict.why,
        "epoch": held.epoch,
        "owner": held.owner or plan.groups[name].first,
        "base": held.base,
        "may": may.allowed(root, name),
        "fence": fences.standing(name),
        "silent": heard.silent,
        "answered": held.at,
        "failed": failed,
        "changed": changed,
        "stood": frozen.id if frozen and frozen.left > 0 else "",
        "unleased": why,
    }


def learn(disk: Disk, plan: Plan, held: Held, answer: Ownership, now: float, ran: int = 0) -> None:
    """Remember an answer, durably when it says anything new; and what it takes from this host."""
    stale = state.boottime() - held.boottime > _SAVE_EVERY
    diverged.note(disk.root, plan, held, answer)
    if held.learn(answer, now) or stale or ran not in (0, held.ran):
        held.ran = ran or held.ran
        state.save(disk, held)


def _unleased(
    root: Root, plan: Plan, held: Held, answer: Ownership | None, verdict: Verdict, off: bool
) -> str:
    """Why the right to serve is over of what would run; the lease is taken or renewed for that. "" without auto mode.

    What would not run renews nothing: others must see that nobody serves.
    """
    auto = plan.leased(held.group)
    if auto is None or off:
        return ""
    if verdict.action not in ("run", "go-on"):
        storelease.drop(root, held.group)
        return ""
    right = storelease.held(root, held.group)
    if not right.good:
        # Otherwise its own timer renews it.
        epoch = answer.epoch if verdict.learn and answer else held.epoch
        right = storelease.renew(root, auto, held.group, plan.host, epoch)
    return "" if right.good else f"its lease is over: {right.why or 'nobody renewed it'}"


def _view(root: Root, plan: Plan, held: Held, off: bool) -> View:
    group, grant = plan.groups[held.group], state.granted(root, held.group)
    return View(
        plan.host,
        group.first,
        held.epoch,
        held.owner,
        ran=held.ran,
        running=may.allowed(root, held.group) not in ("", may.GRANTED),
        up=state.since_boot(root),
        wait=plan.boot_wait,
        offline=group.offline,
        grant=grant.epoch if grant else 0,
        nonce=grant.nonce if grant and grant.ready else "",
        off=off,
    )


def _act(disk: Disk, plan: Plan, name: str, verdict: Verdict) -> tuple[list[str], bool]:
    """(sentences of what failed, whether anything changed)."""
    root = disk.root
    if verdict.action == "run":
        return _let_run(root, plan, name, verdict)
    if verdict.action == "stop":
        return hold(root, plan, name)
    if verdict.action == "go-on":
        if may.allowed(root, name) != may.FOUND:
            return thawing.overdue(disk, plan, name), False
        # What was not up when the guard came: units that asked for its leave a moment too early.
        may.allow(root, name, "unasked")
        return _guarded(lambda: starter.start(root, plan, name)), True
    if verdict.action == "fenced" or not may.allowed(root, name):
        failed = [] if fences.standing(name) else _guarded(lambda: fences.up(root, plan, name))
        # A grant that ran out before its batch came: what stands behind the fence goes down again.
        if verdict.action == "stay-down":
            failed += _guarded(lambda: starter.stop(plan, name))
        return failed, False
    # Allowed under a grant that is over, and nobody named us.
    return hold(root, plan, name)


def _let_run(root: Root, plan: Plan, name: str, verdict: Verdict) -> tuple[list[str], bool]:
    was, fenced = may.allowed(root, name), fences.standing(name)
    fresh = was in ("", may.GRANTED, may.FOUND)
    if fresh:
        may.allow(root, name, "named" if verdict.learn else "unasked")
    state.revoke(root, name)
    failed = _guarded(lambda: fences.down(name)) if fenced else []
    if not fresh:
        return failed + thawing.overdue(Disk(root), plan, name), fenced
    # What killed runs owe comes first: a service with a half-exchanged tree must not be started.
    failed += _guarded(lambda: lift.run({}, root).get("failed") or [])
    return failed + _guarded(lambda: starter.start(root, plan, name)), True


def hold(root: Root, plan: Plan, name: str) -> tuple[list[str], bool]:
    """Another owns it: fence first, then stop."""
    was = bool(may.allowed(root, name))
    failed = [] if fences.standing(name) else _guarded(lambda: fences.up(root, plan, name))
    may.forbid(root, name)
    state.revoke(root, name)
    thawing.drop(root, name)
    return failed + _guarded(lambda: starter.stop(plan, name)), was


def _connectors(root: Root, plan: Plan) -> list[str]:
    """Tunnels run while any group may."""
    failed = []
    wanted = any(may.allowed(root, name) for name in plan.groups)
    for unit in plan.connectors:
        if starter.active(unit) != wanted:
            ended = process.run(["systemctl", "start" if wanted else "stop", unit], 120)
            failed += [] if ended.ok else [f"{unit}: {ended.why(1)}"]
    return failed


def _guarded(step: Any) -> list[str]:
    try:
        return list(step() or [])
    except AgentError as error:
        return [error.sentence]


def _fence(root: Root, plan: Plan) -> dict[str, Any]:
    """Before Docker: fences for all. Where the guard comes to a host that runs already: not for what it may go on with."""
    state.since_boot(root)
    engine_up = process.run(["systemctl", "is-active", "--quiet", "docker.service"], 20).ok
    failed, found = [], {}
    for name, group in plan.groups.items():
        held = state.load(root, name)
        mine = (held.owner or group.first) == plan.host
        if not may.allowed(root, name) and engine_up and mine:
            may.allow(root, name, may.FOUND)
        if may.allowed(root, name) not in ("", may.GRANTED):
            found[name] = "open"
            continue
        failed += _guarded(lambda name=name: fences.up(root, plan, name))
        found[name] = "fenced"
    reply: dict[str, Any] = {"host": plan.host, "fences": found}
    return {**reply, "error": failed[0], "kind": "fence"} if failed else reply
