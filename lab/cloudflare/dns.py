"""DNS records: one by one, and the batch that is one transaction."""

from __future__ import annotations

import re
import secrets
from typing import Any

from lab.cloudflare.answers import ApiError, Call, Json, Listing, now
from lab.cloudflare.state import State

GIVEN = ("name", "type", "content", "ttl", "proxied", "comment", "tags", "settings", "priority", "data")
ADDRESSES = ("A", "AAAA", "CNAME")
MOST_IN_BATCH = 200
LONGEST_COMMENT = 100
HEX32 = re.compile(r"^[0-9a-f]{32}$")
NO_RECORD = ApiError(404, 81044, "Record does not exist.")


class Records:
    """The handlers; a zone's id is the first varying part of each path."""

    def __init__(self, state: State) -> None:
        self.state = state

    def search(self, call: Call) -> Listing:
        """``name``, ``type``, ``content`` and ``comment`` filter, plain or as ``.exact``, ``.contains``, ``.startswith``."""
        found = [r for r in self._of(call.parts[0]) if all(_matches(r, k, v) for k, v in call.query.items())]
        return Listing(sorted((shown(record) for record in found), key=lambda r: (r["name"], r["id"])))

    def get(self, call: Call) -> Json:
        return shown(self._record(self.state.data, *call.parts))

    def create(self, call: Call) -> Json:
        with self.state.changing() as data:
            return shown(self._post(data, call.parts[0], call.mapping()))

    def put(self, call: Call) -> Json:
        with self.state.changing() as data:
            return shown(self._put(data, call.parts[0], {**call.mapping(), "id": call.parts[1]}))

    def patch(self, call: Call) -> Json:
        with self.state.changing() as data:
            return shown(self._patch(data, call.parts[0], {**call.mapping(), "id": call.parts[1]}))

    def delete(self, call: Call) -> Json:
        with self.state.changing() as data:
            return {"id": self._delete(data, *call.parts)["id"]}

    def batch(self, call: Call) -> Json:
        """Deletes, patches, puts, posts, in this order; all of it or nothing."""
        zone, asked = call.parts[0], call.mapping()
        steps = {kind: list(asked.get(kind) or []) for kind in ("deletes", "patches", "puts", "posts")}
        if sum(map(len, steps.values())) > MOST_IN_BATCH:
            raise ApiError(400, 81064, f"Batch is limited to {MOST_IN_BATCH} operations on this plan.")
        with self.state.changing() as data:
            deleted = [shown(self._delete(data, zone, str(item.get("id")))) for item in steps["deletes"]]
            patched = [shown(self._patch(data, zone, item)) for item in steps["patches"]]
            put = [shown(self._put(data, zone, item)) for item in steps["puts"]]
            posted = [shown(self._post(data, zone, item)) for item in steps["posts"]]
        return {"deletes": deleted, "patches": patched, "puts": put, "posts": posted}

    def _of(self, zone: str) -> list[Json]:
        return [record for record in self.state.data["records"].values() if record["zone_id"] == zone]

    @staticmethod
    def _record(data: Json, zone: str, key: str) -> Json:
        if not HEX32.match(key):
            raise ApiError(400, 7003, f"Could not route to /client/v4/zones/{zone}/dns_records/{key}")
        record = data["records"].get(key)
        if record is None or record["zone_id"] != zone:
            raise NO_RECORD
        return dict(record)

    def _delete(self, data: Json, zone: str, key: str) -> Json:
        record = self._record(data, zone, key)
        del data["records"][key]
        return record

    def _patch(self, data: Json, zone: str, asked: Json) -> Json:
        record = self._record(data, zone, str(asked.get("id")))
        return self._keep(data, {**record, **{key: asked[key] for key in GIVEN if key in asked}})

    def _put(self, data: Json, zone: str, asked: Json) -> Json:
        record = self._record(data, zone, str(asked.get("id")))
        return self._keep(data, {**_new(zone, asked), "id": record["id"], "created_on": record["created_on"]})

    def _post(self, data: Json, zone: str, asked: Json) -> Json:
        return self._keep(data, _new(zone, asked))

    def _keep(self, data: Json, record: Json) -> Json:
        record = {**record, "name": _full_name(record, data["zones"][record["zone_id"]]["name"])}
        _check(record)
        others = [
            other
            for other in data["records"].values()
            if other["zone_id"] == record["zone_id"] and other["id"] != record["id"]
        ]
        _check_clashes(record, [other for other in others if other["name"] == record["name"]])
        record["modified_on"] = now()
        data["records"][record["id"]] = record
        return record


def shown(record: Json) -> Json:
    """A record as the API gives it back."""
    proxiable = record["type"] in ADDRESSES
    return {
        "id": record["id"],
        "name": record["name"],
        "type": record["type"],
        "content": record["content"],
        "proxiable": proxiable,
        "proxied": bool(record["proxied"]),
        "ttl": 1 if record["proxied"] else record["ttl"],
        "settings": record["settings"],
        "meta": {},
        "comment": record["comment"],
        "tags": record["tags"],
        "created_on": record["created_on"],
        "modified_on": record["modified_on"],
    }


def _new(zone: str, asked: Json) -> Json:
    for key in ("name", "type", "content"):
        if not isinstance(asked.get(key), str) or not asked[key]:
            raise ApiError(400, 9005 if key == "content" else 9000, f"DNS record {key} is invalid.")
    moment = now()
    plain: Json = {"ttl": 1, "proxied": False, "comment": None, "tags": [], "settings": {}}
    given = {key: asked[key] for key in GIVEN if asked.get(key) is not None}
    return {
        **plain,
        **given,
        "id": secrets.token_hex(16),
        "zone_id": zone,
        "created_on": moment,
        "modified_on": moment,
    }


def _full_name(record: Json, zone: str) -> str:
    name = str(record["name"]).rstrip(".").lower()
    if name == "@":
        return zone
    return name if name == zone or name.endswith("." + zone) else f"{name}.{zone}"


def _check(record: Json) -> None:
    ttl = record["ttl"]
    if ttl != 1 and not 60 <= ttl <= 86400:
        raise ApiError(400, 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.")
    if len(record["comment"] or "") > LONGEST_COMMENT:
        raise ApiError(400, 9313, f"DNS record comment exceeds {LONGEST_COMMENT} characters.")
    if record["tags"]:
        raise ApiError(400, 9301, "DNS record has 1 tags, exceeding the quota of 0.")
    if record["proxied"] and record["type"] not in ADDRESSES:
        raise ApiError(400, 9004, "This record type cannot be proxied.")
    if record["type"] == "CNAME" and record["content"].rstrip(".").lower() == record["name"]:
        raise ApiError(400, 9039, "CNAME content cannot reference itself.")


def _check_clashes(record: Json, others: list[Json]) -> None:
    """``others`` have the same name."""
    if any((o["type"], o["content"]) == (record["type"], record["content"]) for o in others):
        raise ApiError(400, 81058, "An identical record already exists.")
    if record["type"] == "CNAME" and any(other["type"] in ADDRESSES for other in others):
        raise ApiError(400, 81053, "An A, AAAA, or CNAME record with that host already exists.")
    if record["type"] in ADDRESSES and any(other["type"] == "CNAME" for other in others):
        raise ApiError(400, 81053, "An A, AAAA, or CNAME record with that host already exists.")


def _matches(record: Json, key: str, value: Any) -> bool:
    name, _, how = key.partition(".")
    if name not in ("name", "type", "content", "comment"):
        return True  # paging and order
    held = str(record.get(name) or "")
    if name == "name":
        held, value = held.lower(), value.lower()
    tests = {
        "contains": value in held,
        "startswith": held.startswith(value),
        "endswith": held.endswith(value),
        "absent": not held,
        "present": bool(held),
    }
    return bool(tests.get(how, held == value))
