"""Everything one emulated project holds, kept in one file so that it survives a restart."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

from lab.emulator import Kept
from lab.hetzner.answers import ApiError, Json, not_found, taken
from lab.hetzner.labels import matches

KINDS = ("servers", "ssh_keys", "firewalls", "volumes", "primary_ips", "placement_groups", "actions")
FIRST_HOST, HOSTS_A_PROJECT = 100, 60  # addresses of servers within the lab's network
PROJECTS = ("lab", "other")


class State(Kept):
    """One project. ``data`` maps each of KINDS to objects by number; keys that begin with ``_`` are never shown."""

    def __init__(self, file: Path, project: str, subnet: str) -> None:
        self.project, self.subnet = project, subnet
        super().__init__(file, lambda: {"next": 1000 + 5_000_000 * PROJECTS.index(project)}, KINDS)

    def clear(self) -> None:
        """The empty project again, numbers going on."""
        with self.changing() as data:
            for kind in KINDS:
                data[kind] = {}

    def new_id(self) -> int:
        self.data["next"] += 1
        return int(self.data["next"])

    def get(self, kind: str, key: object) -> Json:
        found: Json | None = self.data[kind].get(str(key))
        if found is None:
            raise not_found(kind.removesuffix("s"), key)
        return found

    def find(self, kind: str, key: object) -> Json:
        """By number or by name."""
        for row in self.data[kind].values():
            if str(key) in (str(row["id"]), row.get("name")):
                found: Json = row
                return found
        raise not_found(kind.removesuffix("s"), key)

    def rows(self, kind: str, name: str = "", selector: str = "") -> list[Json]:
        """All of a kind in the order they were made, limited by name and labels."""
        return [
            row
            for row in self.data[kind].values()
            if (not name or row.get("name") == name) and matches(selector, row.get("labels", {}))
        ]

    def require_free_name(self, kind: str, name: str) -> None:
        if self.rows(kind, name):
            raise taken(kind.removesuffix("s"))

    def free_address(self) -> str:
        """The next address of the lab's network that no server of this project has."""
        used = {row["ip"] for row in self.data["primary_ips"].values()}
        network = ipaddress.ip_network(self.subnet)
        first = FIRST_HOST + HOSTS_A_PROJECT * PROJECTS.index(self.project)
        for number in range(first, first + HOSTS_A_PROJECT):
            if str(network[number]) not in used:
                return str(network[number])
        raise ApiError(403, "resource_limit_exceeded", "primary IP limit exceeded")

    def using(self, wanted: Callable[[Json], bool]) -> list[Json]:
        """Servers that use something."""
        return [row for row in self.data["servers"].values() if wanted(row)]


def shown(row: Json) -> Json:
    """The object without what the API never tells."""
    return {key: value for key, value in row.items() if not key.startswith("_")}
