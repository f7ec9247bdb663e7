"""Looks from outside at the groups that another host owns, and tells a person what to do when its owner stays dead.

Run by its timer on hosts that could take over. Request: {"only_look": false}: true remembers and tells nothing. Reply: {"groups":
{GROUP: {"owner", "cause", "seconds" of the unbroken loss, "told", "public": [...], "direct"}}, "line": whether the internet
answers}. It never moves anything. What it waits out and what each cause means: agent/watching/judge.py.
"""

from __future__ import annotations

import json
import socket
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from . import alarm, lock, may, probe
from .data import ledger
from .data import plan as plans
from .data.state import seen
from .errors import AgentError
from .owner import state
from .owner.plan import Plan as Owners
from .owner.plan import load
from .root import RUN, Root
from .say import say
from .watching import judge
from .watching.judge import Incident, Seen

__all__ = ["answers", "run"]

PLAN = "/etc/understudy/watch.json"
MEMORY = f"{RUN}/watch.json"
_CONNECT, _RETRY = 5.0, 300.0


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    plan, owned = seen(root, PLAN), load(root)
    if not isinstance(plan, dict):
        raise AgentError(f"{PLAN} is missing or damaged: converge this host", "no-plan")
    if request.get("only_look"):
        return _looks(root, plan, owned, {}, lambda text: None)[0]
    with lock.exclusive(root, "watch", "a look at other hosts", 0, say):
        failed: list[AgentError] = []

        def tell(text: str) -> None:
            try:
                alarm.tell(root, plans.load(root), text)
            except AgentError as error:
                failed.append(error)
                raise

        reply, memory = _looks(root, plan, owned, seen(root, MEMORY, dict), tell)
        may.note(root.at(MEMORY), json.dumps(memory))
    if failed:
        raise failed[0]
    return reply


Tell = Callable[[str], None]


def _looks(
    root: Root, plan: dict[str, Any], owned: Owners, memory: dict[str, Any], tell: Tell
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the reply, what is remembered)."""
    with ThreadPoolExecutor(4) as pool:
        line = any(pool.map(answers, plan["references"]))
    shown, kept = {}, {}
    for group, facts in plan["groups"].items():
        owner = state.load(root, group).owner or owned.group(group).first
        if owner != owned.host and not may.allowed(root, group):
            before = Incident(**memory[group]) if group in memory else Incident()
            incident, shown[group] = _looked(root, group, owner, facts, line, before, plan, tell)
            kept[group] = incident.kept()
    return {"line": line, "groups": shown}, kept


def _looked(
    root: Root,
    group: str,
    owner: str,
    facts: dict[str, Any],
    line: bool,
    before: Incident,
    plan: dict[str, Any],
    tell: Tell,
) -> tuple[Incident, dict[str, Any]]:
    results = probe.run({"probes": facts["public"]}, root)["results"]
    public = [Seen(one["name"], one["ok"], one["status"]) for one in results]
    address = facts["direct"].get(owner)
    direct = answers(address) if address else None
    now, what = state.boottime(), judge.cause(line, public, direct)
    missing = [f"{one.name} {one.status or 'no answer'}" for one in public if not one.ok]
    incident, word = judge.look(before, what, missing, now, float(plan["patience"]))
    if word:
        incident = _told(root, group, owner, plan["host"], incident, before, word, now, tell)
    seconds = now - incident.since if incident.since and what not in ("well", "own-line") else 0.0
    return incident, {
        "owner": owner, "cause": what, "seconds": round(seconds, 1), "told": incident.told, "direct": direct,
        "public": [{"name": one.name, "ok": one.ok, "status": one.status} for one in public],
    }  # fmt: skip


def _told(
    root: Root,
    group: str,
    owner: str,
    here: str,
    incident: Incident,
    before: Incident,
    word: str,
    now: float,
    tell: Tell,
) -> Incident:
    """Tell the owner; what could not be delivered is tried again later."""
    text = _text(group, owner, here, incident, word, now)
    say(text)
    ledger.add(
        root,
        "watch",
        ok=word == "over",
        group=group,
        owner=owner,
        cause=incident.cause,
        text=text,
    )
    try:
        tell(text)
    except AgentError:
        return replace(incident, told=before.told, retry=now + _RETRY)
    return incident


def _text(group: str, owner: str, here: str, incident: Incident, word: str, now: float) -> str:
    if word == "over":
        return f"{group} on {owner} is well again"
    return judge.sentence(group, owner, here, incident, now - incident.since)


def answers(address: str) -> bool:
    """Whether something accepts a connection at tcp://ADDRESS:PORT."""
    place = urllib.parse.urlsplit(address)
    try:
        socket.create_connection((place.hostname or "", place.port or 0), _CONNECT).close()
    except OSError:
        return False
    return True
