"""Zones and the token's own state."""

from __future__ import annotations

from lab.cloudflare.answers import UNAUTHORIZED, Call, Json, Listing
from lab.cloudflare.permissions import visible
from lab.cloudflare.state import State


def verify(token: Json) -> Json:
    """GET /user/tokens/verify: it lives; what it may do is not told."""
    return {"id": token["id"], "status": token["status"]}


def list_zones(state: State, token: Json, call: Call) -> Listing:
    """GET /zones, filtered by ``name`` and ``account.id``."""
    found = visible(state, token)
    if "name" in call.query:
        found = [zone for zone in found if zone["name"] == call.query["name"]]
    if "account.id" in call.query:
        found = [zone for zone in found if zone["account"]["id"] == call.query["account.id"]]
    return Listing(found, 20)


def get_zone(state: State, token: Json, call: Call) -> Json:
    """GET /zones/ID."""
    for zone in visible(state, token):
        if zone["id"] == call.parts[0]:
            return zone
    raise UNAUTHORIZED
