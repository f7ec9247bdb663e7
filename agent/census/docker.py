"""Containers, volumes, networks and images with what says where they come from."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .. import process
from ..containers import Docker, describe
from ..errors import because
from ..look import hash_file
from ..root import Root
from ..server_kinds import server_kind

__all__ = ["databases", "names", "projects", "read", "sources"]

_FILES = "com.docker.compose.project.config_files"
_FOLDER = "com.docker.compose.project.working_dir"
_ENV_FILE = "com.docker.compose.project.environment_file"
_VERSION = "org.opencontainers.image.version"
_SQL = {
    "postgres": (
        'psql -XAtq -F "|" -U "${POSTGRES_USER:-postgres}" -d postgres -c '
        "'select datname, pg_database_size(datname) from pg_database where not datistemplate'"
    ),
    # The password reaches the client by its environment: an argument could be read by others.
    "mariadb": (
        'MYSQL_PWD="${MARIADB_ROOT_PASSWORD:-$MYSQL_ROOT_PASSWORD}" $(command -v mariadb || echo mysql) -u root -N -B -e '
        '\'select concat(s.schema_name, "|", coalesce(sum(t.data_length + t.index_length), 0)) from '
        "information_schema.schemata s left join information_schema.tables t on t.table_schema = s.schema_name "
        "group by s.schema_name'"
    ),
}

Seen = dict[str, Any]


def read() -> Seen:
    """{"engine", "containers", "volumes", "networks", "images"}; no value of any environment variable."""
    engine = Docker()
    facts = engine.inspected("container")
    images = engine.used_images(sorted({str(one.get("Image")) for one in facts}))
    return {
        "engine": engine.info(),
        "containers": [_container(one) for one in facts],
        "volumes": [_volume(one) for one in engine.inspected("volume")],
        "networks": [_network(one) for one in engine.inspected("network")],
        "images": {image["Id"]: _image(image) for image in images},
    }


def _container(facts: dict[str, Any]) -> Seen:
    config, host = facts["Config"], facts.get("HostConfig") or {}
    pairs = (str(pair).partition("=") for pair in config.get("Env") or [])
    return {
        **describe(facts),
        "created": facts.get("Created"),
        "variables": sorted(name for name, _, _ in pairs),
        "env_file": (config.get("Labels") or {}).get(_ENV_FILE),
        "number": (config.get("Labels") or {}).get("com.docker.compose.container-number"),
        "privileged": bool(host.get("Privileged")),
        "devices": [device.get("PathOnHost") for device in host.get("Devices") or []],
        "gpus": bool(host.get("DeviceRequests")),
    }


def _volume(facts: dict[str, Any]) -> Seen:
    labels = facts.get("Labels") or {}
    return {
        "name": facts["Name"],
        "driver": facts.get("Driver"),
        "path": facts.get("Mountpoint"),
        "labels": labels,
        "project": labels.get("com.docker.compose.project"),
        "anonymous": "com.docker.volume.anonymous" in labels
        or re.fullmatch(r"[0-9a-f]{64}", facts["Name"]) is not None,
    }


def _network(facts: dict[str, Any]) -> Seen:
    labels = facts.get("Labels") or {}
    return {
        "name": facts["Name"],
        "driver": facts.get("Driver"),
        "project": labels.get("com.docker.compose.project"),
    }


def _image(facts: dict[str, Any]) -> Seen:
    config = facts.get("Config") or {}
    return {
        "tags": facts.get("RepoTags") or [],
        "digests": facts.get("RepoDigests") or [],
        "version": (config.get("Labels") or {}).get(_VERSION),
        "volumes": sorted(config.get("Volumes") or {}),
        "created": facts.get("Created"),
    }


def names(seen: Seen) -> list[str]:
    """Names by which a script may speak of containers."""
    return [container["name"] for container in seen.get("containers") or []]


def sources(seen: Seen) -> list[str]:
    """Host paths of everything that containers mount, and of volumes that none does."""
    mounts = [mount for container in seen.get("containers") or [] for mount in container["mounts"]]
    volumes = {volume["name"]: volume["path"] for volume in seen.get("volumes") or []}
    paths = [volumes.get(m["name"]) or m["source"] for m in mounts if m["type"] in ("bind", "volume")]
    return [path for path in dict.fromkeys([*paths, *volumes.values()]) if path]


def projects(root: Root, seen: Seen) -> dict[str, Seen]:
    """Project to its folder, its files with their digests, its hashes by Compose, and the git repository it is in."""
    found = _labelled(root, seen)
    asked = [
        {
            "service": name,
            "project": name,
            "path": one["folder"],
            "files": [file["path"] for file in one["files"]],
            "env_file": one["env_file"],
            "profiles": ["*"],
        }
        for name, one in found.items()
    ]
    from .. import stack_hashes

    hashes = stack_hashes.read(root, asked, keep=False)
    return {name: {**one, "hashes": hashes.get(name) or {}} for name, one in found.items()}


def _labelled(root: Root, seen: Seen) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    for container in seen.get("containers") or []:
        name, labels = container["project"], container["labels"]
        if not name or name in found or container["oneoff"]:
            continue
        folder = _on_host(labels.get(_FOLDER) or "", seen)
        paths = [_on_host(path, seen) for path in (labels.get(_FILES) or "").split(",") if path]
        env_file = container["env_file"]
        found[name] = {
            "folder": folder,
            "files": [_file(root, path) for path in paths],
            "env_file": _on_host(env_file, seen) if env_file else None,
            "dot_env": os.path.isfile(root.at(f"{folder}/.env")) if folder else False,
            "git": _git(root, folder),
        }
    return found


def _on_host(path: str, seen: Seen) -> str:
    """Portainer and Dockge name files as they see them inside their own container."""
    if not path or os.path.exists(path):
        return path
    volumes = {volume["name"]: volume["path"] for volume in seen.get("volumes") or []}
    for container in seen.get("containers") or []:
        if not re.search(r"portainer|dockge|komodo|yacht", str(container["image"])):
            continue
        for mount in container["mounts"]:
            target = str(mount["destination"]).rstrip("/")
            if path.startswith(f"{target}/"):
                return f"{volumes.get(mount['name']) or mount['source']}{path[len(target) :]}"
    return path


def _file(root: Root, path: str) -> Seen:
    try:
        return {"path": path, "sha256": hash_file(os.path.realpath(root.at(path)))}
    except OSError as error:
        return {"path": path, "error": because(error)}


def _git(root: Root, folder: str) -> bool | None:
    """Whether the folder lies in a git repository with a remote; None without a repository."""
    while folder not in ("", "/"):
        config = root.at(f"{folder}/.git/config")
        if os.path.exists(config):
            with open(config, encoding="utf-8", errors="replace") as stream:
                return "[remote " in stream.read()
        folder = os.path.dirname(folder)
    return None


def databases(seen: Seen) -> dict[str, Seen]:
    """Container name to {"kind", "databases": {name: bytes}} or {"kind", "error"}: asked inside the running server."""
    servers = [
        (container["name"], kind, container["state"])
        for container in seen.get("containers") or []
        if (kind := server_kind(str(container["image"])))
    ]
    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(lambda server: (server[0], _ask(*server)), servers))


def _ask(name: str, kind: str, state: str) -> Seen:
    if kind not in _SQL:
        return {"kind": kind}
    if state != "running":
        return {"kind": kind, "error": f"it is {state}"}
    ended = process.run(["docker", "exec", name, "sh", "-c", _SQL[kind]], 15)
    if not ended.ok:
        return {"kind": kind, "error": ended.why(1)}
    rows = [line.rpartition("|") for line in ended.out.splitlines() if "|" in line]
    return {"kind": kind, "databases": {row[0]: int(float(row[2])) for row in rows}}
