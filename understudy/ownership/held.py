"""Which services a converge must leave down, because the guard of the host does not let their group run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .files import CONNECTOR, owners

if TYPE_CHECKING:
    from ..desired import Desired

__all__ = ["held", "may_run"]


def held(desired: Desired, survey: Mapping[str, Any]) -> frozenset[str]:
    """Names of the services that nobody but the guard may start, and that it does not start now."""
    if not desired.guarded:
        return frozenset()
    running = {group for group in desired.guarded if may_run(desired, survey, group)}
    down = {
        name
        for name in desired.services
        if desired.catalog.services[name].block.group in desired.guarded - running
    }
    if not running and CONNECTOR in desired.natives:
        down.add(CONNECTOR)
    return frozenset(down)


def may_run(desired: Desired, survey: Mapping[str, Any], group: str) -> bool:
    """What the host's guard says; on a host that has none yet, the inventory's first owner runs the group."""
    said = survey.get("may")
    if isinstance(said, Mapping) and "unreadable" not in said:
        return group in said
    return owners(desired.settings, group)[:1] == [desired.settings.name]
