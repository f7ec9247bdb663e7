"""All files of one Compose project as one: overrides, ``include`` and ``extends`` with their own base folders."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .compose_merge import as_list, as_mapping, merge, plain
from .compose_text import interpolate
from .faults import CatalogError, Fault
from .yamlfile import YamlFile, load

ELSEWHERE = "elsewhere"
"""Below a service's folder: files that lie outside its path on the host, by their absolute paths."""
DEEPEST = 20


@dataclass
class Files:
    """The files of a project: ``folder`` here stands for ``path`` on the host. ``read`` grows as files are followed."""

    folder: Path
    path: str
    variables: Mapping[str, str]
    read: list[YamlFile] = field(default_factory=list)

    def here(self, host_path: str) -> Path:
        """Where a file of the host lies in the description."""
        if host_path == self.path or host_path.startswith(f"{self.path}/"):
            return self.folder / posixpath.relpath(host_path, self.path)
        return self.folder / ELSEWHERE / host_path.lstrip("/")

    def host(self, local: Path) -> str:
        """Where a file of the description lies on the host."""
        relative = local.relative_to(self.folder).as_posix()
        first, _, rest = relative.partition("/")
        return f"/{rest}" if first == ELSEWHERE and rest else posixpath.join(self.path, relative)

    def open(self, host_path: str, asked: YamlFile, key: tuple[str | int, ...]) -> YamlFile:
        """A further file. Raises CatalogError naming who asked for it."""
        local = self.here(host_path)
        if not local.is_file():
            message = f"{host_path} is not part of this description"
            fix = f"put it at {local.relative_to(self.folder)} in this folder"
            raise CatalogError(
                [Fault("error", asked.path, asked.line(key), ".".join(map(str, key)), message, fix)]
            )
        found = load(local)
        check_shape(found)
        if all(known.path != found.path for known in self.read):
            self.read.append(found)
        return found


def merged(files: Files, sources: list[YamlFile]) -> dict[str, Any]:
    """The project's model before interpolation of what is not known, every relative path made absolute."""
    result: dict[str, Any] = {}
    files.read.extend(sources)
    for source in sources:
        result = merge(result, _one(files, source, files.path, 0))
    whole: dict[str, Any] = plain(result)
    return whole


def _one(files: Files, source: YamlFile, base: str, depth: int) -> dict[str, Any]:
    """One file with what it includes and extends; ``base`` is the folder its relative paths mean."""
    if depth > DEEPEST:
        raise CatalogError(
            [Fault("error", source.path, 1, "include", "files include each other in a circle")]
        )
    data = interpolate({k: v for k, v in source.data.items() if not str(k).startswith("x-")}, files.variables)
    result: dict[str, Any] = {}
    for index, item in enumerate(as_list(data.pop("include", None))):
        result = merge(result, _included(files, source, item, ("include", index), base, depth))
    services = data.get("services") or {}
    data["services"] = {
        name: _service(files, source, data, str(name), base, depth, ()) for name, spec in services.items()
    }
    for kind in ("secrets", "configs"):
        for spec in (data.get(kind) or {}).values():
            if isinstance(spec, dict) and isinstance(spec.get("file"), str):
                spec["file"] = _absolute(spec["file"], base)
    whole: dict[str, Any] = merge(result, data)
    return whole


def _included(
    files: Files, source: YamlFile, item: Any, key: tuple[str | int, ...], base: str, depth: int
) -> dict[str, Any]:
    paths = as_list(item.get("path") if isinstance(item, dict) else item)
    own = item.get("project_directory") if isinstance(item, dict) else None
    result: dict[str, Any] = {}
    for path in paths:
        host_path = _absolute(str(path), base)
        folder = _absolute(str(own), base) if own else posixpath.dirname(_absolute(str(paths[0]), base))
        result = merge(result, _one(files, files.open(host_path, source, key), folder, depth + 1))
    return result


def _service(
    files: Files,
    source: YamlFile,
    data: dict[str, Any],
    name: str,
    base: str,
    depth: int,
    seen: tuple[str, ...],
) -> Any:
    """One service with what it extends; relative paths of a service from another file mean that file's folder."""
    spec = (data.get("services") or {}).get(name)
    if not isinstance(spec, dict):
        return spec
    extends = spec.get("extends")
    own = absolute(spec, base)
    if not extends:
        return own
    key = ("services", name, "extends")
    other = extends.get("service") if isinstance(extends, dict) else extends
    file = extends.get("file") if isinstance(extends, dict) else None
    mark = f"{file or source.path}:{other}"
    if mark in seen or depth > DEEPEST:
        raise CatalogError([Fault("error", source.path, source.line(key), ".".join(key), "extends itself")])
    if file:
        host_path = _absolute(str(file), base)
        further = files.open(host_path, source, key)
        folder = posixpath.dirname(host_path)
        inner = interpolate(further.data, files.variables)
        parent = _service(files, further, inner, str(other), folder, depth + 1, (*seen, mark))
    else:
        parent = _service(files, source, data, str(other), base, depth, (*seen, mark))
    if parent is None:
        message = f"there is no service {other!r} to extend"
        raise CatalogError([Fault("error", source.path, source.line(key), ".".join(key), message)])
    # What Compose does not take over from the other one.
    kept = {k: v for k, v in parent.items() if k not in ("extends", "depends_on", "links", "volumes_from")}
    return merge(kept, {k: v for k, v in own.items() if k != "extends"})


def _absolute(path: str, base: str) -> str:
    if path.startswith(("~", "$", "http://", "https://", "git@", "oci://")) or "://" in path:
        return path
    return posixpath.normpath(posixpath.join(base, path))


def absolute(spec: dict[str, Any], base: str) -> dict[str, Any]:
    """A service with its relative host paths made absolute."""
    result = dict(spec)
    if isinstance(result.get("volumes"), list):
        result["volumes"] = [_mount(item, base) for item in result["volumes"]]
    if "env_file" in result and not hasattr(result["env_file"], "tag"):
        result["env_file"] = [_env_file(item, base) for item in as_list(result["env_file"])]
    build = result.get("build")
    if isinstance(build, str):
        result["build"] = {"context": _absolute(build, base)}
    elif isinstance(build, dict):
        result["build"] = {**build, "context": _absolute(str(build.get("context", ".")), base)}
    return result


def _env_file(item: Any, base: str) -> Any:
    if isinstance(item, dict):
        return {**item, "path": _absolute(str(item.get("path")), base)}
    return _absolute(str(item), base)


def _mount(item: Any, base: str) -> Any:
    if isinstance(item, dict):
        bind = item.get("type") == "bind" and item.get("source")
        return {**item, "source": _absolute(str(item["source"]), base)} if bind else item
    source, colon, rest = str(item).partition(":")
    return f"{_absolute(source, base)}:{rest}" if colon and source.startswith(".") else item


def check_shape(source: YamlFile) -> None:
    """Refuse what is no Compose file at all."""
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
        if spec is not None and not isinstance(spec, dict) and not hasattr(spec, "tag"):
            line = source.line(("services", name))
            raise CatalogError([Fault("error", source.path, line, f"services.{name}", "must be a mapping")])


__all__ = ["ELSEWHERE", "Files", "as_mapping", "check_shape", "merged"]
