"""The watcher's look from this machine: any third one with the project on it, no host of the inventory needed.

It asks what a host's watcher asks (agent/watch.py): who owns each group by DNS over HTTPS, the public names through the
edge, the owner past it where the inventory gives an address, and the internet. What it remembers between looks lies in the
project's state folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import probes, project
from ..agent import probe as probing
from ..agent.owner import doh
from ..agent.root import Root
from ..agent.watch import answers
from ..agent.watching import judge
from ..agent.watching.judge import Incident, Seen
from ..desired import Desired

__all__ = ["MEMORY", "Group", "Look", "groups", "look", "looks"]

MEMORY = Path(".understudy/watch.json")


@dataclass(frozen=True)
class Group:
    """What is asked of one move group. ``heirs``: hosts that could take it over, in the inventory's order."""

    name: str
    domain: str
    first: str
    heirs: tuple[str, ...]
    public: Sequence[Mapping[str, Any]]
    resolvers: Sequence[str]
    cacert: str
    direct: Mapping[str, str]
    references: Sequence[str]
    patience: float


@dataclass(frozen=True)
class Look:
    """One group at one moment. ``text``: what a person is to be told now, "" for nothing. ``epoch``: 0 when no resolver answers."""

    group: str
    owner: str
    cause: judge.Cause
    seconds: float
    text: str
    epoch: int = 0


def groups(hosts: Sequence[tuple[str, dict[str, Any]]]) -> list[Group]:
    """The groups that have public names, of all hosts; each asked as the first host that carries it says."""
    desired = [project.desired_for(name, data) for name, data in hosts]
    found: dict[str, Group] = {}
    for one in desired:
        for name in sorted(one.guarded):
            public = probes.public(one, name)
            if public and name not in found:
                found[name] = _group(name, one, public, [d for d in desired if name in d.guarded])
    return list(found.values())


def _group(
    name: str, one: Desired, public: Sequence[Mapping[str, Any]], carriers: Sequence[Desired]
) -> Group:
    own = one.settings.ownership
    first = next(
        (d.settings.name for d in carriers if d.settings.role == "primary"), carriers[0].settings.name
    )
    return Group(
        name, one.settings.domain, first, tuple(d.settings.name for d in carriers), public, own.resolvers,
        # Of this machine: ownership.cacert lies on the hosts.
        one.settings.cloudflare.cacert, own.watch.direct, own.watch.references, own.watch.patience,
    )  # fmt: skip


def looks(wanted: Sequence[Group], memory: Path = MEMORY) -> list[Look]:
    """Look at all of them, go on from what is remembered, and remember."""
    known = _remembered(memory)
    with ThreadPoolExecutor(4) as pool:
        line = any(pool.map(answers, dict.fromkeys(r for one in wanted for r in one.references)))
        seen = list(pool.map(lambda one: look(one, line, known.get(one.name, Incident()), _now()), wanted))
    memory.parent.mkdir(parents=True, exist_ok=True)
    temp = memory.with_suffix(".new")
    temp.write_text(json.dumps({found.group: incident.kept() for found, incident in seen}))
    temp.replace(memory)
    return [found for found, _ in seen]


def look(group: Group, line: bool, before: Incident, now: float) -> tuple[Look, Incident]:
    """One group. ``line``: whether the internet answers. A resolver that says nothing leaves the first owner's name."""
    heard = doh.ask(group.resolvers, group.name, group.domain, group.cacert)
    owner = heard.answer.owner if heard.answer else group.first
    results = probing.run({"probes": list(group.public)}, Root())["results"]
    public = [Seen(one["name"], one["ok"], one["status"]) for one in results]
    address = group.direct.get(owner)
    cause = judge.cause(line, public, answers(address) if address else None)
    missing = [f"{one.name} {one.status or 'no answer'}" for one in public if not one.ok]
    incident, word = judge.look(before, cause, missing, now, group.patience)
    seconds = now - incident.since if incident.since and cause not in ("well", "own-line") else 0.0
    text = ""
    if word == "over":
        text = f"{group.name} on {owner} is well again"
    elif word:
        heir = next((name for name in group.heirs if name != owner), "HOST")
        text = judge.sentence(group.name, owner, heir, incident, seconds)
    epoch = heard.answer.epoch if heard.answer else 0
    return Look(group.name, owner, cause, round(seconds, 1), text, epoch), incident


def _remembered(memory: Path) -> dict[str, Incident]:
    """What the last look left; nothing where that cannot be read, which only makes the patience begin anew."""
    try:
        raw = json.loads(memory.read_text())
        return {name: replace(Incident(), **values) for name, values in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()
