"""What Docker runs and holds, through its command line (which knows contexts and logins)."""

from __future__ import annotations

import glob
import json
import shutil
from collections.abc import Iterator
from typing import Any

from . import process
from .parts import Unreadable

__all__ = ["Docker", "describe"]

_TIMEOUT = 30
_PROJECT = "com.docker.compose.project"


class Docker:
    """One host's engine. Without the ``docker`` program there is nothing to see: None and empty lists."""

    def __init__(self) -> None:
        self.installed = shutil.which("docker") is not None

    def info(self) -> dict[str, Any] | None:
        """{"version", "compose" (None without the plugin), "data_root", "live_restore", "kind"}.

        ``kind`` is "rootless" or "podman" for engines that work otherwise, "" for Docker's own run by root.
        """
        if not self.installed:
            return None
        facts = json.loads(_docker("info", "--format", "{{json .}}"))
        kind = _kind(facts)
        if facts.get("ServerErrors") and not kind:
            raise Unreadable(f"the Docker engine does not answer: {facts['ServerErrors'][0]}")
        return {
            "version": facts.get("ServerVersion"),
            "compose": _compose(facts),
            "data_root": facts.get("DockerRootDir"),
            "live_restore": bool(facts.get("LiveRestoreEnabled")),
            "kind": kind,
        }

    def containers(self) -> list[dict[str, Any]]:
        """All containers, running or not, except a drill's."""
        ids = _docker("ps", "--all", "--quiet", "--no-trunc").split() if self.installed else []
        found = [describe(facts) for facts in _inspect(ids)]
        return [container for container in found if not _of_a_drill(container)]

    def inspected(self, kind: str) -> list[dict[str, Any]]:
        """Docker's own description of every object of a kind: container, volume, network."""
        if not self.installed:
            return []
        every = ["ps", "--all", "--quiet", "--no-trunc"] if kind == "container" else [kind, "ls", "--quiet"]
        return _inspect(_docker(*every).split(), kind)

    def used_images(self, ids: list[str]) -> list[dict[str, Any]]:
        """Docker's own description of these images; one that was removed meanwhile is left out."""
        return _inspect(ids, "image")

    def volumes(self) -> list[dict[str, Any]]:
        """All volumes: {"name", "labels", "project"}."""
        if not self.installed:
            return []
        lines = _docker("volume", "ls", "--format", "{{json .}}").splitlines()
        return [volume for line in lines if not _of_a_drill(volume := _volume(json.loads(line)))]

    def images(self) -> dict[str, str]:
        """Every image reference that is present (name:tag and name@digest) and its image id."""
        if not self.installed:
            return {}
        form = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}"
        lines = _docker("image", "ls", "--no-trunc", "--digests", "--format", form).splitlines()
        return {ref: row[3] for row in (line.split("\t") for line in lines) for ref in _refs(row)}


def _of_a_drill(thing: dict[str, Any]) -> bool:
    """A scratch copy is nobody's stack: it is gone in a minute (agent/scratch/model.py)."""
    return str(thing.get("project") or "").startswith("understudy-drill-")


def _docker(*arguments: str) -> str:
    ended = process.run(["docker", *arguments], _TIMEOUT)
    if not ended.ok:
        raise Unreadable(f"docker {arguments[0]}: {ended.why(1)}")
    return ended.out


def _kind(facts: dict[str, Any]) -> str:
    """Podman answers to the name of docker too; a rootless engine says so, or is the only one that runs."""
    if "buildahVersion" in (facts.get("host") or {}):
        return "podman"
    options = [str(option) for option in facts.get("SecurityOptions") or []]
    alone = bool(facts.get("ServerErrors")) and bool(glob.glob("/run/user/*/docker.sock"))
    return "rootless" if alone or any("name=rootless" in option for option in options) else ""


def _compose(facts: dict[str, Any]) -> str | None:
    plugins = (facts.get("ClientInfo") or {}).get("Plugins") or []
    versions = [str(plugin.get("Version") or "") for plugin in plugins if plugin.get("Name") == "compose"]
    return versions[0].lstrip("v") if versions else None


def _inspect(ids: list[str], kind: str = "container") -> list[dict[str, Any]]:
    if not ids:
        return []
    ended = process.run(["docker", kind, "inspect", *ids], _TIMEOUT)
    # One that ended between the two calls makes the status 1; the others are still listed.
    gone = all(f"no such {kind}" in line.lower() for line in ended.err.splitlines() if line.strip())
    if not ended.ok and not gone:
        raise Unreadable(f"docker inspect: {ended.why(1)}")
    found: list[dict[str, Any]] = json.loads(ended.out or "[]")
    return found


def describe(facts: dict[str, Any]) -> dict[str, Any]:
    """One container of ``docker inspect`` as surveys report it."""
    config, state = facts["Config"], facts["State"]
    labels = config.get("Labels") or {}
    return {
        "id": facts["Id"],
        "name": facts["Name"].lstrip("/"),
        "project": labels.get(_PROJECT),
        "service": labels.get("com.docker.compose.service"),
        "config_hash": labels.get("com.docker.compose.config-hash"),
        "oneoff": labels.get("com.docker.compose.oneoff") == "True",
        "working_dir": labels.get("com.docker.compose.project.working_dir"),
        "config_files": labels.get("com.docker.compose.project.config_files"),
        "labels": labels,
        "image": config.get("Image"),
        "image_id": facts.get("Image"),
        "state": state.get("Status"),
        "health": (state.get("Health") or {}).get("Status"),
        "exit_code": state.get("ExitCode"),
        "started_at": state.get("StartedAt"),
        "restart_policy": ((facts.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name"),
        "network_mode": (facts.get("HostConfig") or {}).get("NetworkMode"),
        "networks": sorted((facts.get("NetworkSettings") or {}).get("Networks") or {}),
        "mounts": [_mount(mount) for mount in facts.get("Mounts") or []],
        "ports": list(_ports(facts)),
    }


def _mount(mount: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": mount.get("Type"),
        "source": mount.get("Source"),
        "name": mount.get("Name"),
        "destination": mount.get("Destination"),
        "rw": mount.get("RW"),
    }


def _ports(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Published ports; a stopped container's as configured."""
    live = (facts.get("NetworkSettings") or {}).get("Ports") or {}
    configured = (facts.get("HostConfig") or {}).get("PortBindings") or {}
    for inside, bindings in sorted((live or configured).items()):
        port, _, proto = inside.partition("/")
        for binding in bindings or []:
            outside = str(binding.get("HostPort") or "")
            yield {
                "container": int(port),
                "proto": proto or "tcp",
                "address": binding.get("HostIp") or "0.0.0.0",  # noqa: S104 (what Docker means by none)
                "port": int(outside) if outside.isdigit() else None,
            }


def _volume(facts: dict[str, Any]) -> dict[str, Any]:
    labels = _labels(str(facts.get("Labels") or ""))
    return {
        "name": facts["Name"],
        "driver": facts.get("Driver"),
        "labels": labels,
        "project": labels.get(_PROJECT),
    }


def _labels(text: str) -> dict[str, str]:
    """``a=1,b=2,3`` -> {"a": "1", "b": "2,3"}: the list form does not quote commas in values."""
    found: dict[str, str] = {}
    last = ""
    for piece in text.split(",") if text else []:
        key, equals, value = piece.partition("=")
        if equals:
            last, found[key] = key, value
        elif last:
            found[last] += f",{piece}"
    return found


def _refs(row: list[str]) -> Iterator[str]:
    name, tag, digest = row[:3]
    if name != "<none>" and tag != "<none>":
        yield f"{name}:{tag}"
    if name != "<none>" and digest not in ("<none>", ""):
        yield f"{name}@{digest}"
