"""From what a host runs to a service folder: the owner's files, the block beside them, the values for SOPS. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import recipe_book
from ..agent.server_kinds import server_kind
from ..compose import ComposeModel
from ..images import parse
from ..service import Service
from ..spec import Database
from .judge import Census, part

SECRET = re.compile(r"(PASS|SECRET|TOKEN|KEY|SALT|CREDENTIAL|WEBHOOK|PRIVATE|AUTH|DSN)", re.IGNORECASE)


class NotImportable(Exception):
    """Why something stays where it is; the rest goes on."""


@dataclass
class Adopted:
    """One service as it will be written. ``secrets`` are values for SOPS; ``notes`` are sentences for the owner."""

    name: str
    block: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def service_name(text: str) -> str:
    """A name that a folder of ``services/`` may have."""
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")
    if not name:
        raise NotImportable(f"{text!r} cannot be the name of a service")
    return name


def containers_of(census: Census, project: str) -> list[Mapping[str, Any]]:
    """The containers of a Compose project, helpers of `compose run` left out."""
    docker = part(census, "docker") or {}
    return [c for c in docker.get("containers") or [] if c["project"] == project and not c["oneoff"]]


def images(census: Census, containers: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Compose service to the image that runs now, by digest and version."""
    known = (part(census, "docker") or {}).get("images") or {}
    found = {}
    for container in containers:
        image = known.get(container["image_id"]) or {}
        name = parse(str(container["image"])).name
        digests = [parse(d).digest for d in image.get("digests") or [] if parse(d).name == name]
        entry = {"image": str(container["image"])}
        if digests:
            entry["digest"] = digests[0]
        else:  # built or loaded on the host: no registry knows it
            entry["id"] = str(container["image_id"])
        if image.get("version"):
            entry["version"] = str(image["version"])
        found[str(container["service"])] = entry
    return found


def profiles(model: ComposeModel, containers: Iterable[Mapping[str, Any]]) -> list[str]:
    """The profiles that must have been on for what runs."""
    running = {container["service"] for container in containers}
    needed = {p for name in running if name in model.containers for p in model.containers[name].profiles[:1]}
    return sorted(needed)


def anonymous(census: Census, containers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """``CONTAINER:/path`` to the anonymous volume that holds data there now; empty ones are nobody's."""
    volumes = {v["name"]: v for v in (part(census, "docker") or {}).get("volumes") or []}
    sizes = part(census, "sizes") or {}
    found = {}
    for container in containers:
        for mount in container["mounts"]:
            volume = volumes.get(mount["name"]) or {}
            if volume.get("anonymous") and (sizes.get(volume["path"]) or {}).get("bytes"):
                found[f"{container['service']}:{mount['destination']}"] = str(mount["name"])
    return found


def structural(model: ComposeModel, texts: Mapping[str, str]) -> dict[str, str]:
    """Variables that decide where data lies or what is reachable: needed to read the file, and no secret by their name."""
    plain = {}
    for name, value in texts.items():
        used = re.compile(rf"\$\{{?{re.escape(name)}\b")
        places = [m.source for c in model.containers.values() for m in c.mounts]
        places += [c.image for c in model.containers.values()] + [
            c.context for c in model.containers.values()
        ]
        if any(used.search(place) for place in places) or (
            name in model.variables and not SECRET.search(name)
        ):
            plain[name] = value
    return plain


def databases(
    census: Census, service: Service, containers: list[Mapping[str, Any]]
) -> list[dict[str, Any]] | None:
    """All databases of a service as its block names them; None when its recipes say the same already."""
    by_recipe = [
        database.model_dump(exclude_none=True, exclude_defaults=True) for database in service.databases()
    ]
    found: list[dict[str, Any]] = [{"sqlite": place} for place in sqlite(census, service, containers)]
    servers = [d for d in by_recipe if "sqlite" not in d]
    named = {Database.model_validate(d).kind + _server(d) for d in servers}
    for container in containers:
        kind = server_kind(str(container["image"]))
        if kind in ("postgres", "mariadb") and f"{kind}{container['service']}" not in named:
            servers.append({kind: {"service": container["service"]}})
    whole = [*servers, *found]
    return None if sorted(map(str, whole)) == sorted(map(str, by_recipe)) else whole


def _server(entry: Mapping[str, Any]) -> str:
    value = next(iter(entry.values()))
    return str(value.get("service", "")) if isinstance(value, dict) else ""


def sqlite(census: Census, service: Service, containers: list[Mapping[str, Any]]) -> list[str]:
    """``CONTAINER:/path`` of every SQLite file in what a service keeps, once each."""
    sizes, rules = part(census, "sizes") or {}, service.data_rules()
    volumes = {v["name"]: v["path"] for v in (part(census, "docker") or {}).get("volumes") or []}
    found: dict[str, str] = {}
    for container in containers:
        for mount in container["mounts"]:
            source = str(volumes.get(mount["name"]) or mount["source"])
            target = str(mount["destination"]).rstrip("/")
            rule = rules.get(f"{container['service']}:{target}")
            if not mount["rw"] or (rule and rule.class_ in ("cache", "none", "media")):
                continue
            for relative in (sizes.get(source) or {}).get("sqlite") or []:
                if service.mount_of(str(container["service"]), f"{target}{relative}"):
                    found.setdefault(f"{source}{relative}", f"{container['service']}:{target}{relative}")
    return list(found.values())


def recreated(project: Mapping[str, Any], containers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Containers that `compose up` would make anew now, because their files were changed since they were started."""
    hashes = project["hashes"]
    if "error" in hashes:
        return []
    return [c["name"] for c in containers if hashes.get(c["service"]) != c["config_hash"]]


def applications(model: ComposeModel) -> list[str]:
    """Recipes of applications in one file that do not depend on each other, servers that they share aside."""
    known = {name: recipe_book.name_of(one.image) for name, one in model.containers.items() if one.image}
    own = {name: one for name, one in model.containers.items() if not server_kind(one.image)}
    left, found = set(own), list[str]()
    while left:
        island, edge = set[str](), {min(left)}
        while edge:
            island |= edge
            tied = {n for n, one in own.items() if island & set(one.needs)} | {
                n for i in island for n in own[i].needs
            }
            edge = (tied & left) - island
        left -= island
        named = {recipe for name in island if (recipe := known.get(name))}
        # The one that keeps something gives the others, a proxy or a helper, its name.
        found += sorted(named, key=lambda recipe: (not recipe_book.all_recipes()[recipe].databases, recipe))[
            :1
        ]
    return sorted(found)


def unit_block(unit: Mapping[str, Any], text: str, size: Mapping[str, Any]) -> dict[str, Any]:
    """The native section of a systemd service, whose own unit file lies beside it. Raises NotImportable."""
    secret = re.search(r"^Environment=.*?\b([A-Z0-9_]*" + SECRET.pattern + r"[A-Z0-9_]*)=", text, re.M | re.I)
    if secret:
        raise NotImportable(
            f"a secret stands in its unit file ({secret[1]}): move it to an EnvironmentFile= and import again"
        )
    start = re.search(r"^ExecStart=(.+)$", text, re.M)
    if not start:
        raise NotImportable("its unit file has no ExecStart")
    native: dict[str, Any] = {"user": unit["user"], "exec": start[1].strip(), "file": unit["name"]}
    workdir = re.search(r"^WorkingDirectory=(.+)$", text, re.M)
    if workdir:
        native["workdir"] = workdir[1].strip()
    if unit["folders"]:
        native["writable"] = list(unit["folders"])
    block: dict[str, Any] = {"native": native}
    if unit["folders"]:
        block["path"] = unit["folders"][0]
        block["databases"] = [
            {"sqlite": f"{unit['folders'][0]}{relative}"} for relative in size.get("sqlite") or []
        ]
    return block


def not_importable(census: Census) -> dict[str, str]:
    """What no file describes: name to the reason."""
    found = {}
    for container in (part(census, "docker") or {}).get("containers") or []:
        if not container["project"]:
            found[container["name"]] = (
                "was started by `docker run`, so no file describes it: write it down as a Compose file and start it from that, "
                "then import again"
            )
    for path in (part(census, "units") or {}).get("personal") or []:
        found[posixpath.basename(path)] = f"{path} runs for one user only: make it a unit of the system"
    return found
