"""The hosts of an inventory with everything their repositories are opened with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import project
from .errors import BadInput
from .protection import admin, files, secrets
from .repository.restic import AdminRepository
from .settings import HostSettings, settings_of


@dataclass(frozen=True)
class Owned:
    """One host: its settings, its protection plan, and its repositories."""

    settings: HostSettings
    data: dict[str, Any]

    @property
    def name(self) -> str:
        """The host's name."""
        return self.settings.name

    @cached_property
    def plan(self) -> dict[str, Any]:
        """The host's protection plan, as it would be written now. Raises BadInput without repositories."""
        entry = project.desired_for(self.name, self.data).tree.entries.get(files.PLAN)
        if entry is None:
            raise BadInput(f"{self.name} declares no repository: say where its backups go (docs/backups.md)")
        plan: dict[str, Any] = json.loads(entry.content)
        return plan

    @property
    def groups(self) -> list[str]:
        """Move groups that have data on this host."""
        return list(dict.fromkeys(service["group"] for service in self.plan["services"].values()))

    @cached_property
    def keys(self) -> tuple[dict[str, str], dict[str, str]]:
        """The secrets of the host and those of the owner."""
        store = project.store_of(self.settings)
        return store.load(secrets.HOST), store.load(secrets.ADMIN)

    def repositories(self, only: str = "") -> list[AdminRepository]:
        """What the control machine can open, one entry a repository and group."""
        host, owner = self.keys
        return admin.repositories(self.settings, self.groups, host, owner, only)

    def objectives(self) -> dict[str, dict[str, float]]:
        """Group to service to the longest age in seconds that its newest backup may have."""
        tiers, found = self.plan["tiers"], dict[str, dict[str, float]]()
        for name, service in self.plan["services"].items():
            found.setdefault(service["group"], {})[name] = 2.0 * tiers[service["tier"]]["every"]
        return found


def hosts(inventory: str, limit: str = "") -> list[Owned]:
    """The hosts of an inventory, or the one called ``limit``. Raises BadInput."""
    found = [Owned(settings_of(name, data), data) for name, data in project.hosts(inventory)]
    chosen = [one for one in found if limit in ("", one.name)]
    if not chosen:
        raise BadInput(f"{inventory} has no host {limit!r}; it has {', '.join(one.name for one in found)}")
    return chosen
