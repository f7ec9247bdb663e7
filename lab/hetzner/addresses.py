"""Primary IPs, volumes and placement groups: what a server has beside itself."""

from __future__ import annotations

from lab.hetzner import catalog
from lab.hetzner.actions import Actions, show
from lab.hetzner.answers import ApiError, Call, Json, invalid, now
from lab.hetzner.keys import rename
from lab.hetzner.labels import check
from lab.hetzner.state import State, shown

SMALLEST_VOLUME, LARGEST_VOLUME = 10, 10240


def place_of(call: Call) -> Json:
    """The location a request names."""
    found = catalog.location(str(call.need("location")))
    if found is None:
        raise invalid("location", f"location {call.body['location']!r} not found")
    return found


def refuse_protected(row: Json) -> None:
    if row["protection"]["delete"]:
        raise ApiError(423, "protected", "resource is delete protected")


class PrimaryIps:
    """The calls under /primary_ips."""

    def __init__(self, state: State, actions: Actions) -> None:
        self.state, self.actions = state, actions

    def search(self, call: Call) -> list[Json]:
        rows = self.state.rows("primary_ips", call.first("name"), call.first("label_selector"))
        wanted = call.first("ip")
        return [shown(row) for row in rows if not wanted or row["ip"] == wanted]

    def create(self, call: Call) -> Json:
        name, kind = str(call.need("name")), call.need("type")
        self.state.require_free_name("primary_ips", name)
        if call.body.get("assignee_id"):
            raise ApiError(422, "server_not_stopped", "the server must be off to be given an address")
        row = self.add(kind, name, place_of(call), bool(call.body.get("auto_delete")))
        row["labels"] = check(call.body.get("labels"))
        return {
            "primary_ip": shown(row),
            "action": show(self.actions.begin("create_primary_ip", [("primary_ip", row["id"])], quick=True)),
        }

    def add(self, kind: str, name: str, place: Json, auto_delete: bool, server: int | None = None) -> Json:
        """A new address, kept."""
        number = self.state.new_id()
        address = self.state.free_address() if kind == "ipv4" else f"2001:db8:{number & 0xFFFF:x}::/64"
        row: Json = {
            "id": number,
            "name": name or f"primary_ip-{number}",
            "labels": {},
            "created": now(),
            "blocked": False,
            "location": place,
            "ip": address,
            "dns_ptr": [],
            "protection": {"delete": False},
            "type": kind,
            "auto_delete": auto_delete,
            "assignee_type": "server",
            "assignee_id": server,
        }
        if kind == "ipv4":
            row["dns_ptr"] = [{"ip": address, "dns_ptr": f"static.{address}.clients.lab.example"}]
        self.state.data["primary_ips"][str(number)] = row
        return row

    def get(self, call: Call) -> Json:
        return {"primary_ip": shown(self.state.get("primary_ips", call.id))}

    def update(self, call: Call) -> Json:
        row = self.state.get("primary_ips", call.id)
        rename(self.state, "primary_ips", row, call)
        row["auto_delete"] = call.body.get("auto_delete", row["auto_delete"])
        return {"primary_ip": shown(row)}

    def delete(self, call: Call) -> None:
        row = self.state.get("primary_ips", call.id)
        refuse_protected(row)
        if row["assignee_id"]:
            raise ApiError(422, "must_be_unassigned", "primary IP must be unassigned before it is deleted")
        del self.state.data["primary_ips"][call.id]

    def protect(self, call: Call) -> Json:
        row = self.state.get("primary_ips", call.id)
        row["protection"] = {"delete": bool(call.need("delete"))}
        return {
            "action": show(self.actions.begin("change_protection", [("primary_ip", row["id"])], quick=True))
        }

    def assign(self, call: Call) -> Json:
        row = self.state.get("primary_ips", call.id)
        server = self.state.get("servers", call.need("assignee_id"))
        self._require_off(server)
        row["assignee_id"] = server["id"]
        return {"action": show(self.actions.begin("assign_primary_ip", [("primary_ip", row["id"])]))}

    def unassign(self, call: Call) -> Json:
        row = self.state.get("primary_ips", call.id)
        if row["assignee_id"]:
            self._require_off(self.state.get("servers", row["assignee_id"]))
        row["assignee_id"] = None
        return {"action": show(self.actions.begin("unassign_primary_ip", [("primary_ip", row["id"])]))}

    def _require_off(self, server: Json) -> None:
        if server["_power"] != "off":
            raise ApiError(422, "server_not_stopped", "the server must be off")


class Volumes:
    """The calls under /volumes."""

    def __init__(self, state: State, actions: Actions) -> None:
        self.state, self.actions = state, actions

    def search(self, call: Call) -> list[Json]:
        rows = self.state.rows("volumes", call.first("name"), call.first("label_selector"))
        return [shown(row) for row in rows]

    def create(self, call: Call) -> Json:
        name, size = str(call.need("name")), call.need("size")
        self.state.require_free_name("volumes", name)
        if not isinstance(size, int) or not SMALLEST_VOLUME <= size <= LARGEST_VOLUME:
            raise invalid("size", f"Must be between {SMALLEST_VOLUME} and {LARGEST_VOLUME}.")
        server = self.state.get("servers", call.body["server"]) if call.body.get("server") else None
        number = self.state.new_id()
        row: Json = {
            "id": number,
            "created": now(),
            "name": name,
            "server": server["id"] if server else None,
            "location": catalog.location(server["_location"]) if server else place_of(call),
            "size": size,
            "linux_device": f"/dev/disk/by-id/scsi-0HC_Volume_{number}",
            "protection": {"delete": False},
            "labels": check(call.body.get("labels")),
            "status": "available",
            "format": call.body.get("format"),
        }
        self.state.data["volumes"][str(number)] = row
        action = self.actions.begin("create_volume", [("volume", number)])
        return {"volume": shown(row), "action": show(action), "next_actions": []}

    def get(self, call: Call) -> Json:
        return {"volume": shown(self.state.get("volumes", call.id))}

    def update(self, call: Call) -> Json:
        row = self.state.get("volumes", call.id)
        rename(self.state, "volumes", row, call)
        return {"volume": shown(row)}

    def delete(self, call: Call) -> None:
        row = self.state.get("volumes", call.id)
        refuse_protected(row)
        if row["server"]:
            raise ApiError(422, "volume_still_attached", "volume is still attached to a server")
        del self.state.data["volumes"][call.id]

    def attach(self, call: Call) -> Json:
        row, server = self.state.get("volumes", call.id), self.state.get("servers", call.need("server"))
        if row["server"]:
            raise ApiError(422, "volume_already_attached", "volume is already attached to a server")
        if row["location"]["name"] != server["_location"]:
            raise ApiError(422, "invalid_input", "volume and server are not in the same location")
        row["server"] = server["id"]
        pair = [("volume", row["id"]), ("server", server["id"])]
        return {"action": show(self.actions.begin("attach_volume", pair))}

    def detach(self, call: Call) -> Json:
        row = self.state.get("volumes", call.id)
        if not row["server"]:
            raise ApiError(422, "volume_not_attached", "volume is not attached to a server")
        pair = [("volume", row["id"]), ("server", row["server"])]
        row["server"] = None
        return {"action": show(self.actions.begin("detach_volume", pair))}

    def resize(self, call: Call) -> Json:
        row, size = self.state.get("volumes", call.id), call.need("size")
        if size <= row["size"]:
            raise invalid("size", "must be larger than the current size")
        row["size"] = size
        return {"action": show(self.actions.begin("resize_volume", [("volume", row["id"])]))}

    def protect(self, call: Call) -> Json:
        row = self.state.get("volumes", call.id)
        row["protection"] = {"delete": bool(call.need("delete"))}
        return {"action": show(self.actions.begin("change_protection", [("volume", row["id"])], quick=True))}


class PlacementGroups:
    """The calls under /placement_groups."""

    def __init__(self, state: State) -> None:
        self.state = state

    def search(self, call: Call) -> list[Json]:
        return self.state.rows("placement_groups", call.first("name"), call.first("label_selector"))

    def create(self, call: Call) -> Json:
        name = str(call.need("name"))
        self.state.require_free_name("placement_groups", name)
        row = {
            "id": self.state.new_id(),
            "name": name,
            "labels": check(call.body.get("labels")),
            "type": "spread",
            "created": now(),
            "servers": [],
        }
        self.state.data["placement_groups"][str(row["id"])] = row
        return {"placement_group": row, "action": None}

    def get(self, call: Call) -> Json:
        return {"placement_group": self.state.get("placement_groups", call.id)}

    def update(self, call: Call) -> Json:
        row = self.state.get("placement_groups", call.id)
        rename(self.state, "placement_groups", row, call)
        return {"placement_group": row}

    def delete(self, call: Call) -> None:
        row = self.state.get("placement_groups", call.id)
        if row["servers"]:
            raise ApiError(422, "resource_in_use", "placement group still has servers")
        del self.state.data["placement_groups"][call.id]
