"""What we know of our own things on a host beyond files: notes of past runs, units, tables, scratch stacks."""

from __future__ import annotations

import json
import os
import pwd
import shutil

from . import process
from .errors import AgentError, because
from .root import STATE, Root

__all__ = [
    "ENGINE",
    "containers",
    "noted",
    "repositories",
    "scratch",
    "set_aside",
    "size",
    "tables",
    "unit_state",
    "user_exists",
]

ENGINE = (
    "docker.io",
    "docker-cli",
    "docker-compose",
    "docker-compose-v2",
    "docker-compose-plugin",
    "containerd",
    "runc",
)
_TIMEOUT = 60
_SCRATCH = "understudy-drill-"
_PROJECT = "com.docker.compose.project"


def noted(root: Root, name: str) -> list[str]:
    """Names that converges wrote down when they did something: "packages", "enabled" or "users"."""
    path = f"{STATE}/{name}"
    try:
        with open(root.at(path), encoding="utf-8") as stream:
            return sorted({line.strip() for line in stream if line.strip()})
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {because(error)}", "io") from error


def unit_state(name: str) -> str:
    """ "active", "inactive", "failed" ... as systemd says."""
    return process.run(["systemctl", "is-active", name], _TIMEOUT).out.strip() or "unknown"


def tables() -> list[str]:
    """Our nftables tables, as ``inet NAME``."""
    if not shutil.which("nft"):
        return []
    ended = process.run(["nft", "list", "tables"], _TIMEOUT)
    if not ended.ok:
        raise AgentError(f"nft list tables: {ended.why()}", "io")
    rows = [line.split() for line in ended.out.splitlines()]
    return sorted(f"{row[1]} {row[2]}" for row in rows if len(row) == 3 and row[2].startswith("understudy"))


def containers() -> list[str]:
    """Ids of all containers of the host, running or not."""
    return _docker("ps", "--all", "--quiet", "--no-trunc").split()


def scratch() -> dict[str, list[str]]:
    """What a killed drill left in Docker, by kind and id or name."""
    form = '{{.%s}} {{.Label "' + _PROJECT + '"}}'
    found = {
        "container": _labelled(_docker("ps", "--all", "--no-trunc", "--format", form % "ID")),
        "network": _labelled(_docker("network", "ls", "--no-trunc", "--format", form % "ID")),
        "volume": _labelled(_docker("volume", "ls", "--format", form % "Name")),
    }
    return {kind: names for kind, names in found.items() if names}


def _labelled(text: str) -> list[str]:
    rows = [line.split() for line in text.splitlines()]
    return [row[0] for row in rows if len(row) == 2 and row[1].startswith(_SCRATCH)]


def _docker(*arguments: str) -> str:
    if not shutil.which("docker"):
        return ""
    ended = process.run(["docker", *arguments], _TIMEOUT)
    if not ended.ok:
        raise AgentError(f"docker {arguments[0]}: {ended.why(1)}", "io")
    return ended.out


def user_exists(name: str) -> bool:
    """Whether the host has such a user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def size(root: Root, path: str) -> str:
    """How much lies below a path, in words."""
    total = 0
    for top, _, files in os.walk(root.at(path)):
        for name in files:
            try:
                total += os.lstat(os.path.join(top, name)).st_size
            except OSError:
                continue
    return f"{total / 1024**2:.1f} MB"


def repositories(root: Root) -> list[str]:
    """Addresses of the repositories that this host's plan names."""
    try:
        with open(root.at("/etc/understudy/backup.json"), encoding="utf-8") as stream:
            plan = json.load(stream)
    except (OSError, ValueError):
        return []
    return [f"{entry['url']}/{group}" for entry in plan["repositories"].values() for group in _groups(plan)]


def _groups(plan: dict[str, dict[str, dict[str, str]]]) -> list[str]:
    return list(dict.fromkeys(service["group"] for service in plan["services"].values()))


def set_aside(root: Root) -> list[str]:
    """Places where restores left the data that was there before."""
    folder = root.at(f"{STATE}/restore/old")
    found: list[str] = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".json") and not name.startswith("."):
            with open(os.path.join(folder, name), encoding="utf-8") as stream:
                record = json.load(stream)
            found += [str(path) for path in record["paths"] if path]
            found += [f"database {one['name']}__old of {record['service']}" for one in record["databases"]]
    return found
