"""What a forced switchover would lose: for each service, everything since the accepted snapshot's dump began."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Loss", "losses", "sentences", "too_old"]


@dataclass(frozen=True)
class Loss:
    """``at``: when the dump of the newest accepted snapshot began, None without any; ``age`` in seconds, at the asking."""

    service: str
    snapshot: str
    at: float | None
    age: float | None
    rows: int | None = None


def losses(published: Mapping[str, Mapping[str, Any]], services: tuple[str, ...], now: float) -> list[Loss]:
    """One for each service of the group; ``published`` as through.published gives it."""
    found = []
    for name in services:
        held = published.get(name)
        if held is None:
            found.append(Loss(name, "", None, None))
            continue
        at = float(held["time"])
        found.append(Loss(name, str(held["name"]), at, max(0.0, now - at), held.get("rows")))
    return found


def sentences(found: list[Loss]) -> list[str]:
    """A line for each, as a person is asked."""
    lines = []
    for one in found:
        if one.at is None or one.age is None:
            lines.append(f"{one.service}: everything, the target has no copy of it")
            continue
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
        lines.append(
            f"{one.service}: what was written in the last {one.age:.0f} s (since {moment}, {one.snapshot})"
        )
    return lines


def too_old(found: list[Loss], objectives: Mapping[str, float]) -> list[str]:
    """Services whose copy is older than the objective promises, or missing."""
    return [
        one.service for one in found if one.age is None or one.age > objectives.get(one.service, float("inf"))
    ]
