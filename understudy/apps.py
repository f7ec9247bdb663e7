"""Splits a Compose file that holds several applications into units: ``apps:`` in the block.

The folder's service stays the one that brings the file up. Each application is backed up, restored, rehearsed, probed
and routed by itself; files, secrets, path and move group stay the file's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from .compose import Container
from .faults import CatalogError, Fault
from .service import Service
from .spec import App, Block
from .yamlfile import load

__all__ = ["split", "unit_of"]

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


def unit_of(services: Mapping[str, Service], name: str, container: str) -> Service:
    """The unit that a container belongs to; ``name``: any unit of its file. Raises KeyError for an unknown unit."""
    asked = services[name]
    family = [one for one in services.values() if one.stack == asked.stack]
    return next((one for one in family if container in one.containers), asked)


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
        yield _fault(whole, ("apps",), "a native service is one unit", "leave the key out")
        return
    seen: dict[str, str] = {}
    for name, app in whole.block.apps.items():
        if name == whole.name:
            yield _fault(
                whole, ("apps", name), "is the name of the folder's own service", "choose another name"
            )
        for container in app.services:
            key = ("apps", name, "services")
            if container not in whole.all_containers:
                yield _fault(
                    whole, key, f"the file has no service {container!r}", _known(whole.all_containers)
                )
            elif seen.setdefault(container, name) != name:
                yield _fault(whole, key, f"{container!r} is in {seen[container]} already", "name it once")


def _known(containers: Mapping[str, Container]) -> str:
    return f"it has {', '.join(containers)}"


def _fault(service: Service, key: tuple[str, ...], message: str, fix: str) -> Fault:
    path: Path = service.sources[0]
    source = load(path)
    full = key if path.name == "understudy.yaml" else ("x-understudy", *key)
    return Fault("error", path, source.line(full), ".".join(key), message, fix)
