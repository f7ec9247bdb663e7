"""Tunnels of the account: created with a secret, configured remotely, connected to by connectors."""

from __future__ import annotations

import base64
import json
import secrets
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from lab.cloudflare.answers import ApiError, Call, Json, Listing, now
from lab.cloudflare.state import State, new_secret

NO_TUNNEL = ApiError(404, 1003, "Tunnel not found")
LAST_RULE = "Bad Configuration: The last ingress rule must match all URLs (i.e. it should not have a hostname or path filter)"


class Hub(Protocol):
    """Where the tunnels' connections arrive (lab/edge/hub.py)."""

    def clients(self, tunnel: str) -> list[Json]:
        """The connectors of a tunnel in the API's form (TunnelClient)."""

    def drop(self, tunnel: str, client: str = "") -> None:
        """End a tunnel's connections, or those of one connector."""

    def configure(self, tunnel: str, config: Json, version: int) -> None:
        """Send a new configuration to the connectors."""


class Tunnels:
    """The handlers; the varying parts of a path are the account's id and the tunnel's."""

    def __init__(self, state: State, hub: Hub, endpoint: Callable[[], str]) -> None:
        self.state, self.hub, self.endpoint = state, hub, endpoint

    def search(self, call: Call) -> Listing:
        found = [self.shown(tunnel) for tunnel in self.state.data["tunnels"].values()]
        wanted_deleted = call.query.get("is_deleted", "false") == "true"
        found = [tunnel for tunnel in found if bool(tunnel["deleted_at"]) == wanted_deleted]
        for key, query in (("name", "name"), ("id", "uuid"), ("status", "status")):
            if query in call.query:
                found = [tunnel for tunnel in found if tunnel[key] == call.query[query]]
        return Listing(found, 20)

    def create(self, call: Call) -> Json:
        asked = call.mapping()
        name = asked.get("name")
        if not isinstance(name, str) or not name:
            raise ApiError(400, 1001, "Tunnel name is required")
        secret = asked.get("tunnel_secret") or new_secret()
        _check_secret(secret)
        with self.state.changing() as data:
            if any(t["name"] == name and not t["deleted_at"] for t in data["tunnels"].values()):
                raise ApiError(409, 1013, "You already have a tunnel with this name")
            tunnel = _new(name, secret, asked.get("config_src", "local"))
            data["tunnels"][tunnel["id"]] = tunnel
        credentials = {
            "AccountTag": self.state.account,
            "TunnelID": tunnel["id"],
            "TunnelName": name,
            "TunnelSecret": secret,
        }
        return {**self.shown(tunnel), "credentials_file": credentials, "token": self._token(tunnel)}

    def get(self, call: Call) -> Json:
        return self.shown(self._tunnel(self.state.data, call.parts[1], deleted=True))

    def patch(self, call: Call) -> Json:
        """A new name or a new secret: connections of the old secret stay, new ones need the new."""
        asked = call.mapping()
        with self.state.changing() as data:
            tunnel = self._tunnel(data, call.parts[1])
            if "tunnel_secret" in asked:
                _check_secret(asked["tunnel_secret"])
                tunnel["secret"] = asked["tunnel_secret"]
            tunnel["name"] = asked.get("name", tunnel["name"])
            data["tunnels"][tunnel["id"]] = tunnel
        return self.shown(tunnel)

    def delete(self, call: Call) -> Json:
        with self.state.changing() as data:
            tunnel = self._tunnel(data, call.parts[1])
            if self.hub.clients(tunnel["id"]):
                raise ApiError(400, 1022, "Cannot delete tunnel because it has active connections")
            tunnel["deleted_at"] = now()
            data["tunnels"][tunnel["id"]] = tunnel
        return self.shown(tunnel)

    def token(self, call: Call) -> str:
        return self._token(self._tunnel(self.state.data, call.parts[1]))

    def connections(self, call: Call) -> list[Json]:
        return self.hub.clients(self._tunnel(self.state.data, call.parts[1])["id"])

    def drop_connections(self, call: Call) -> Json:
        tunnel = self._tunnel(self.state.data, call.parts[1])
        self.hub.drop(tunnel["id"], call.query.get("client_id", ""))
        return {}

    def configuration(self, call: Call) -> Json:
        return self._configuration(self._tunnel(self.state.data, call.parts[1]))

    def configure(self, call: Call) -> Json:
        """Replaces the whole configuration; the connectors get it at once."""
        config = call.mapping().get("config")
        if not isinstance(config, dict):
            raise ApiError(400, 1056, "Bad Configuration: a config object is required")
        _check_ingress(config.get("ingress"))
        with self.state.changing() as data:
            tunnel = self._tunnel(data, call.parts[1])
            # The API echoes defaults that nobody sent: a comparison of everything would never settle.
            tunnel["config"] = {**config, "warp-routing": {"enabled": False}}
            tunnel["version"] += 1
            tunnel["config_src"] = "cloudflare" if tunnel["config_src"] == "cloudflare" else "local"
            data["tunnels"][tunnel["id"]] = tunnel
        if tunnel["config_src"] == "cloudflare":
            self.hub.configure(tunnel["id"], tunnel["config"], tunnel["version"])
        return self._configuration(tunnel)

    def shown(self, tunnel: Json) -> Json:
        """A tunnel as the API gives it: without its connections, since October 2026."""
        remote = tunnel["config_src"] == "cloudflare"
        return {
            "id": tunnel["id"],
            "account_tag": self.state.account,
            "name": tunnel["name"],
            "created_at": tunnel["created_at"],
            "deleted_at": tunnel["deleted_at"],
            "config_src": tunnel["config_src"],
            "remote_config": remote,
            "status": self._status(tunnel["id"], tunnel["seen_at"]),
            "tun_type": "cfd_tunnel",
            "metadata": {},
            "conns_active_at": tunnel["seen_at"],
            "conns_inactive_at": None,
        }

    def seen(self, key: str) -> None:
        """A connector of this tunnel has registered."""
        with self.state.changing() as data:
            data["tunnels"][key]["seen_at"] = now()

    def admits(self, account: str, key: str, secret: str) -> Json | None:
        """The tunnel whose connector comes with this secret, None when it may not."""
        tunnel = self.state.data["tunnels"].get(key)
        if account != self.state.account or tunnel is None or tunnel["deleted_at"]:
            return None
        return dict(tunnel) if secrets.compare_digest(tunnel["secret"], secret) else None

    def _status(self, key: str, seen: str | None) -> str:
        count = sum(len(client["conns"]) for client in self.hub.clients(key))
        if count:
            return "healthy" if count >= 4 else "degraded"
        return "down" if seen else "inactive"

    def _configuration(self, tunnel: Json) -> Json:
        return {
            "account_id": self.state.account,
            "tunnel_id": tunnel["id"],
            "version": tunnel["version"],
            "config": tunnel["config"],
            "source": tunnel["config_src"],
            "created_at": tunnel["created_at"],
        }

    def _token(self, tunnel: Json) -> str:
        # "e" names the edge to connect to; Cloudflare uses it for regions, the lab for its own edge.
        fields = {
            "a": self.state.account,
            "t": tunnel["id"],
            "s": tunnel["secret"],
            "e": self.endpoint(),
        }
        return base64.b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode()

    @staticmethod
    def _tunnel(data: Json, key: str, deleted: bool = False) -> Json:
        tunnel = data["tunnels"].get(key)
        if tunnel is None or (tunnel["deleted_at"] and not deleted):
            raise NO_TUNNEL
        return dict(tunnel)


def _new(name: str, secret: str, source: str) -> Json:
    return {
        "id": str(uuid.uuid4()),
        "name": name,
        "secret": secret,
        "config_src": source,
        "config": None,
        "version": 0,
        "created_at": now(),
        "deleted_at": None,
        "seen_at": None,
    }


def _check_secret(secret: Any) -> None:
    try:
        enough = len(base64.b64decode(secret, validate=True)) >= 32
    except (ValueError, TypeError):
        enough = False
    if not enough:
        raise ApiError(400, 1004, "tunnel_secret must be base64 of at least 32 bytes")


def _check_ingress(rules: Any) -> None:
    if (
        not isinstance(rules, list)
        or not rules
        or not all(isinstance(r, dict) and r.get("service") for r in rules)
    ):
        raise ApiError(400, 1056, "Bad Configuration: every ingress rule needs a service")
    if rules[-1].get("hostname") or rules[-1].get("path"):
        raise ApiError(400, 1056, LAST_RULE)
