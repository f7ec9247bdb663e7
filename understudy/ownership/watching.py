"""What a host that could take over is told of looking at the owner: /etc/understudy/watch.json and its timer (agent/watch.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import probes
from ..baseline import AGENT
from ..desired import UnitWish
from ..jinja import render
from ..tree import Entry

if TYPE_CHECKING:
    from ..desired import Desired

__all__ = ["PLAN", "add", "content"]

PLAN = "/etc/understudy/watch.json"
UNITS = "/etc/systemd/system"
_TIMEOUT = 120


def add(result: Desired) -> None:
    """Nothing where no other host may own a group of this one, or where no name leads to one."""
    told = content(result)
    if not told["groups"] or result.settings.edge == "none":
        return
    for entry in _entries(result, told):
        result.tree.add(entry)
    result.service_units.append(UnitWish("understudy-watch.timer"))


def content(result: Desired) -> dict[str, Any]:
    """watch.json as plain values."""
    settings, watch = result.settings, result.settings.ownership.watch
    groups = {name: probes.public(result, name) for name in sorted(result.guarded)}
    return {
        "host": settings.name,
        "patience": watch.patience,
        "references": watch.references,
        "groups": {
            name: {"public": wanted, "direct": watch.direct} for name, wanted in groups.items() if wanted
        },
    }


def _entries(result: Desired, told: dict[str, Any]) -> Iterator[Entry]:
    body = json.dumps(told, indent=1, sort_keys=True).encode() + b"\n"
    yield Entry(PLAN, mode=0o600, content=body)
    unit, description = "understudy-watch", "look whether what another host owns is served"
    service = render(
        "backup/agent.service.j2",
        agent=AGENT, words="watch", description=description, timeout=_TIMEOUT, lift=False,
        credentials="/etc/understudy/secrets/backup" if result.settings.backup.repositories else "", alarm=False,
    )  # fmt: skip
    timer = render(
        "backup/timer.j2",
        unit=f"{unit}.service", description=description, every=result.settings.ownership.watch.every, first=60, calendar="", jitter=0,
    )  # fmt: skip
    yield Entry(f"{UNITS}/{unit}.service", content=service.encode(), reaction="systemd")
    yield Entry(f"{UNITS}/{unit}.timer", content=timer.encode(), reaction=f"unit:{unit}.timer")
