"""Why a switchover is not begun, from what both hosts and the zone say: pure. Nothing has been changed then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HEARD", "Facts", "reasons"]

HEARD = 300.0
"""Seconds for which a guard may not have heard any resolver and still be believed to hear them."""


@dataclass(frozen=True)
class Facts:
    """What was found before the start. ``source`` and ``target``: the guard's word on the group, None when silent.

    ``epoch``: the claim's, or 0 without a zone. ``journey``: what is open on the target. ``missing``: services of the
    group that the target's plan lacks. ``pending``: changes that a converge of the target would make. ``stale``: services
    whose copy is older than promised.
    """

    group: str
    source_name: str
    target_name: str
    owner: str
    epoch: int
    source: Mapping[str, Any] | None = None
    target: Mapping[str, Any] | None = None
    silent: str = ""
    source_silent: str = ""
    journey: Mapping[str, Any] | None = None
    missing: tuple[str, ...] = ()
    pending: int = 0
    stale: tuple[str, ...] = field(default=())


def reasons(facts: Facts, *, forced: bool) -> list[str]:
    """Each with what would make it possible; [] when it may begin."""
    group, target = facts.group, facts.target_name
    if facts.owner == target:
        return [f"{target} owns {group} already (epoch {facts.epoch}): there is nothing to move"]
    if facts.target is None:
        return [f"{target} does not answer ({facts.silent}): switch it on, or bring its line back"]
    found = []
    if facts.missing:
        names = ", ".join(facts.missing)
        found.append(
            f"{target} does not carry {names}: add them to its groups and `understudy converge --limit {target}`"
        )
    if facts.pending and not forced:
        found.append(
            f"{target} differs from its description in {facts.pending} things: `understudy converge --limit {target}`, then again"
        )
    found += _epochs(facts) + _deaf(facts, forced)
    if facts.journey and not facts.journey.get("ended"):
        found.append(
            f"another switchover of {group} is open ({facts.journey.get('id')}, at {facts.journey.get('at')}): "
            "`understudy switchover --resume` goes on with it, `--abort` takes it back"
        )
    return found + _other_side(facts, forced)


def _epochs(facts: Facts) -> list[str]:
    seen = max((int(one.get("epoch") or 0) for one in (facts.source, facts.target) if one), default=0)
    if facts.epoch and seen > facts.epoch:
        return [
            f"a host has seen epoch {seen} of {facts.group}, and the zone says {facts.epoch}: the zone was set back; restore "
            f"the records of epoch {seen} from their history first"
        ]
    return []


def _deaf(facts: Facts, forced: bool) -> list[str]:
    """A guard that hears nothing would not learn that its group has moved, or that it came here."""
    asked = [(facts.target_name, facts.target), *([] if forced else [(facts.source_name, facts.source)])]
    found = []
    for name, said in asked:
        if not facts.epoch or said is None or "silence" not in said:
            continue
        silent = said["silence"]
        if silent is None or silent > HEARD:
            since = "since its boot" if silent is None else f"for {silent / 60:.0f} min"
            found.append(
                f"no resolver has answered the guard of {name} {since}, so it would not learn who owns {facts.group}: "
                f"`understudy host guard {name}` says why"
            )
    return found


def _other_side(facts: Facts, forced: bool) -> list[str]:
    """What is asked of the source, and of the copy that takes its place."""
    group, source = facts.group, facts.source_name
    if not forced and facts.source is None:
        return [
            f"{source} does not answer ({facts.source_silent}): if it is dead, `understudy failover --to {facts.target_name} "
            f"--group {group}` shows what would be lost and asks"
        ]
    if not forced and facts.source is not None and facts.source.get("may") in ("", "granted"):
        return [f"{group} does not run on {source}, its owner: `understudy status` says why"]
    if forced and facts.stale:
        names = ", ".join(facts.stale)
        return [
            f"the copy of {names} on {facts.target_name} is missing or older than promised: refresh it, or say --stale to "
            "lose what is shown above"
        ]
    return []
