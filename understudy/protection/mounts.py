"""Where a service keeps its data, and under which name each place stands in a snapshot."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..compose import Container, Mount
from ..service import Service
from ..spec import DataRule

if TYPE_CHECKING:
    from ..desired import Desired

# Sockets, devices and the kernel's own trees: mounted into containers often, data never.
NEVER = ("/dev", "/proc", "/sys", "/run", "/var/run", "/etc/localtime", "/etc/timezone", "/lib/modules")
GLOB = "*?["


@dataclass
class Place:
    """One mount of the plan; fields as agent/data/plan.py's Mount."""

    key: str
    kind: str
    source: str
    class_: str = "keep"
    rules: list[dict[str, Any]] = field(default_factory=list)
    required: bool = True
    mounted_at: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)

    def entry(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "key": self.key,
            "kind": self.kind,
            "source": self.source,
            "class": self.class_,
            "rules": self.rules,
            "required": self.required,
            "mounted_at": self.mounted_at,
            "targets": [f"{container}:{target}" for container, target in self.seen],
        }


def of(result: Desired, service: Service) -> list[Place]:
    """Every place a service writes to, once each, with its class and the rules below it."""
    places = _native(service) if service.native else _compose(result, service)
    required = service.block.requires.mounts
    for place in places.values():
        place.mounted_at = next((m for m in required if place.source == m or below(place.source, m)), "")
    if service.native:
        _classify_paths(places, service.data_rules())
    else:
        _classify(places, service, service.data_rules())
    return list(places.values())


def absolute(service: Service, path: str) -> str:
    """A host path of a service's file, relative ones below its folder."""
    return posixpath.normpath(posixpath.join(service.path, path))


def below(path: str, folder: str) -> bool:
    """True when ``path`` lies inside ``folder``."""
    return path.startswith(folder.rstrip("/") + "/")


def bind_key(service: Service, source: str) -> str:
    """``files/RELATIVE`` below the service's own folder, else ``paths/ABSOLUTE``."""
    if below(source, service.path):
        return f"files/{posixpath.relpath(source, service.path)}"
    return f"paths{source}"


def volume_name(service: Service, name: str) -> str:
    """The volume's name as Docker knows it."""
    assert service.compose is not None
    declared = service.compose.volumes.get(name) or {}
    if isinstance(declared, dict) and declared.get("name"):
        return str(declared["name"])
    external = isinstance(declared, dict) and declared.get("external")
    return name if external else f"{service.project}_{name}"


def _compose(result: Desired, service: Service) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for container in service.containers.values():
        for mount in container.mounts:
            place = _place(result, service, mount)
            if place is not None:
                known = places.setdefault(place.key, replace(place, required=False))
                known.seen.append((container.name, mount.target))
                known.required |= _runs(service, container)
    return places


def _runs(service: Service, container: Container) -> bool:
    """False for a container of a profile that is off: what it never made yet is not missing."""
    return not container.profiles or bool({*container.profiles, "*"} & set(service.block.profiles))


def _place(result: Desired, service: Service, mount: Mount) -> Place | None:
    if mount.kind == "volume" and mount.source:
        # The key has no project in it: a service keeps its snapshots when its project is renamed.
        return Place(f"volumes/{mount.source}", "volume", volume_name(service, mount.source))
    if (
        mount.kind != "bind"
        or mount.source == "/"
        or any(mount.source == never or below(mount.source, never) for never in NEVER)
    ):
        return None
    ours = [entry for path, entry in result.tree.entries.items() if path == mount.source]
    if mount.read_only and (ours or not below(mount.source, service.path)):
        return None
    return Place(bind_key(service, mount.source), "bind", mount.source)


def _native(service: Service) -> dict[str, Place]:
    native = service.block.native
    assert native is not None
    sources = list(native.writable)
    if native.program and not any(native.program.path == s or below(native.program.path, s) for s in sources):
        sources.append(native.program.path)
    for place in service.data_rules():
        if not any(place == s or below(place, s) for s in sources):
            sources.append(place.split("*")[0].rstrip("/"))
    return {key: Place(key, "bind", source) for source in sources for key in [bind_key(service, source)]}


def _classify(places: Mapping[str, Place], service: Service, rules: Mapping[str, DataRule]) -> None:
    """A rule on the mount itself sets its class; one below it becomes an exception inside."""
    for address, rule in rules.items():
        container, _, path = address.partition(":")
        for place in places.values():
            for name, target in place.seen:
                if name == container:
                    _apply(place, target, path, rule)


def _classify_paths(places: Mapping[str, Place], rules: Mapping[str, DataRule]) -> None:
    for path, rule in rules.items():
        for place in places.values():
            _apply(place, place.source, path, rule)


def _apply(place: Place, target: str, path: str, rule: DataRule) -> None:
    if path.rstrip("/") == target.rstrip("/"):
        place.class_ = rule.class_
    elif below(path, target) and rule.class_ != "keep":
        relative = posixpath.relpath(path, target)
        place.rules.append({"path": relative, "class": rule.class_, "keep": list(rule.keep)})
