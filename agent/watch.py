"""Looks from outside at the groups that another host owns, and tells a person what to do when its owner stays dead.

Run by its timer on hosts that could take over. Request: {"groups": [] (all)}. Reply: {"groups": {GROUP: {"owner", "cause",
"seconds": since it is not well, "told", "public": [...], "direct"}}, "line": whether the internet answers}. It never moves
anything. What it waits out and what each cause means: agent/watching/judge.py.
"""

from __future__ import annotations

import json
import socket
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import alarm, may, probe
from .data import ledger
from .data import plan as plans
from .data.state import seen
from .errors import AgentError
from .owner import state
from .owner.plan import load
from .root import RUN, Root
from .say import say
from .watching import judge
from .watching.judge import Incident, Seen

__all__ = ["run"]

PLAN = "/etc/understudy/watch.json"
MEMORY = f"{RUN}/watch.json"
_CONNECT = 5.0


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    plan, owned = seen(root, PLAN), load(root)
    if not isinstance(plan, dict):
        raise AgentError(f"{PLAN} is missing or damaged: converge this host", "no-plan")
    memory = seen(root, MEMORY, dict)
    wanted = set(request.get("groups") or plan["groups"])
    found: dict[str, Any] = {}
    with ThreadPoolExecutor(4) as pool:
        line = any(pool.map(_answers, plan["references"]))
    for group, facts in plan["groups"].items():
        owner = state.load(root, group).owner or owned.group(group).first
        if group in wanted and owner != owned.host and not may.allowed(root, group):
            found[group] = _looked(root, group, owner, facts, line, memory.get(group), plan)
    may.note(root.at(MEMORY), json.dumps({name: one["incident"] for name, one in found.items()}))
    return {"line": line, "groups": {name: one["shown"] for name, one in found.items()}}


def _looked(
    root: Root, group: str, owner: str, facts: dict[str, Any], line: bool, known: Any, plan: dict[str, Any]
) -> dict[str, Any]:
    results = probe.run({"probes": facts["public"]}, root)["results"]
    public = [Seen(one["name"], one["ok"], one["status"]) for one in results]
    address = facts["direct"].get(owner)
    direct = _answers(address) if address else None
    now, before = state.boottime(), Incident(**known) if known else Incident()
    missing = [one.name for one in public if not one.ok]
    what = judge.cause(line, public, direct)
    incident, tell = judge.look(before, what, missing, now, float(plan["patience"]))
    seconds = (
        now - (incident if incident.since else before).since if "well" not in (incident.cause, what) else 0.0
    )
    if tell:
        text = _text(group, owner, plan["host"], incident, before, tell, now)
        say(text)
        ledger.add(
            root,
            "watch",
            ok=tell == "over",
            group=group,
            owner=owner,
            cause=(incident if tell == "begun" else before).cause,
            text=text,
        )
        alarm.tell(root, plans.load(root), text)
    shown = {
        "owner": owner, "cause": what, "seconds": round(seconds, 1), "told": incident.told, "direct": direct,
        "public": [{"name": one.name, "ok": one.ok, "status": one.status} for one in public],
    }  # fmt: skip
    return {"incident": incident.kept(), "shown": shown}


def _text(
    group: str, owner: str, here: str, incident: Incident, before: Incident, tell: str, now: float
) -> str:
    if tell == "over":
        return f"{group} on {owner} is well again, after {(now - before.since) / 60:.0f} min"
    return judge.sentence(group, owner, here, incident, now - incident.since)


def _answers(address: str) -> bool:
    """Whether something accepts a connection at tcp://ADDRESS:PORT."""
    place = urllib.parse.urlsplit(address)
    try:
        socket.create_connection((place.hostname or "", place.port or 0), _CONNECT).close()
    except OSError:
        return False
    return True
