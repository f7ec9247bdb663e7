"""Everything the emulated account holds, kept in one file so that it survives a restart."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.cloudflare.answers import Json, now
from lab.emulator import Kept

KINDS = (
    "tokens",
    "zones",
    "records",
    "tunnels",
    "monitors",
    "pools",
    "load_balancers",
    "healthchecks",
)
ALL = (
    "Zone Read",
    "DNS Read",
    "DNS Write",
    "Tunnel Read",
    "Tunnel Write",
    "Monitors Read",
    "Monitors Write",
    "Balancers Read",
    "Balancers Write",
    "Health Read",
    "Health Write",
)
"""Permission groups of a token, under shorter names; "everywhere" in the sense of one account and its zones."""


class State(Kept):
    """The account. ``data`` maps each of KINDS to objects by id (tokens by their value)."""

    def __init__(self, file: Path, domain: str) -> None:
        self.watchers: list[Callable[[list[Json], list[Json]], None]] = []
        super().__init__(file, lambda: self._first(domain), KINDS)

    @staticmethod
    def _first(domain: str) -> dict[str, Any]:
        account = secrets.token_hex(16)
        zone = new_zone(domain, account)
        return {"account": account, "zones": {zone["id"]: zone}}

    @property
    def account(self) -> str:
        return str(self.data["account"])

    def changed(self, before: dict[str, Any]) -> None:
        self._tell(before["records"])

    def _tell(self, before: dict[str, Json]) -> None:
        after = self.data["records"]
        gone = [record for key, record in before.items() if key not in after]
        changed = [record for key, record in after.items() if before.get(key) != record]
        if gone or changed:
            for watch in self.watchers:
                watch(gone, changed)

    def add_token(
        self,
        permissions: list[str],
        zones: list[str] | None = None,
        status: str = "active",
        value: str = "",
    ) -> str:
        """A new API token; ``zones`` are the names it is for, None for every zone."""
        value = value or secrets.token_urlsafe(30)
        with self.changing() as data:
            data["tokens"][value] = {
                "id": secrets.token_hex(16),
                "status": status,
                "permissions": permissions,
                "zones": zones,
            }
        return value

    def add_zone(self, name: str, account: str | None = None) -> str:
        """A further zone, of this account unless another is named."""
        zone = new_zone(name, account or self.account)
        with self.changing() as data:
            data["zones"][zone["id"]] = zone
        return str(zone["id"])


def new_zone(name: str, account: str) -> Json:
    """A zone on the Free plan, with every key that the API's schema requires."""
    return {
        "id": secrets.token_hex(16),
        "name": name,
        "status": "active",
        "paused": False,
        "type": "full",
        "development_mode": 0,
        "name_servers": ["lab1.ns.example", "lab2.ns.example"],
        "original_name_servers": [],
        "original_registrar": None,
        "original_dnshost": None,
        "created_on": now(),
        "modified_on": now(),
        "activated_on": now(),
        "account": {"id": account, "name": "lab"},
        "owner": {"id": account, "name": "lab", "type": "organization"},
        "meta": {"step": 4, "custom_certificate_quota": 0, "page_rule_quota": 3, "phishing_detected": False},
        "plan": {"id": secrets.token_hex(16), "name": "Free Website", "price": 0, "currency": "USD"},
        "permissions": [],
    }


def new_secret() -> str:
    """A tunnel's secret: base64 of 32 bytes."""
    return base64.b64encode(secrets.token_bytes(32)).decode()
