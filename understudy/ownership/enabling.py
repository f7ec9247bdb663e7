"""What must be true before a group goes into auto mode: asked once, by the converge that switches it on."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..agent.errors import AgentError
from ..agent.owner import objects
from . import auto_secrets
from .files import leased

if TYPE_CHECKING:
    from ..desired import Desired

__all__ = ["reasons"]


def reasons(desired: Desired, survey: Mapping[str, Any]) -> list[str]:
    """Sentences with what would make it possible; [] when it may be, or is on already."""
    auto, line = desired.settings.ownership.auto, survey.get("line") or {}
    if auto is None or not set(leased(desired)) - set(line.get("auto") or ()):
        return []
    found, host = [], desired.settings.name
    longest = float(line.get("longest") or 0)
    if 2 * longest > auto.ttl:
        day = time.strftime("%Y-%m-%d", time.localtime(float(line["at"])))
        found.append(
            f"auto mode: the line of {host} was away for {longest:.0f} s (until {day}), and a lease must be twice as long as the"
            f" longest loss of 30 days: set ownership.auto.ttl to at least {2 * longest:.0f}, or leave auto out"
        )
    entry = desired.tree.entries.get(auto_secrets.PATH)
    why = _store(auto.url, auto.region, entry.content.decode() if entry and entry.content else "", host)
    return [*found, *([f"auto mode: {why}"] if why else [])]


@functools.lru_cache(maxsize=8)
def _store(url: str, region: str, key: str, host: str) -> str:
    """Why the store cannot hold a lease; "" when it can."""
    try:
        objects.conditional(objects.place(url, region, *objects.key_of(key)), host)
    except AgentError as error:
        return error.sentence
    return ""
