"""One project: its state, everything that can be asked of it, and the routes to that."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.hetzner import catalog
from lab.hetzner.actions import Actions, Pace, show
from lab.hetzner.addresses import PlacementGroups, PrimaryIps, Volumes
from lab.hetzner.answers import ApiError, Call, Json, not_found, page
from lab.hetzner.faults import Fault
from lab.hetzner.firewalls import Firewalls
from lab.hetzner.keys import SshKeys
from lab.hetzner.machines import Machines
from lab.hetzner.servers import Servers
from lab.hetzner.state import State

Handler = Callable[[Call], Any]
Row = tuple[str, str, int, Handler]


@dataclass(frozen=True)
class Route:
    """A way in. ``status`` of a good answer; ``lists``: the answer is pages of that name."""

    method: str
    pattern: re.Pattern[str]
    status: int
    handler: Handler
    lists: str = ""


class Project:
    """What one token opens."""

    def __init__(self, state: State, machines: Machines, pace: Pace) -> None:
        self.state = state
        self.actions = Actions(state, pace)
        self.firewalls = Firewalls(state, self.actions)
        self.addresses = PrimaryIps(state, self.actions)
        self.servers = Servers(state, self.actions, self.firewalls, self.addresses, machines)
        self.routes = self._routes()

    def answer(self, call: Call, fault: Fault | None) -> tuple[int, Json | None]:
        """Status and body; raises ApiError. What a fault does to actions is told to them here."""
        for route in self.routes:
            found = route.pattern.fullmatch(call.path)
            if found and route.method == call.method:
                return self._served(
                    route, Call(call.method, call.path, call.query, call.body, found.groups()), fault
                )
        if any(route.pattern.fullmatch(call.path) for route in self.routes):
            raise ApiError(405, "method_not_allowed", "method not allowed")
        raise ApiError(404, "not_found", "api route not found")

    def _served(self, route: Route, call: Call, fault: Fault | None) -> tuple[int, Json | None]:
        if call.method == "GET":
            with self.state.lock:
                found = route.handler(call)
                sticky = bool(fault and fault.kind == "sticky")
                return 200, page(route.lists, found, call, sticky) if route.lists else found
        self.actions.fault.now = fault
        try:
            with self.state.changing():
                answer = route.handler(call)
        finally:
            self.actions.fault.now = None
        return route.status, answer

    def _routes(self) -> list[Route]:
        found = [*self._fixed(), *self._kept(), *self._action_lists()]
        servers, walls, addresses = self.servers, self.firewalls, self.addresses
        volumes = Volumes(self.state, self.actions)
        deeds: dict[str, Handler] = {
            "/servers/ID/actions/change_protection": servers.protect,
            "/servers/ID/actions/rebuild": servers.rebuild,
            "/servers/ID/actions/change_type": servers.change_type,
            "/servers/ID/actions/poweron": servers.command("start_server"),
            "/servers/ID/actions/poweroff": servers.command("stop_server"),
            "/servers/ID/actions/shutdown": servers.command("shutdown_server"),
            "/servers/ID/actions/reboot": servers.command("reboot_server"),
            "/servers/ID/actions/reset": servers.command("reset_server"),
            "/servers/ID/actions/enable_backup": servers.backup(True),
            "/servers/ID/actions/disable_backup": servers.backup(False),
            "/firewalls/ID/actions/set_rules": walls.set_rules,
            "/firewalls/ID/actions/apply_to_resources": walls.apply,
            "/firewalls/ID/actions/remove_from_resources": walls.remove,
            "/primary_ips/ID/actions/assign": addresses.assign,
            "/primary_ips/ID/actions/unassign": addresses.unassign,
            "/primary_ips/ID/actions/change_protection": addresses.protect,
            "/volumes/ID/actions/attach": volumes.attach,
            "/volumes/ID/actions/detach": volumes.detach,
            "/volumes/ID/actions/resize": volumes.resize,
            "/volumes/ID/actions/change_protection": volumes.protect,
        }
        return [*found, *(_route("POST", path, 201, deed) for path, deed in deeds.items())]

    def _kept(self) -> list[Route]:
        shelves: dict[str, Any] = {
            "servers": self.servers,
            "firewalls": self.firewalls,
            "primary_ips": self.addresses,
            "volumes": Volumes(self.state, self.actions),
            "placement_groups": PlacementGroups(self.state),
            "ssh_keys": SshKeys(self.state),
        }
        found = []
        for kind, shelf in shelves.items():
            found += [
                _route("GET", f"/{kind}", 200, shelf.search, kind),
                _route("POST", f"/{kind}", 201, shelf.create),
                _route("GET", f"/{kind}/ID", 200, shelf.get),
                _route("PUT", f"/{kind}/ID", 200, shelf.update),
                _route("DELETE", f"/{kind}/ID", 200 if kind == "servers" else 204, shelf.delete),
            ]
        return found

    def _fixed(self) -> list[Route]:
        """What everybody is told alike."""

        def named(rows: Callable[[], list[Json]]) -> Handler:
            def search(call: Call) -> list[Json]:
                wanted, architectures = call.first("name"), call.query.get("architecture") or []
                kinds = call.query.get("type") or []
                return [
                    row
                    for row in rows()
                    if (not wanted or row["name"] == wanted)
                    and (not architectures or row.get("architecture") in architectures)
                    and (not kinds or row.get("type") in kinds)
                ]

            return search

        def one(kind: str, rows: Callable[[], list[Json]]) -> Handler:
            def get(call: Call) -> Json:
                for row in rows():
                    if str(row["id"]) == call.id:
                        return {kind: row}
                raise not_found(kind, call.id)

            return get

        found = [_route("GET", "/pricing", 200, lambda call: {"pricing": catalog.pricing()})]
        lists = {
            "locations": catalog.locations,
            "server_types": catalog.server_types,
            "images": catalog.images,
        }
        for kind, rows in lists.items():
            found.append(_route("GET", f"/{kind}", 200, named(rows), kind))
            found.append(_route("GET", f"/{kind}/ID", 200, one(kind.removesuffix("s"), rows)))
        return found

    def _action_lists(self) -> list[Route]:
        def chosen(call: Call) -> list[Json]:
            found = list(self.state.data["actions"].values())
            if call.args:
                kind = call.path.split("/")[1].removesuffix("s")
                found = self._of(kind, int(call.id))
            wanted, numbers = call.query.get("status") or [], call.query.get("id") or []
            return [
                show(row)
                for row in found
                if (not wanted or row["status"] in wanted) and (not numbers or str(row["id"]) in numbers)
            ]

        def one(call: Call) -> Json:
            return {"action": show(self.state.get("actions", call.args[-1]))}

        def by_number(call: Call) -> list[Json]:
            if not call.query.get("id"):
                raise ApiError(410, "deprecated_api_endpoint", "give the numbers of the actions")
            return chosen(call)

        found = [_route("GET", "/actions", 200, by_number, "actions"), _route("GET", "/actions/ID", 200, one)]
        for kind in ("servers", "firewalls", "primary_ips", "volumes"):
            found += [
                _route("GET", f"/{kind}/actions", 200, chosen, "actions"),
                _route("GET", f"/{kind}/actions/ID", 200, one),
                _route("GET", f"/{kind}/ID/actions", 200, chosen, "actions"),
                _route("GET", f"/{kind}/ID/actions/ID", 200, one),
            ]
        return found

    def _of(self, kind: str, number: int) -> list[Json]:
        return [
            row
            for row in self.state.data["actions"].values()
            if {"id": number, "type": kind} in row["resources"]
        ]


def _route(method: str, path: str, status: int, handler: Handler, lists: str = "") -> Route:
    return Route(method, re.compile(path.replace("ID", r"(\d+)")), status, handler, lists)
