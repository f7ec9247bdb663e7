"""From services to the host's protection plan: /etc/understudy/backup.json, read by agent/data/plan.py.

A service that keeps nothing is not in the plan: its files come from this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..probes import direct
from ..service import Service
from . import databases, mounts
from . import jobs as copying
from .policy import ALL_TIERS, Policy, RepositorySettings
from .secrets import credentials_of

if TYPE_CHECKING:
    from ..desired import Desired

FORMAT = 1
MOMENTS = ("before_dump", "after_dump", "after_load", "after_rollback", "after_promote")
HOST_SERVICE = "host"
HOST_GROUP = "host"


def plan(result: Desired, policy: Policy, credential_files: Mapping[str, str]) -> dict[str, Any]:
    """The whole plan of one host as plain JSON values, without any secret."""
    units = [result.catalog.services[name] for name in result.kept]
    services = {unit.name: entry(result, unit) for unit in units if not unit.empty}
    kept = {name: value for name, value in services.items() if keeps_something(value)}
    for name, value in kept.items():
        value["needs"] = [other for other in value["needs"] if other in kept and other != name]
    if policy.host_paths:
        kept[HOST_SERVICE] = _host(policy)
    return {
        "format": FORMAT,
        "host": result.settings.name,
        "services": kept,
        "repositories": repositories(policy, credential_files),
        "tiers": {name: policy.tier(name).model_dump() for name in ALL_TIERS},
        "settings": settings(policy, credential_files),
        "jobs": copying.rendered(policy),
    }


def keeps_something(entry: Mapping[str, Any]) -> bool:
    """True when there is data that nothing else could bring back."""
    return bool(entry["databases"]) or any(mount["class"] in ("keep", "shared") for mount in entry["mounts"])


def settings(policy: Policy, credential_files: Mapping[str, str]) -> dict[str, Any]:
    """What is true of the host's backups as a whole. Sizes in bytes, windows in local time."""
    pings = {tier: f"ping-{tier}" for tier in ALL_TIERS if f"ping-{tier}" in credential_files}
    return {
        "restic": policy.restic if isinstance(policy.restic, str) else "",
        "ping": pings,
        "alarm": "alarm-url" if "alarm-url" in credential_files else "",
        "verify_parts": policy.verify_weeks,
        "drill_budget_bytes": int(policy.drill_budget_gib * 1024**3),
        "quiesce_window": policy.quiesce_window,
        "first_backup_limit_bytes": int(policy.first_backup_limit_gib * 1024**3),
        "shrink_percent": policy.shrink_percent,
        "store_patience": policy.store_patience,
    }


def repositories(policy: Policy, credential_files: Mapping[str, str]) -> dict[str, Any]:
    """Repository name to its entry."""
    found = {}
    for name, repository in policy.repositories.items():
        found[name] = {
            "url": repository.url,
            "tamper": repository.tamper,
            "tiers": repository.written_by_ticks,
            "copy_from": repository.copy_from or "",
            "credentials": credentials_of(name, repository, credential_files),
            "options": options(repository),
            "limit_upload": repository.limit_upload,
            "limit_download": repository.limit_download,
            "disk": repository.disk.model_dump() if repository.disk else None,
            "ssh": repository.ssh or "",
        }
    return found


def options(repository: RepositorySettings, flags: str = "") -> list[str]:
    """restic's ``-o`` options: the owner's, and how rclone is reached over SSH, its flags as the caller needs them."""
    own = list(repository.options)
    if repository.ssh:
        where, _, port = repository.ssh.partition(":")
        words = ["ssh", *([flags] if flags else []), *(["-p", port] if port else []), where, "rclone"]
        own.append(f"rclone.program={' '.join(words)}")
    return own


def entry(result: Desired, service: Service) -> dict[str, Any]:
    """One service of the plan."""
    block, stack = service.block, result.stack_of(service.name)
    found = mounts.of(result, service)
    dumped = databases.of(result, service, found)  # takes the servers' own files out of ``found``
    return {
        "group": block.group,
        "tier": block.tier,
        "path": service.path,
        "project": service.project if stack else "",
        "compose": stack.compose() if stack else [],
        **containers_of(service),
        "unit": service.unit if service.native else "",
        "images": {name: container.image for name, container in service.containers.items()},
        "servers": databases.servers(service),
        "mounts": [mount.entry() for mount in found],
        "databases": dumped,
        "config": config(service, result),
        "hooks": hooks(service),
        "probes": direct(result, service),
        "needs": list(block.needs),
        "quiesce": service.quiesce() or "",
        "version": service.version_rule().model_dump(),
        "drill": service.drill().model_dump(),
        "ports": ports(service),
    }


def containers_of(service: Service) -> dict[str, list[str]]:
    """{"containers": its Compose services} for one of several units of a file; otherwise the whole project is its own."""
    return {"containers": list(service.containers)} if service.own is not None else {}


def config(service: Service, result: Desired) -> list[str]:
    """Absolute paths of the small files without which nobody could start the service again."""
    paths = list(service.compose_files)
    if any(path == service.env_path for path in result.tree.entries):
        paths.append(service.env_path)
    for container in service.all_containers.values():
        paths += [mounts.absolute(service, path) for path in container.env_files]
    if service.native:
        paths.append(f"/etc/systemd/system/{service.unit}")
    return list(dict.fromkeys(paths))


def hooks(service: Service) -> dict[str, list[dict[str, Any]]]:
    """Every moment that has hooks; ``{self}`` in a recipe's hook is its own container."""
    found: dict[str, list[dict[str, Any]]] = {}
    for moment in MOMENTS:
        own = list(getattr(service.block.hooks, moment))
        if not own:
            for name, recipe in service.recipes.items():
                own += [
                    hook.model_copy(update={"service": hook.service.replace("{self}", name)})
                    for hook in getattr(recipe.hooks, moment)
                ]
        if own:
            found[moment] = [{**hook.model_dump(), "user": hook.user or ""} for hook in own]
    return found


def ports(service: Service) -> list[int]:
    """TCP ports on the host that lead to the service."""
    published = [
        port.port
        for container in service.containers.values()
        for port in container.ports
        if port.port and port.protocol == "tcp"
    ]
    native = service.block.native
    return sorted({*published, *(native.ports if native else [])})


def _host(policy: Policy) -> dict[str, Any]:
    """The host's own configuration, kept so that a rebuild can be compared with it (B12)."""
    found = [
        {"key": f"paths{path}", "kind": "bind", "source": path, "class": "keep", "required": False}
        for path in policy.host_paths
    ]
    found.append(
        {
            "key": "paths/var/lib/understudy/ledger",
            "kind": "bind",
            "source": "/var/lib/understudy/ledger",
            "class": "keep",
            "required": False,
        }
    )
    return {"group": HOST_GROUP, "tier": "important", "mounts": found, "databases": []}
