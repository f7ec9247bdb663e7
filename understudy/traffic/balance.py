"""Load Balancer mode: Cloudflare's own failover, which can only go where the group runs.

For each move group one monitor, one pool for each host that may own it, and for each public name one load balancer that
tries the owner's pool first. The monitor asks for the group's own probe through each host's tunnel: behind a fence, or
where the guard has stopped the group, nobody answers it, so the one healthy pool is that of the host that holds the
epoch. A load balancer goes before the CNAME of the same name, which stays as it is: switching the mode off needs no DNS.

The claim in the zone stays the authority (flip.py). The order of the pools follows it, as a step of the switchover.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..cloudflare import Tunnel
from ..errors import Refused
from .edge import Edge
from .records import TARGET, Change
from .world import Health, World

__all__ = ["apply", "look", "order", "pool_name", "pools_of"]

KINDS = ("monitors", "pools", "load_balancers")
NEW = "(new)"
Body = dict[str, Any]


def look(edge: Edge, owners: Mapping[str, str], have: Mapping[str, Tunnel]) -> list[Change]:
    """What a converge would change; [] where the inventory says nothing of load balancers. Raises Refused."""
    return _settled(edge, owners, have, write=False)


def apply(edge: Edge, owners: Mapping[str, str], have: Mapping[str, Tunnel]) -> list[Change]:
    """Make them so; a second run finds nothing and writes nothing. Raises Refused, CloudflareError."""
    return _settled(edge, owners, have, write=True)


def order(edge: Edge, group: str, owner: str) -> int:
    """Put the owner's pool first at every name of the group, and make it the fallback. Returns how many were changed."""
    pools = {name: str(pool["id"]) for name, pool in _ours(edge, "pools").items()}
    wanted = pools_of(edge.world, group, owner)
    ids = [pools[name] for name in wanted if name in pools]
    if not ids or wanted[0] not in pools:
        raise Refused(f"{owner} has no pool for the group {group} at Cloudflare: converge first")
    changed, body = 0, {"default_pools": ids, "fallback_pool": ids[0]}
    for name, live in _ours(edge, "load_balancers").items():
        if edge.world.names.get(name) == group and _differs(live, body):
            edge.account.change(edge.zone, "load_balancers", str(live["id"]), body)
            changed += 1
    return changed


def pool_name(world: World, group: str, host: str) -> str:
    """The name of a host's pool: letters, digits, _ and - are what Cloudflare takes."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"understudy-{world.stack}-{group}-{host}")


def pools_of(world: World, group: str, owner: str) -> list[str]:
    """The pools of a group in their order, the owner's first."""
    hosts = [host.name for host in world.hosts if group in host.groups]
    return [pool_name(world, group, name) for name in sorted(hosts, key=lambda name: (name != owner, name))]


def _settled(
    edge: Edge, owners: Mapping[str, str], have: Mapping[str, Tunnel], *, write: bool
) -> list[Change]:
    world = edge.world
    if world.balancer is None:
        return []
    groups = (
        [group for group in world.groups if _complete(world, group, owners, have)]
        if world.balancer.enabled
        else []
    )
    changes, gone = list[Change](), list[tuple[str, Body]]()
    monitors = _kind(edge, "monitors", _monitors(world, groups), changes, gone, write)
    pools = _kind(edge, "pools", _pools(world, groups, have, monitors), changes, gone, write)
    _kind(edge, "load_balancers", _balancers(world, groups, owners, pools), changes, gone, write)
    for kind, live in reversed(gone):  # what is used comes after its users
        changes.append(
            Change(
                "delete",
                str(live.get("name") or live["description"]),
                f"of our {_words(kind)}s, none wanted any more",
            )
        )
        if write:
            edge.account.remove(edge.zone, kind, str(live["id"]))
    return changes


def _complete(world: World, group: str, owners: Mapping[str, str], have: Mapping[str, Tunnel]) -> bool:
    """A group whose owner has no tunnel yet, or that nothing proves, is left to its CNAMEs."""
    return owners.get(group, "") in have and group in world.health


def _monitors(world: World, groups: Iterable[str]) -> dict[str, Body]:
    assert world.balancer is not None
    return {f"monitor of {group}": _monitor(world.health[group], world.balancer.interval) for group in groups}


def _monitor(health: Health, interval: int) -> Body:
    return {
        "type": "http", "method": "GET", "path": health.path, "expected_codes": health.codes, "interval": interval,
        "timeout": 5, "retries": 1, "header": {"Host": [health.name]},
    }  # fmt: skip


def _pools(
    world: World, groups: Iterable[str], have: Mapping[str, Tunnel], monitors: Mapping[str, str]
) -> dict[str, Body]:
    return {
        pool_name(world, group, host.name): {
            "enabled": True,
            "minimum_origins": 1,
            "monitor": monitors[f"monitor of {group}"],
            "origins": [
                {"name": "tunnel", "address": f"{have[host.name].id}{TARGET}", "enabled": True, "weight": 1}
            ],
        }
        for group in groups
        for host in world.hosts
        if group in host.groups and host.name in have
    }


def _balancers(
    world: World, groups: Iterable[str], owners: Mapping[str, str], pools: Mapping[str, str]
) -> dict[str, Body]:
    found = dict[str, Body]()
    for group in groups:
        ids = [pools[name] for name in pools_of(world, group, owners[group]) if name in pools]
        body = {
            "default_pools": ids,
            "fallback_pool": ids[0],
            "steering_policy": "off",
            "proxied": True,
            "enabled": True,
        }
        found |= {name: body for name in world.names_of(group)}
    return found


def _kind(
    edge: Edge,
    kind: str,
    wanted: Mapping[str, Body],
    changes: list[Change],
    gone: list[tuple[str, Body]],
    write: bool,
) -> dict[str, str]:
    """Bring one kind to what it should be; name to id of all that are wanted. What nobody wants is added to ``gone``."""
    live, ids = _ours(edge, kind, wanted), dict[str, str]()
    for name, body in wanted.items():
        there = live.pop(name, None)
        if there is None:
            changes.append(Change("create", name, _words(kind)))
            ids[name] = (
                str(edge.account.make(edge.zone, kind, _named(edge.world, kind, name, body))["id"])
                if write
                else NEW
            )
            continue
        ids[name] = str(there["id"])
        keys = _differs(there, body)
        if keys:
            changes.append(Change("update", name, f"{_words(kind)}: {', '.join(sorted(keys))}"))
            if write:
                edge.account.change(edge.zone, kind, ids[name], {key: body[key] for key in keys})
    gone += [(kind, item) for item in live.values()]
    return ids


def _ours(edge: Edge, kind: str, wanted: Iterable[str] = ()) -> dict[str, Body]:
    """Ours by name, told by their description. Raises Refused for a stranger's that has a name of ours."""
    mark, found = f"understudy/{edge.world.stack}: ", dict[str, Body]()
    for item in edge.account.balancing(edge.zone, kind):
        said = str(item.get("description") or "")
        name = said.removeprefix(mark) if kind == "monitors" else str(item["name"])
        if said.startswith(mark):
            found[name] = item
        elif kind != "monitors" and name in set(wanted):
            raise Refused(
                f"Cloudflare has a {_words(kind)} {name} that is not ours: delete it there, or give it the description "
                f"{mark + 'adopted'!r} to hand it over"
            )
    return found


def _named(world: World, kind: str, name: str, body: Body) -> Body:
    mark = f"understudy/{world.stack}: "
    if kind == "monitors":
        return {**body, "description": f"{mark}{name}"}
    return {**body, "name": name, "description": f"{mark}{_words(kind)}"}


def _differs(live: Body, body: Body) -> set[str]:
    return {key for key, value in body.items() if _plain(live.get(key)) != _plain(value)}


def _plain(value: Any) -> Any:
    """Without the keys that the API adds to origins."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict) and "address" in value:
        return {key: value.get(key) for key in ("name", "address", "enabled", "weight")}
    return value


def _words(kind: str) -> str:
    return {"monitors": "monitor", "pools": "pool", "load_balancers": "load balancer"}[kind]
