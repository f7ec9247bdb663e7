"""Load balancing: monitors that really probe, pools, load balancers, and standalone health checks."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from lab.cloudflare.answers import ApiError, Call, Json, Listing, now
from lab.cloudflare.state import State

DEFAULTS: dict[str, Json] = {
    "monitors": {
        "type": "http", "method": "GET", "path": "/", "interval": 60, "timeout": 5, "retries": 2, "port": 0,
        "expected_codes": "200", "expected_body": "", "description": "", "allow_insecure": False,
        "follow_redirects": False, "header": {}, "consecutive_up": 0, "consecutive_down": 0, "probe_zone": "",
    },
    "pools": {"description": "", "enabled": True, "minimum_origins": 1, "origins": [], "monitor": None,
              "check_regions": None, "notification_email": ""},
    "load_balancers": {"description": "", "enabled": True, "ttl": 30, "proxied": True, "steering_policy": "off",
                       "default_pools": [], "fallback_pool": "", "session_affinity": "none"},
    "healthchecks": {"description": "", "suspended": False, "interval": 60, "retries": 2, "timeout": 5,
                     "consecutive_up": 1, "consecutive_down": 1, "type": "HTTP", "check_regions": None,
                     "http_config": None, "tcp_config": None, "failure_reason": "", "status": "unknown"},
}  # fmt: skip
REQUIRED = {
    "monitors": (),
    "pools": ("name", "origins"),
    "load_balancers": ("name", "default_pools", "fallback_pool"),
    "healthchecks": ("name", "address"),
}
MOST_OF_A_KIND = 20


class Balancers:
    """The four kinds, and what the monitors have seen. ``healthy`` asks the prober about one origin of a pool."""

    def __init__(self, state: State, healthy: Callable[[Json, Json], tuple[bool, str]]) -> None:
        self.state, self.healthy = state, healthy

    def shelf(self, kind: str) -> Shelf:
        return Shelf(self.state, kind)

    def health(self, call: Call) -> Json:
        """GET .../pools/ID/health: each origin as the last probe saw it."""
        pool = self.state.data["pools"].get(call.parts[1])
        if pool is None:
            raise ApiError(404, 1001, "could not find pool")
        seen = [(origin, *self.healthy(pool, origin)) for origin in pool["origins"]]
        origins = [
            {origin["address"]: {"healthy": well, "failure_reason": why}} for origin, well, why in seen
        ]
        region = {"healthy": any(well for _, well, _ in seen), "origins": origins}
        return {"pool_id": pool["id"], "pop_health": region}


class Shelf:
    """Create, read, change and remove objects of one kind."""

    def __init__(self, state: State, kind: str) -> None:
        self.state, self.kind = state, kind

    def search(self, call: Call) -> Listing:
        return Listing([shown(item) for item in self.state.data[self.kind].values() if _mine(item, call)])

    def get(self, call: Call) -> Json:
        return shown(self._find(self.state.data, call))

    def create(self, call: Call) -> Json:
        asked = call.mapping()
        missing = [key for key in REQUIRED[self.kind] if not asked.get(key)]
        if missing:
            raise ApiError(400, 1002, f"validation failed: {missing[0]} is required")
        with self.state.changing() as data:
            if len(data[self.kind]) >= MOST_OF_A_KIND:
                raise ApiError(403, 1005, f"quota of {MOST_OF_A_KIND} {self.kind} reached")
            moment = now()
            item = {**DEFAULTS[self.kind], **asked, "id": secrets.token_hex(16), "owner": call.parts[0]}
            item |= {"created_on": moment, "modified_on": moment}
            self._check(data, item)
            data[self.kind][item["id"]] = item
        return shown(item)

    def put(self, call: Call) -> Json:
        return self._change(call, DEFAULTS[self.kind])

    def patch(self, call: Call) -> Json:
        return self._change(call, {})

    def delete(self, call: Call) -> Json:
        with self.state.changing() as data:
            item = self._find(data, call)
            _check_unused(data, self.kind, item["id"])
            del data[self.kind][item["id"]]
        return {"id": item["id"]}

    def _change(self, call: Call, base: Json) -> Json:
        with self.state.changing() as data:
            old = self._find(data, call)
            item = {**old, **base, **call.mapping(), "id": old["id"], "modified_on": now()}
            item["owner"] = call.parts[0]
            self._check(data, item)
            data[self.kind][item["id"]] = item
        return shown(item)

    def _find(self, data: Json, call: Call) -> Json:
        item = data[self.kind].get(call.parts[1])
        if item is None or not _mine(item, call):
            raise ApiError(404, 1001, f"could not find {self.kind.rstrip('s')}")
        return dict(item)

    def _check(self, data: Json, item: Json) -> None:
        known: dict[str, Any] = data["pools"]
        if self.kind == "load_balancers":
            wanted = [*item["default_pools"], item["fallback_pool"]]
            unknown = [pool for pool in wanted if pool not in known]
            if unknown:
                raise ApiError(400, 1002, f"validation failed: pool {unknown[0]} does not exist")
        addresses = [origin["address"] for origin in item.get("origins") or []]
        if len(set(addresses)) != len(addresses):
            raise ApiError(400, 1002, "validation failed: origin addresses must be unique")


def shown(item: Json) -> Json:
    return {key: value for key, value in item.items() if key != "owner"}


def _mine(item: Json, call: Call) -> bool:
    return bool(item["owner"] == call.parts[0])


def _check_unused(data: Json, kind: str, key: str) -> None:
    users = {
        "monitors": [pool["name"] for pool in data["pools"].values() if pool["monitor"] == key],
        "pools": [
            balancer["name"]
            for balancer in data["load_balancers"].values()
            if key in (*balancer["default_pools"], balancer["fallback_pool"])
        ],
    }
    if users.get(kind):
        raise ApiError(412, 1006, f"resource is in use by {users[kind][0]}")
