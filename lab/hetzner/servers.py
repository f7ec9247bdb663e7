"""Servers: each is a machine of its own, made, started and removed by actions."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from lab.hetzner import catalog
from lab.hetzner.actions import Actions, show
from lab.hetzner.addresses import PrimaryIps
from lab.hetzner.answers import ApiError, Call, Json, invalid, not_found, now
from lab.hetzner.firewalls import Firewalls
from lab.hetzner.keys import rename
from lab.hetzner.labels import check
from lab.hetzner.machines import Machine, Machines
from lab.hetzner.state import State

NAME = re.compile(
    r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$"
)
MOST_USER_DATA = 32 * 1024


@dataclass
class Limits:
    """Quotas of the project."""

    servers: int = 5


class Servers:
    """The calls under /servers, and the jobs behind their actions."""

    def __init__(
        self, state: State, actions: Actions, firewalls: Firewalls, addresses: PrimaryIps, machines: Machines
    ) -> None:
        self.state, self.actions, self.firewalls = state, actions, firewalls
        self.addresses, self.machines = addresses, machines
        self.limits = Limits()
        actions.jobs |= {
            "create_server": self._made,
            "start_server": self._started,
            "reboot_server": self._rebooted,
            "reset_server": self._reset,
            "stop_server": lambda number: self._stopped(number, hard=True),
            "shutdown_server": lambda number: self._stopped(number, hard=False),
            "rebuild_server": self._rebuilt,
            "delete_server": self._deleted,
        }

    # Calls

    def search(self, call: Call) -> list[Json]:
        rows = self.state.rows("servers", call.first("name"), call.first("label_selector"))
        wanted = call.query.get("status") or []
        found = [self.show(row) for row in rows]
        return [row for row in found if not wanted or row["status"] in wanted]

    def get(self, call: Call) -> Json:
        return {"server": self.show(self.state.get("servers", call.id))}

    def update(self, call: Call) -> Json:
        row = self.state.get("servers", call.id)
        rename(self.state, "servers", row, call)
        return {"server": self.show(row)}

    def create(self, call: Call) -> Json:
        row, body = self._new(call), call.body
        number = row["id"]
        keys = [self.state.find("ssh_keys", key)["public_key"] for key in body.get("ssh_keys") or []]
        row["_keys"] = keys
        self.state.data["servers"][str(number)] = row
        self._connect(row, body.get("public_net") or {})
        for wish in body.get("firewalls") or []:
            self.firewalls.attach(self.state.get("firewalls", wish["firewall"]), number)
        first = self.actions.begin("create_server", [("server", number)])
        following = [self._attach(row, volume, first) for volume in body.get("volumes") or []]
        if body.get("start_after_create", True):
            following.append(self.actions.begin("start_server", [("server", number)], after=first))
        password = None if keys else secrets.token_urlsafe(12)
        return {
            "server": self.show(row),
            "action": show(first),
            "next_actions": [show(action) for action in following],
            "root_password": password,
        }

    def delete(self, call: Call) -> Json:
        row = self._unlocked(call)
        if row["protection"]["delete"]:
            raise ApiError(423, "protected", "server is delete protected")
        row["_power"] = "deleting"
        return {"action": show(self.actions.begin("delete_server", [("server", row["id"])]))}

    def protect(self, call: Call) -> Json:
        row = self._unlocked(call)
        wish = {name: bool(call.body.get(name, row["protection"][name])) for name in ("delete", "rebuild")}
        if wish["delete"] != wish["rebuild"]:
            raise invalid("delete", "delete and rebuild protection must be the same")
        row["protection"] = wish
        return self._action("change_protection", row, quick=True)

    def rebuild(self, call: Call) -> Json:
        row = self._unlocked(call)
        if row["protection"]["rebuild"]:
            raise ApiError(423, "protected", "server is rebuild protected")
        row["image"] = self._image(call, row["server_type"]["architecture"])
        if call.body.get("user_data") is not None:  # else the former one runs again
            row["_user_data"] = call.body["user_data"]
        return {**self._action("rebuild_server", row), "root_password": None}

    def command(self, name: str) -> Callable[[Call], Json]:
        """A call that only starts an action: reboot, poweron, ..."""
        return lambda call: self._action(name, self._unlocked(call))

    def backup(self, on: bool) -> Callable[[Call], Json]:
        def change(call: Call) -> Json:
            row = self._unlocked(call)
            row["backup_window"] = "22-02" if on else None
            return self._action("enable_backup" if on else "disable_backup", row, quick=True)

        return change

    def change_type(self, call: Call) -> Json:
        row = self._unlocked(call)
        if row["_power"] != "off":
            raise ApiError(422, "server_not_stopped", "the server must be off to change its type")
        wanted = catalog.server_type(str(call.need("server_type")))
        if wanted is None:
            raise invalid("server_type", "server type not found")
        row["server_type"] = wanted
        return self._action("change_server_type", row)

    # What a request asks for

    def _new(self, call: Call) -> Json:
        body, name = call.body, str(call.need("name"))
        if not NAME.match(name):
            raise invalid("name", "Not a valid hostname.")
        self.state.require_free_name("servers", name)
        if len((body.get("user_data") or "").encode()) > MOST_USER_DATA:
            raise invalid("user_data", f"Longer than maximum length {MOST_USER_DATA}.")
        if len(self.state.data["servers"]) >= self.limits.servers:
            raise ApiError(403, "resource_limit_exceeded", "server limit exceeded")
        kind = catalog.server_type(str(call.need("server_type")))
        if kind is None:
            raise invalid("server_type", "server type not found")
        place = self._place(body, kind)
        return {
            "id": self.state.new_id(),
            "name": name,
            "created": now(),
            "server_type": kind,
            "image": self._image(call, kind["architecture"]),
            "iso": None,
            "rescue_enabled": False,
            "backup_window": None,
            "outgoing_traffic": 0,
            "ingoing_traffic": 0,
            "included_traffic": 20 * 1024**4,
            "protection": {"delete": False, "rebuild": False},
            "labels": check(body.get("labels")),
            "private_net": [],
            "load_balancers": [],
            "primary_disk_size": kind["disk"],
            "placement_group": self._group(body),
            "_location": place,
            "_power": "initializing",
            "_user_data": body.get("user_data") or "",
        }

    def _place(self, body: Json, kind: Json) -> str:
        name = str(body.get("location") or "fsn1")
        place = catalog.location(name)
        if place is None:
            raise invalid("location", f"location {name!r} not found")
        sold = {row["name"]: row for row in kind["locations"]}
        if place["name"] not in sold or kind["deprecated"]:
            raise ApiError(412, "resource_unavailable", "error during placement")
        return str(place["name"])

    def _image(self, call: Call, architecture: str) -> Json:
        found = catalog.image(str(call.need("image")), architecture)
        if found is None:
            raise invalid("image", "image not found")
        if found["architecture"] != architecture:
            raise invalid("image", "image and server type have different architectures")
        return found

    def _group(self, body: Json) -> Json | None:
        wanted = body.get("placement_group")
        return self.state.get("placement_groups", wanted) if wanted else None

    def _connect(self, row: Json, wish: Json) -> None:
        """The server's addresses: those it asks for, or new ones that go with it."""
        place = catalog.location(row["_location"])
        assert place is not None
        row["_ipv4"] = row["_ipv6"] = 0
        for kind in ("ipv4", "ipv6"):
            if wish.get(f"enable_{kind}") is False:
                continue
            address = self._wanted(wish.get(kind), kind, place)
            address["assignee_id"] = row["id"]
            row[f"_{kind}"] = address["id"]

    def _wanted(self, given: object, kind: str, place: Json) -> Json:
        if not given:
            return self.addresses.add(kind, "", place, True)
        address = self.state.get("primary_ips", given)
        if address["type"] != kind:
            raise ApiError(412, "primary_ip_version_mismatch", "primary IP has another version")
        if address["assignee_id"]:
            raise ApiError(422, "primary_ip_assigned", "primary IP is already assigned")
        if address["location"]["name"] != place["name"]:
            raise ApiError(422, "primary_ip_datacenter_mismatch", "primary IP is in another location")
        return address

    def _attach(self, row: Json, volume: int, after: Json) -> Json:
        found = self.state.get("volumes", volume)
        if found["server"]:
            raise ApiError(422, "volume_already_attached", "volume is already attached to a server")
        found["server"] = row["id"]
        return self.actions.begin("attach_volume", [("volume", volume), ("server", row["id"])], after=after)

    def _unlocked(self, call: Call) -> Json:
        row = self.state.get("servers", call.id)
        if row["_power"] == "deleting":
            raise not_found("server", call.id)
        if self.actions.running("server", row["id"]):
            raise ApiError(423, "locked", "server is locked")
        return row

    def _action(self, command: str, row: Json, quick: bool = False) -> Json:
        return {"action": show(self.actions.begin(command, [("server", row["id"])], quick=quick))}

    # Jobs

    def machine(self, row: Json) -> Machine:
        ip = self.state.data["primary_ips"].get(str(row["_ipv4"]), {}).get("ip", "")
        return Machine(row["id"], row["name"], ip, row["_user_data"], tuple(row.get("_keys") or ()))

    def _power(self, number: int, power: str) -> Json:
        with self.state.changing():
            row = self.state.get("servers", number)
            row["_power"] = power
            return row

    def _made(self, number: int) -> None:
        self.machines.create(self.machine(self.state.get("servers", number)))
        self._power(number, "off")

    def _started(self, number: int) -> None:
        self.machines.start(self.machine(self._power(number, "starting")))
        self._power(number, "running")

    def _stopped(self, number: int, hard: bool) -> None:
        self.machines.stop(self.machine(self._power(number, "stopping")), hard)
        self._power(number, "off")

    def _rebooted(self, number: int) -> None:
        self._stopped(number, hard=False)
        self._started(number)

    def _reset(self, number: int) -> None:
        self._stopped(number, hard=True)
        self._started(number)

    def _rebuilt(self, number: int) -> None:
        machine = self.machine(self._power(number, "rebuilding"))
        self.machines.destroy(machine)
        self.machines.create(machine)
        self._started(number)

    def _deleted(self, number: int) -> None:
        if str(number) not in self.state.data["servers"]:
            return  # done before a restart
        self.machines.destroy(self.machine(self.state.get("servers", number)))
        with self.state.changing() as data:
            self.firewalls.forget(number)
            for volume in data["volumes"].values():
                volume["server"] = None if volume["server"] == number else volume["server"]
            for key, address in list(data["primary_ips"].items()):
                if address["assignee_id"] == number:
                    address["assignee_id"] = None
                    if address["auto_delete"]:
                        del data["primary_ips"][key]
            data["servers"].pop(str(number), None)

    # Answers

    def show(self, row: Json) -> Json:
        found = {key: value for key, value in row.items() if not key.startswith("_")}
        number = row["id"]
        return {
            **found,
            "status": row["_power"],
            "location": catalog.location(row["_location"]),
            "locked": bool(self.actions.running("server", number)),
            "public_net": self._net(row),
            "volumes": [v["id"] for v in self.state.data["volumes"].values() if v["server"] == number],
        }

    def _net(self, row: Json) -> Json:
        status = "pending" if row["_power"] == "initializing" else "applied"
        return {
            "ipv4": self._address(row["_ipv4"], four=True),
            "ipv6": self._address(row["_ipv6"], four=False),
            "floating_ips": [],
            "firewalls": [
                {"id": wall["id"], "status": status} for wall in self.firewalls.of_server(row["id"])
            ],
        }

    def _address(self, number: int, four: bool) -> Json | None:
        row = self.state.data["primary_ips"].get(str(number))
        if row is None:
            return None
        pointer = row["dns_ptr"][0]["dns_ptr"] if four and row["dns_ptr"] else []
        return {"id": row["id"], "ip": row["ip"], "blocked": False, "dns_ptr": pointer}
