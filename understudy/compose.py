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

from .compose_files import Files, check_shape, merged
from .compose_merge import as_list, as_mapping, merge
from .compose_text import interpolate, references
from .faults import CatalogError, Fault
from .yamlfile import YamlFile

__all__ = [
    "ComposeModel",
    "Container",
    "Mount",
    "Published",
    "find_files",
    "interpolate",
    "merge",
    "read",
    "references",
]

FILE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
PORT = re.compile(
    r"(?:(?:(?P<address>\[[^\]]+\]|[^:]*):)?(?P<port>\d+(?:-\d+)?)?:)?(?P<target>\d+(?:-\d+)?)(?:/(?P<protocol>tcp|udp|sctp))?"
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

    @property
    def on_this_host(self) -> bool:
        """True when it answers at 127.0.0.1."""
        return self.address in ("", "0.0.0.0", "127.0.0.1", "localhost")  # noqa: S104 - read, not bound


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
    context: str = ""
    profiles: tuple[str, ...] = ()
    reserves: tuple[str, ...] = ()
    """Under which keys it asks for processors of graphics and the like: ``gpus``, ``deploy``."""


@dataclass
class ComposeModel:
    """All files of one project, merged."""

    files: list[YamlFile]
    path: str
    read: list[YamlFile] = field(default_factory=list)
    containers: dict[str, Container] = field(default_factory=dict)
    volumes: dict[str, Any] = field(default_factory=dict)
    networks: dict[str, Any] = field(default_factory=dict)
    secret_files: dict[str, str] = field(default_factory=dict)
    config_files: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str | None] = field(default_factory=dict)

    def locate(self, *key: str | int) -> tuple[Path, int]:
        """File and line of a key: the last file that has it wins, as in Compose."""
        for source in reversed(self.read or self.files):
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


def read(
    sources: list[YamlFile], host_path: str, variables: Mapping[str, str], folder: Path | None = None
) -> ComposeModel:
    """Merge the files of one project that will live in ``host_path``; ``folder`` stands for it here."""
    for source in sources:
        check_shape(source)
    files = Files(folder or sources[0].path.parent, host_path, variables)
    merged_files = merged(files, sources)
    model = ComposeModel(sources, host_path)
    model.read = files.read
    model.variables = references([source.data for source in files.read])
    model.volumes = dict(merged_files.get("volumes") or {})
    model.networks = dict(merged_files.get("networks") or {})
    model.secret_files = _files_of(merged_files.get("secrets"))
    model.config_files = _files_of(merged_files.get("configs"))
    for name, spec in (merged_files.get("services") or {}).items():
        model.containers[name] = _container(model, name, spec or {})
    return model


def _files_of(section: Any) -> dict[str, str]:
    return {
        name: spec["file"]
        for name, spec in (section or {}).items()
        if isinstance(spec, dict) and "file" in spec
    }


def _container(model: ComposeModel, name: str, spec: dict[str, Any]) -> Container:
    build = spec.get("build")
    networks = spec.get("networks") or []
    depends = spec.get("depends_on") or []
    return Container(
        name=name,
        image=str(spec.get("image") or ""),
        build="build" in spec,
        ports=tuple(
            port
            for index, item in enumerate(as_list(spec.get("ports")))
            for port in _published(model, name, index, item)
        ),
        mounts=tuple(_mounts(model, name, spec)),
        environment=_environment(spec.get("environment")),
        env_files=tuple(_env_file(item) for item in as_list(spec.get("env_file"))),
        secrets=tuple(
            item if isinstance(item, str) else str(item.get("source")) for item in spec.get("secrets") or []
        ),
        networks=tuple(networks),
        host_network=spec.get("network_mode") == "host",
        devices=tuple(_device(item) for item in spec.get("devices") or []),
        restart=str(spec.get("restart") or "no"),
        needs=tuple(depends),
        context=str(build.get("context") or "") if isinstance(build, dict) else str(build or ""),
        profiles=tuple(map(str, as_list(spec.get("profiles")))),
        reserves=tuple(key for key in _RESERVING if _reserves_devices(spec, key)),
    )


_RESERVING = {"gpus": ("gpus",), "deploy": ("deploy", "resources", "reservations", "devices")}


def _reserves_devices(spec: dict[str, Any], below: str) -> bool:
    value: Any = spec
    for key in _RESERVING[below]:
        value = value.get(key) if isinstance(value, dict) else None
    return bool(value)


def _device(item: Any) -> str:
    return (
        str(item.get("source") or item.get("target")) if isinstance(item, dict) else str(item).split(":")[0]
    )


def _env_file(item: Any) -> str:
    return str(item["path"]) if isinstance(item, dict) else str(item)


def _environment(value: Any) -> dict[str, str | None]:
    return {str(k): None if v is None else str(v) for k, v in as_mapping(value).items()}


def _published(model: ComposeModel, name: str, index: int, item: Any) -> list[Published]:
    """One entry of ``ports``, a range port by port. A port that is a variable without a value is not known: none."""
    if isinstance(item, dict):
        text = ":".join(
            str(item[key]) for key in ("host_ip", "published", "target") if item.get(key) not in (None, "")
        )
        text += f"/{item.get('protocol', 'tcp')}"
    else:
        text = str(item)
    match = PORT.fullmatch(text)
    if not match and "$" in text:
        return []
    ports, targets = (_range(match["port"]), _range(match["target"])) if match else ([], [])
    if not match or (ports and len(targets) > 1 and len(ports) != len(targets)):
        file, line = model.locate("services", name, "ports", index)
        message = f"{text!r} is not a port Understudy can read"
        fix = "write ADDRESS:HOST_PORT:CONTAINER_PORT, one port a line"
        raise CatalogError([Fault("error", file, line, f"services.{name}.ports[{index}]", message, fix)])
    if len(ports) > 1 and len(targets) == 1:
        ports = ports[:1]  # Docker takes any free one of the range
    address, protocol = match["address"] or "0.0.0.0", match["protocol"] or "tcp"  # noqa: S104
    return [
        Published(address, ports[number] if ports else 0, target, protocol)
        for number, target in enumerate(targets)
    ]


def _range(text: str | None) -> list[int]:
    if not text:
        return []
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def _mounts(model: ComposeModel, name: str, spec: dict[str, Any]) -> list[Mount]:
    mounts = [_mount(model, item) for item in spec.get("volumes") or []]
    mounts += [Mount("tmpfs", "", str(item).split(":")[0]) for item in as_list(spec.get("tmpfs"))]
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
        kind = "bind" if source.startswith((".", "/", "~")) or "/" in source else "volume"
    if kind == "bind" and not source.startswith("$"):
        source = posixpath.normpath(posixpath.join(model.path, source))
    return Mount(kind, source, posixpath.normpath(target), read_only)
