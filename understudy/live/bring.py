"""Fetches what an import needs from a host, and writes service folders; each appears whole or not at all."""

from __future__ import annotations

import base64
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .. import checks, compose, dotenv
from ..catalog import BLOCK_FILE, Source, read_service
from ..compose_files import Files
from ..faults import CatalogError
from ..yamlfile import YamlFile, load
from . import adopt
from .adopt import Adopted, NotImportable
from .judge import Census, part
from .pin import pin
from .reach import Reach

Taken = dict[str, dict[str, Any]]


@dataclass
class LiveFiles(Files):
    """Files that are fetched from the host when an ``include`` or ``extends`` first names them."""

    reach: Reach | None = None
    taken: Taken = field(default_factory=dict)

    def open(self, host_path: str, asked: YamlFile, key: tuple[str | int, ...]) -> YamlFile:
        """As in a description, but what is missing is brought from the host."""
        if not self.here(host_path).is_file() and self.reach and host_path.startswith("/"):
            self.bring([host_path])
        return super().open(host_path, asked, key)

    def bring(self, paths: list[str], skip: list[str] | None = None) -> Taken:
        """Fetch files and folders and write them into the folder, byte for byte."""
        assert self.reach is not None
        found: Taken = self.reach.census({"take": paths, "skip": skip or []})["taken"] if paths else {}
        self.taken.update(found)
        for path, entry in found.items():
            write(self.here(path), entry)
        return found


def write(place: Path, entry: Mapping[str, Any]) -> None:
    """One file as it is on the host; only whether it may be executed is kept of its mode."""
    if entry["kind"] == "file":
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(base64.b64decode(entry["content"]))
        place.chmod(0o755 if int(entry["mode"], 8) & 0o100 else 0o644)


def text_of(taken: Taken, path: str) -> str | None:
    """The text of a fetched file, None when it was not there."""
    entry = taken.get(path) or {"kind": "missing"}
    if entry["kind"] == "refused":
        raise NotImportable(f"{path} cannot be read: {entry['reason']}")
    return base64.b64decode(entry["content"]).decode(errors="replace") if entry["kind"] == "file" else None


@contextmanager
def staging(services: Path) -> Iterator[Path]:
    """A folder beside the services, gone at the end unless it was renamed."""
    services.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".import-", dir=services))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def project(reach: Reach, census: Census, name: str, folder: Path, pinned: bool = False) -> Adopted:
    """Write one Compose project into ``folder``, floating tags with their digests if ``pinned``.

    Raises NotImportable, CatalogError.
    """
    found = (part(census, "projects") or {})[name]
    containers = adopt.containers_of(census, name)
    path = found["folder"].rstrip("/")
    if not path.startswith("/") or not found["files"]:
        raise NotImportable("its containers do not say which files they come from")
    adopted = Adopted(adopt.service_name(name), {"project": name, "path": path})
    files = LiveFiles(folder, path, {}, reach=reach)
    listed = [file["path"] for file in found["files"]]
    # Values stay out of the folder: the variables' file is fetched, not written.
    dot_env = found["env_file"] or f"{path}/.env"
    taken = reach.census({"take": [*listed, dot_env]})["taken"]
    for host_path in listed:
        if text_of(taken, host_path) is None:
            raise NotImportable(f"its file {host_path} is not on the host any more")
        write(files.here(host_path), taken[host_path])
    values = dotenv.parse(text_of(taken, dot_env) or "")
    files.variables = values
    model = _model(files, listed, values)
    _further(files, model, adopted, dot_env)
    _describe(census, adopted, model, files, values, containers)
    _files_key(adopted, folder, listed, path)
    adopted.notes += [
        f"{one} would be made anew by `docker compose up` even today: its file was changed since it was started"
        for one in adopt.recreated(found, containers)
    ]
    if pinned:
        adopted.notes += pin(model, adopted.block.get("images") or {})
    adopted.notes += [*_clear_secrets(model), *_several(model)]
    _finish(census, adopted, folder, containers)
    return adopted


def _clear_secrets(model: compose.ComposeModel) -> list[str]:
    """The files come as they are, so what their owner wrote into them in clear would come into a repository."""
    found = [
        f"{variable} of {name}"
        for name, container in model.containers.items()
        for variable, value in container.environment.items()
        if value and "$" not in value and checks.SECRET_NAME.search(variable)
    ]
    if not found:
        return []
    return [
        f"secrets stand in clear in its files ({', '.join(found)}): move them to .env before you commit this folder"
    ]


def _several(model: compose.ComposeModel) -> list[str]:
    """A file with applications that have nothing to do with each other can be kept piece by piece."""
    found = adopt.applications(model)
    if len(found) < 2:
        return []
    return [f"holds {', '.join(found)}: `apps:` keeps and restores them one by one (docs/services.md)"]


def _model(files: LiveFiles, listed: list[str], values: Mapping[str, str]) -> compose.ComposeModel:
    from ..compose_files import merged

    sources = [load(files.here(path)) for path in listed]
    merged(files, sources)  # fetches what they include and extend
    files.read = []
    return compose.read(sources, files.path, values, files.folder)


def _further(files: LiveFiles, model: compose.ComposeModel, adopted: Adopted, dot_env: str) -> None:
    """Build contexts and configuration files come along; files of variables go to SOPS; secrets stay on the host."""
    data = [m.source for c in model.containers.values() for m in c.mounts if m.kind == "bind"]
    contexts = sorted({c.context for c in model.containers.values() if c.context.startswith("/")})
    env_files = sorted(
        {path for c in model.containers.values() for path in c.env_files if path.startswith("/")}
    )
    skip = [*data, dot_env, *env_files, *model.secret_files.values()]
    before = set(files.taken)
    files.bring([*contexts, *(path for path in model.config_files.values() if path.startswith("/"))], skip)
    for path, entry in files.taken.items():
        if path not in before and entry["kind"] == "refused":
            adopted.notes.append(f"{path} stays on the host: {entry['reason']}")
    wanted = [path for path in env_files if path != dot_env]
    texts = files.reach.census({"take": wanted})["taken"] if wanted and files.reach else {}
    for path in wanted:
        text = text_of(texts, path)
        if text is None:
            adopted.notes.append(f"{path}, which a container reads its variables from, is not on the host")
            continue
        key = re.sub(r"\W+", "_", posixpath.relpath(path, files.path)).strip("_").upper()
        adopted.secrets[key] = text
        place = posixpath.relpath(path, files.path) if path.startswith(f"{files.path}/") else path
        adopted.block.setdefault("env_files", {})[place] = key
    for label, path in model.secret_files.items():
        if not path.startswith("/etc/understudy/"):
            adopted.notes.append(
                f"the secret {label} stays in {path} on the host: it is in the backup, not in this project"
            )


def _describe(
    census: Census,
    adopted: Adopted,
    model: compose.ComposeModel,
    files: LiveFiles,
    values: Mapping[str, str],
    containers: list[Mapping[str, Any]],
) -> None:
    """The parts of the block that the files and the containers give."""
    bare = compose.read(model.files, files.path, {}, files.folder)
    plain = {k: v for k, v in adopt.structural(bare, values).items() if not adopt.SECRET.search(k)}
    if plain:
        adopted.block["variables"] = plain
    adopted.secrets |= {name: value for name, value in values.items() if name not in plain}
    known = [name for name in adopted.secrets if name not in (adopted.block.get("env_files") or {}).values()]
    unknown = [n for n, default in bare.variables.items() if default is None and n not in values]
    declared: dict[str, Any] = {name: {} for name in adopted.secrets if adopted.secrets[name]}
    declared |= {
        name: {"optional": True} for name in [*unknown, *(n for n in known if not adopted.secrets[n])]
    }
    if declared:
        adopted.block["secrets"] = declared
        adopted.block["secrets_env"] = list(declared)
    adopted.block |= {
        key: value
        for key, value in {
            "profiles": adopt.profiles(model, containers),
            "anonymous": adopt.anonymous(census, containers),
            "images": adopt.images(census, containers),
        }.items()
        if value
    }
    if any(port.port and not port.on_loopback for c in model.containers.values() for port in c.ports):
        adopted.block["expose"] = "lan"


def _files_key(adopted: Adopted, folder: Path, listed: list[str], path: str) -> None:
    """``files:`` only where the usual names would not find the same."""
    known = Files(folder, path, {})
    if [known.host(found) for found in compose.find_files(folder)] != listed:
        adopted.block["files"] = [
            posixpath.relpath(one, path) if one.startswith(f"{path}/") else one for one in listed
        ]


def _finish(census: Census, adopted: Adopted, folder: Path, containers: list[Mapping[str, Any]]) -> None:
    """Write the block, with the databases that are really there, and read the whole back as the catalogue will."""
    dump(folder, {**adopted.block, "databases": []})
    service = _read(folder, adopted.name)
    service.block = service.block.model_copy()
    service.block.model_fields_set.discard("databases")
    found = adopt.databases(census, service, containers)
    if found is not None:
        adopted.block["databases"] = found
    dump(folder, adopted.block)
    service = _read(folder, adopted.name)
    faults = [f for rule in checks.PER_SERVICE for f in rule(service, {service.name: service})]
    if errors := [fault for fault in faults if fault.grade == "error"]:
        raise CatalogError(errors)


def _read(folder: Path, name: str) -> Any:
    service = read_service(folder, Source(folder.parent))
    assert service is not None
    service.name = name
    return service


def dump(folder: Path, block: Mapping[str, Any], head: str = "") -> None:
    """Write ``understudy.yaml``."""
    text = yaml.safe_dump(dict(block), sort_keys=False, allow_unicode=True, width=120)
    (folder / BLOCK_FILE).write_text(head + text, encoding="utf-8")


def unit(reach: Reach, census: Census, found: Mapping[str, Any], folder: Path) -> Adopted:
    """Write one systemd service into ``folder``. Raises NotImportable, CatalogError."""
    path = found["file"]
    text = text_of(reach.census({"take": [path]})["taken"], path)
    if text is None:
        raise NotImportable(f"its unit file {path} is not there")
    name = adopt.service_name(found["name"].removesuffix(".service"))
    if f"{name}.service" != found["name"]:
        raise NotImportable(f"{found['name']} cannot be the name of a service of ours")
    size = (part(census, "sizes") or {}).get(found["folders"][0] if found["folders"] else "") or {}
    adopted = Adopted(name, adopt.unit_block(found, text, size))
    (folder / found["name"]).write_text(text, encoding="utf-8")
    dump(folder, adopted.block)
    _read(folder, name)
    return adopted


__all__ = ["dump", "project", "staging", "unit"]
