"""What a Compose file says, as far as the catalogue needs it: images, ports, mounts, variables.

The file itself always reaches the host byte for byte and is judged there by the host's own
``docker compose config``; this reading only answers questions that come before any host is
contacted. All profiles count, so that no mount is overlooked (design.md, decision 2).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .faults import CatalogError, Fault
from .yamlfile import KeyPath, YamlFile

FILE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<op>:?[-?+])(?P<arg>[^}]*))?\})"
)


@dataclass(frozen=True)
class Published:
    """A container port published on the host."""

    address: str
    port: int
    container_port: int
    protocol: str = "tcp"

    @property
    def on_loopback(self) -> bool:
        """True when only the host itself can connect."""
        return self.address.startswith("127.") or self.address in ("::1", "[::1]", "localhost")


@dataclass(frozen=True)
class Mount:
    """A mount of one container; ``source`` is an absolute host path or a volume name ("" = anonymous)."""

    kind: str
    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Container:
    """One entry under ``services:``."""

    name: str
    image: str
    build: bool
    ports: tuple[Published, ...]
    mounts: tuple[Mount, ...]
    environment: Mapping[str, str | None]
    env_files: tuple[str, ...]
    secrets: tuple[str, ...]
    networks: tuple[str, ...]
    host_network: bool
    devices: tuple[str, ...]
    restart: str
    needs: tuple[str, ...]


@dataclass
class ComposeModel:
    """All files of one project, merged."""

    files: list[YamlFile]
    path: str
    containers: dict[str, Container] = field(default_factory=dict)
    volumes: dict[str, Any] = field(default_factory=dict)
    networks: dict[str, Any] = field(default_factory=dict)
    secret_files: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str | None] = field(default_factory=dict)

    def locate(self, *key: str | int) -> tuple[Path, int]:
        """File and line of a key: the last file that has it wins, as in Compose."""
        for source in reversed(self.files):
            if key in source.lines:
                return source.path, source.lines[key]
        return self.files[0].path, self.files[0].line(key)


def find_files(folder: Path) -> list[Path]:
    """The Compose file of a folder and its override, or nothing."""
    for name in FILE_NAMES:
        if (folder / name).exists():
            stem, suffix = name.rsplit(".", 1)
            overrides = (folder / f"{stem}.override.{ending}" for ending in (suffix, "yaml", "yml"))
            return [folder / name, *dict.fromkeys(path for path in overrides if path.exists())]
    return []


def read(sources: list[YamlFile], host_path: str, variables: Mapping[str, str]) -> ComposeModel:
    """Merge the files of one project that will live in ``host_path``."""
    for source in sources:
        _check_shape(source)
    model = ComposeModel(sources, host_path)
    model.variables = references([source.data for source in sources])
    merged: dict[str, Any] = {}
    for source in sources:
        merged = merge(merged, {k: v for k, v in source.data.items() if not k.startswith("x-")})
    merged = interpolate(merged, variables)
    model.volumes = dict(merged.get("volumes") or {})
    model.networks = dict(merged.get("networks") or {})
    model.secret_files = {
        name: spec["file"]
        for name, spec in (merged.get("secrets") or {}).items()
        if isinstance(spec, dict) and "file" in spec
    }
    for name, spec in (merged.get("services") or {}).items():
        model.containers[name] = _container(model, name, spec or {})
    return model


def _check_shape(source: YamlFile) -> None:
    if not isinstance(source.data, dict):
        raise CatalogError(
            [Fault("error", source.path, 1, "", "is not a Compose file: a mapping is expected")]
        )
    services = source.data.get("services")
    if services is not None and not isinstance(services, dict):
        line = source.line(("services",))
        raise CatalogError(
            [Fault("error", source.path, line, "services", "must be a mapping of names to containers")]
        )
    for name, spec in (services or {}).items():
        if spec is not None and not isinstance(spec, dict):
            key: KeyPath = ("services", name)
            raise CatalogError(
                [Fault("error", source.path, source.line(key), f"services.{name}", "must be a mapping")]
            )


def merge(base: Any, over: Any) -> Any:
    """Merge two Compose fragments: mappings by key, sequences appended, scalars replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        result = dict(base)
        for key, value in over.items():
            replace = key in ("command", "entrypoint", "test")
            result[key] = value if replace or key not in result else merge(result[key], value)
        return result
    if isinstance(base, list) and isinstance(over, list):
        return base + [item for item in over if item not in base]
    return over


def references(value: Any) -> dict[str, str | None]:
    """Every ``${VAR}`` below a value, except below ``x-`` keys: name to default, None without one."""
    found: dict[str, str | None] = {}
    if isinstance(value, dict):
        for key, child in value.items():
            if not str(key).startswith("x-"):
                found = {**references(child), **found}
    elif isinstance(value, list):
        for child in value:
            found = {**references(child), **found}
    elif isinstance(value, str):
        for match in VARIABLE.finditer(value):
            name = match["name"] or match["bare"]
            if name:
                default = match["arg"] if (match["op"] or "").endswith(("-", "+")) else None
                found[name] = default
    return found


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Replace variables as Compose does; an unknown one without default stays as it is written."""
    if isinstance(value, dict):
        return {key: interpolate(child, variables) for key, child in value.items()}
    if isinstance(value, list):
        return [interpolate(child, variables) for child in value]
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda match: _substitute(match, variables), value)


def _substitute(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    name, operator = match["name"] or match["bare"], match["op"] or ""
    known = variables.get(name)
    if operator.endswith("+"):
        return match["arg"] if known else ""
    if known is not None and (known or not operator.startswith(":")):
        return known
    return match["arg"] if operator.endswith("-") else match[0]


def _container(model: ComposeModel, name: str, spec: dict[str, Any]) -> Container:
    networks = spec.get("networks") or []
    depends = spec.get("depends_on") or []
    return Container(
        name=name,
        image=str(spec.get("image") or ""),
        build="build" in spec,
        ports=tuple(
            _published(model, name, index, item) for index, item in enumerate(spec.get("ports") or [])
        ),
        mounts=tuple(_mounts(model, name, spec)),
        environment=_environment(spec.get("environment")),
        env_files=tuple(_env_file(item) for item in _listed(spec.get("env_file"))),
        secrets=tuple(
            item if isinstance(item, str) else str(item.get("source")) for item in spec.get("secrets") or []
        ),
        networks=tuple(networks),
        host_network=spec.get("network_mode") == "host",
        devices=tuple(str(item).split(":")[0] for item in spec.get("devices") or []),
        restart=str(spec.get("restart") or "no"),
        needs=tuple(depends),
    )


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _env_file(item: Any) -> str:
    return str(item["path"]) if isinstance(item, dict) else str(item)


def _environment(value: Any) -> dict[str, str | None]:
    if isinstance(value, dict):
        return {str(k): None if v is None else str(v) for k, v in value.items()}
    pairs = (str(item).partition("=") for item in value or [])
    return {name: text if sign else None for name, sign, text in pairs}


def _published(model: ComposeModel, name: str, index: int, item: Any) -> Published:
    if isinstance(item, dict):
        text = ":".join(str(item[key]) for key in ("host_ip", "published", "target") if key in item)
        text += f"/{item.get('protocol', 'tcp')}"
    else:
        text = str(item)
    match = re.fullmatch(r"(?:(?:(\[[^\]]+\]|[^:]*):)?(\d+)?:)?(\d+)(?:/(tcp|udp))?", text)
    if not match:
        file, line = model.locate("services", name, "ports", index)
        message = f"{text!r} is not a port Understudy can read"
        fix = "write ADDRESS:HOST_PORT:CONTAINER_PORT, one port a line"
        raise CatalogError([Fault("error", file, line, f"services.{name}.ports[{index}]", message, fix)])
    address, port, target, protocol = match.groups()
    return Published(address or "0.0.0.0", int(port or 0), int(target), protocol or "tcp")  # noqa: S104


def _mounts(model: ComposeModel, name: str, spec: dict[str, Any]) -> list[Mount]:
    mounts = [_mount(model, item) for item in spec.get("volumes") or []]
    mounts += [Mount("tmpfs", "", str(item).split(":")[0]) for item in _listed(spec.get("tmpfs"))]
    return mounts


def _mount(model: ComposeModel, item: Any) -> Mount:
    if isinstance(item, dict):
        kind, source, target = (
            str(item.get("type", "volume")),
            str(item.get("source") or ""),
            str(item.get("target")),
        )
        read_only = bool(item.get("read_only"))
    else:
        parts = str(item).split(":")
        source, target = (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
        read_only = len(parts) > 2 and "ro" in parts[2].split(",")
        kind = "bind" if source.startswith((".", "/", "~")) else "volume"
    if kind == "bind":
        source = posixpath.normpath(posixpath.join(model.path, source))
    return Mount(kind, source, posixpath.normpath(target), read_only)
