"""Who asks, and whether the token may: Cloudflare's own numbers and sentences for every way it refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lab.cloudflare.answers import AUTHENTICATION, UNAUTHORIZED, ApiError, Json
from lab.cloudflare.state import State

BEARER = re.compile(r"^Bearer ([A-Za-z0-9_.-]+)$")


def token_of(state: State, headers: Mapping[str, str]) -> Json:
    """The token of the request's headers (names in lower case). Global keys are not accepted here at all."""
    if headers.get("x-auth-key") or headers.get("x-auth-email"):
        raise ApiError(403, 9103, "Unknown X-Auth-Key or X-Auth-Email")
    given = headers.get("authorization")
    if given is None:
        raise ApiError(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
    found = BEARER.match(given)
    if not found:
        raise ApiError(400, 6003, "Invalid request headers")
    token = state.data["tokens"].get(found[1])
    if token is None:
        raise ApiError(401, 1000, "Invalid API Token")
    if token["status"] != "active":
        raise ApiError(401, 1001, f"API Token is {token['status']}")
    return dict(token)


def check(state: State, token: Json, permission: str, scope: str) -> None:
    """Raises ApiError unless the token has the permission; ``scope`` is a zone's or the account's id."""
    if permission == "":
        return
    refusal = UNAUTHORIZED if permission.startswith("Zone") else AUTHENTICATION
    held = set(token["permissions"])
    enough = permission in held or permission.replace("Read", "Write") in held
    if not enough or not _in_scope(state, token, permission, scope):
        raise refusal


def _in_scope(state: State, token: Json, permission: str, scope: str) -> bool:
    if permission.startswith(("Tunnel", "Monitors")):
        return scope == state.account
    zone = state.data["zones"].get(scope)
    return bool(zone) and (token["zones"] is None or zone["name"] in token["zones"])


def visible(state: State, token: Json) -> list[Json]:
    """The zones the token can see at all: no permission is an empty list, not an error."""
    if not any(name in token["permissions"] for name in ("Zone Read", "Zone Write")):
        return []
    zones = state.data["zones"].values()
    return [zone for zone in zones if token["zones"] is None or zone["name"] in token["zones"]]
