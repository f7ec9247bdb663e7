"""The files and units of a host's guard. Only where another host of the inventory may own one of its groups."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..baseline import AGENT
from ..desired import Stack, UnitWish, Validator
from ..jinja import render
from ..protection import databases
from ..protection.plan import containers_of, ports
from ..service import Service
from ..settings import HostSettings
from ..tree import Entry, directory
from . import auto_secrets
from .policy import GroupSettings

if TYPE_CHECKING:
    from ..catalog import Catalog
    from ..desired import Desired

PLAN = "/etc/understudy/owner.json"
OVERRIDES = "/etc/understudy/guard"
MAY = "/run/understudy/may"
UNITS = "/etc/systemd/system"
CONNECTOR = "cloudflared"
HOST_GROUP = "host"
_RESET = {
    "gpus": "gpus: !reset []",
    "deploy": "deploy: {resources: {reservations: {devices: !reset []}}}",
}
FORMAT = 1


def guarded(catalog: Catalog, settings: HostSettings, placed: list[str]) -> frozenset[str]:
    """The move groups of this host that another host of the inventory may own."""
    if not settings.may_own:
        return frozenset()
    groups = {catalog.services[name].block.group for name in placed} - {HOST_GROUP}
    others = [peer for name, peer in settings.peers.items() if name != settings.name]
    return frozenset(group for group in groups if any(peer.carries(group) for peer in others))


def override(result: Desired, service: Service) -> tuple[str, ...]:
    """The extra Compose file of a stack, where it needs one.

    Guarded, Docker restarts nothing of it, the guard does (protocol.md §1); on a replica it may go without devices.
    """
    guarded = service.block.group in result.guarded
    changed = {name: _changed(result.settings, service, name, guarded) for name in service.all_containers}
    lines = [f"  {json.dumps(name)}: {{{', '.join(keys)}}}" for name, keys in changed.items() if keys]
    if not lines:
        return ()
    path = f"{OVERRIDES}/{service.name}.yaml"
    why = "the guard is the only one who starts this" if guarded else "what this replica does without"
    text = "\n".join([f"# Written by Understudy: {why}.", "services:", *lines, ""])
    result.tree.add(directory(OVERRIDES))
    reaction = f"stack:{service.name}"
    result.tree.add(Entry(path, content=text.encode(), service=service.name, reaction=reaction))
    return (path,)


def _changed(settings: HostSettings, service: Service, name: str, guarded: bool) -> list[str]:
    """The keys of one container that differ from its owner's file, in YAML."""
    keys = ['restart: "no"'] if guarded else []
    if without_devices(settings, service):
        container = service.all_containers[name]
        keys += ["devices: !reset []"] if container.devices else []
        keys += [_RESET[below] for below in container.reserves]
    return keys


def without_devices(settings: HostSettings, service: Service) -> bool:
    """Whether this host leaves a service's devices out."""
    return settings.role == "replica" and "devices" in service.block.replica.without


def condition(result: Desired, service: Service) -> str:
    """The file that a native service asks for before it starts, "" for none."""
    if service.block.group in result.guarded:
        return f"{MAY}/{service.block.group}"
    return f"{MAY}/any" if result.guarded and service.name == CONNECTOR else ""


def add(result: Desired, values: Mapping[str, str]) -> None:
    """Add the guard to what a host should have; nothing where no group is guarded.

    ``values`` are the secrets of ``secrets/lease.yaml``, in auto mode.
    """
    if not result.guarded:
        return
    if leased(result):
        result.tree.add(*auto_secrets.entries(values))
    for entry in _entries(result):
        result.tree.add(entry)
    result.service_units.append(UnitWish("understudy-fence.service"))
    result.service_units.append(UnitWish("understudy-guard.timer"))
    if "nftables" not in result.service_packages:
        result.service_packages.append("nftables")
    units = ["understudy-fence.service", "understudy-guard.service", "understudy-guard.timer"]
    if leased(result):
        units += ["understudy-lease.service", "understudy-lease.timer"]
        result.service_units.append(UnitWish("understudy-lease.timer"))
    for group in refreshed(result):
        units += [f"understudy-refresh-{group}.service", f"understudy-refresh-{group}.timer"]
        result.service_units.append(UnitWish(f"understudy-refresh-{group}.timer"))
    paths = tuple(f"{UNITS}/{name}" for name in units)
    argv = ("systemd-analyze", "verify", "--recursive-errors=no", *(f"{{stage}}{path}" for path in paths))
    result.service_validators.append(Validator("systemd-analyze verify (guard)", argv, paths))


def refreshed(result: Desired) -> list[str]:
    """Groups that this host keeps a replica of while another owns them."""
    backup = result.settings.parts.backup and result.settings.backup.repositories
    return sorted(result.guarded) if backup else []


def content(result: Desired) -> dict[str, Any]:
    """owner.json as plain values (agent/owner/plan.py)."""
    settings, policy = result.settings, result.settings.ownership
    return {
        "format": FORMAT,
        "host": settings.name,
        "domain": settings.domain,
        "resolvers": policy.resolvers,
        "cacert": policy.cacert,
        "boot_wait": policy.boot_wait,
        "keep_days": policy.keep_days,
        "connectors": [f"{CONNECTOR}.service"] if CONNECTOR in result.natives else [],
        **({"auto": _auto(result)} if leased(result) else {}),
        "groups": {group: _group(settings, group) for group in sorted(result.guarded)},
        "services": {
            name: _service(result, result.catalog.services[name])
            for name in result.services
            if result.catalog.services[name].block.group in result.guarded
            and not result.catalog.services[name].empty
        },
    }


def leased(result: Desired) -> list[str]:
    """The guarded groups in auto mode."""
    return [group for group in sorted(result.guarded) if result.settings.ownership.leased(group)]


def _auto(result: Desired) -> dict[str, Any]:
    auto = result.settings.ownership.auto
    assert auto is not None
    return {
        "url": auto.url, "region": auto.region, "seconds": auto.ttl, "groups": leased(result), "key": auto_secrets.PATH,
    }  # fmt: skip


def owners(settings: HostSettings, group: str) -> list[str]:
    """The hosts that may own a group, the first owner first: the first primary that carries it."""
    names = [name for name, peer in settings.peers.items() if peer.carries(group)]
    return sorted(names, key=lambda name: settings.peers[name].role != "primary")


def _group(settings: HostSettings, group: str) -> dict[str, Any]:
    names, policy = owners(settings, group), settings.ownership
    return {
        "first": names[0],
        "hosts": names,
        "offline": policy.offline_of(group),
        "refresh": policy.refresh(group),
        "slots": policy.groups.get(group, GroupSettings()).slots,
    }


def _service(result: Desired, service: Service) -> dict[str, Any]:
    stack: Stack | None = result.stacks.get(service.stack)
    native = service.block.native
    return {
        "group": service.block.group,
        "project": service.project if stack else "",
        "compose": stack.compose() if stack else [],
        **containers_of(service),
        "unit": service.unit if service.native else "",
        "user": native.user if native else "",
        "ports": ports(service),
        "needs": [
            n for n in service.block.needs if n in result.services and not result.catalog.services[n].empty
        ],
        "servers": databases.servers(service),
        "restart": {name: c.restart for name, c in service.containers.items() if c.restart != "no"},
    }


def _entries(result: Desired) -> Iterator[Entry]:
    body = json.dumps(content(result), indent=1, sort_keys=True).encode() + b"\n"
    yield Entry(PLAN, mode=0o600, content=body)
    yield _unit(
        "understudy-fence.service", "guard/fence.service.j2", "unit:understudy-fence.service", agent=AGENT
    )
    yield _unit("understudy-guard.service", "guard/guard.service.j2", "systemd", agent=AGENT)
    yield _unit("understudy-guard.timer", "guard/guard.timer.j2", "unit:understudy-guard.timer")
    if leased(result):
        yield _unit("understudy-lease.service", "guard/lease.service.j2", "systemd", agent=AGENT)
        yield _unit("understudy-lease.timer", "guard/lease.timer.j2", "unit:understudy-lease.timer")
    for group in refreshed(result):
        unit = f"understudy-refresh-{group}"
        values = {
            "agent": AGENT,
            "words": f"refresh {group}",
            "description": f"refresh this host's replica of {group}",
            "timeout": 6 * 3600,
            "lift": False,
            "credentials": "/etc/understudy/secrets/backup",
            "alarm": True,
        }
        yield _unit(f"{unit}.service", "backup/agent.service.j2", "systemd", **values)
        every = result.settings.ownership.refresh(group)
        yield _unit(
            f"{unit}.timer",
            "backup/timer.j2",
            f"unit:{unit}.timer",
            unit=f"{unit}.service",
            description=f"refresh this host's replica of {group}",
            every=every,
            first=180,
            calendar="",
            jitter=min(60, every // 15),
        )


def _unit(name: str, template: str, reaction: str, **values: object) -> Entry:
    return Entry(f"{UNITS}/{name}", content=render(template, **values).encode(), reaction=reaction)
