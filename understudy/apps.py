"""Splits a Compose file that holds several applications into units: ``apps:`` in the block.

The folder's service stays the one that brings the file up. Each application is backed up, restored, rehearsed, probed
and routed by itself; files, secrets, path and move group stay the file's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from .checks import fault
from .faults import CatalogError, Fault
from .service import Service
from .spec import App, Block

__all__ = ["split"]

_OF_THE_FILE = ("project", "path", "group", "profiles", "expose", "timeout")


def split(whole: Service) -> list[Service]:
    """The folder's service with what no application has of its containers, then a service for each application.

    A service without ``apps:`` comes back alone. Raises CatalogError.
    """
    apps = whole.block.apps
    if not apps:
        return [whole]
    faults = list(_faults(whole))
    if faults:
        raise CatalogError(faults)
    taken = {name for app in apps.values() for name in app.services}
    whole.own = frozenset(whole.all_containers) - taken
    parts = [_part(whole, name, app) for name, app in apps.items()]
    homes = {container: unit.name for unit in (whole, *parts) for container in unit.own or ()}
    for unit in (whole, *parts):
        unit.block = unit.block.model_copy(update={"needs": _needs(unit, homes)})
    return [whole, *parts]


def _part(whole: Service, name: str, app: App) -> Service:
    given = {
        key: value for key in app.model_fields_set - {"services"} if (value := getattr(app, key)) is not None
    }
    common = {key: getattr(whole.block, key) for key in _OF_THE_FILE}
    images = {key: live for key, live in whole.block.images.items() if key in app.services}
    block = Block(**{"tier": whole.block.tier, **given, **common, "images": images})
    return dataclasses.replace(
        whole, name=name, block=block, part_of=whole.name, own=frozenset(app.services), recipes={}, files={}
    )


def _needs(unit: Service, homes: Mapping[str, str]) -> list[str]:
    """What the block says, and the units of the containers that its own depend on."""
    depended = [homes[other] for one in unit.containers.values() for other in one.needs if other in homes]
    return list(dict.fromkeys(name for name in (*unit.block.needs, *depended) if name != unit.name))


def _faults(whole: Service) -> Iterator[Fault]:
    if whole.native:
        yield fault(whole, "error", ("apps",), "a native service is one unit", "leave the key out")
        return
    seen: dict[str, str] = {}
    for name, app in whole.block.apps.items():
        if name == whole.name:
            yield fault(
                whole,
                "error",
                ("apps", name),
                "is the name of the folder's own service",
                "choose another name",
            )
        for container in app.services:
            key = ("apps", name, "services")
            if container not in whole.all_containers:
                message = f"the file has no service {container!r}"
                yield fault(whole, "error", key, message, f"it has {', '.join(whole.all_containers)}")
            elif seen.setdefault(container, name) != name:
                yield fault(
                    whole, "error", key, f"{container!r} is in {seen[container]} already", "name it once"
                )
