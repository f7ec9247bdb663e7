"""What the inventory says about one host, checked before anything is contacted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import BadInput
from .ownership.policy import Ownership, Peer
from .protection.policy import Policy
from .traffic.policy import CloudflareSettings, EdgeKind


class Parts(BaseModel):
    """Which parts of a host are ours (design.md, decision 11). Each is a switch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backup: bool = True
    stacks: bool = True
    proxy: bool = True
    tunnel: bool = True
    dns: bool = True
    docker: bool = True
    firewall: bool = True
    ssh_hardening: bool = True
    updates: bool = True
    monitoring: bool = True
    replica: bool = False
    system: bool = True

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A list names the parts that are on; all others are off."""
        if isinstance(value, (list, tuple)):
            unknown = [name for name in value if name not in cls.model_fields]
            if unknown:
                raise ValueError(f"no part is called {unknown[0]!r}: {', '.join(cls.model_fields)}")
            return {name: name in value for name in cls.model_fields}
        return value

    def switched_on(self) -> list[str]:
        """Names of the parts that are on."""
        return [name for name, on in self.model_dump().items() if on]

    def switched_off(self) -> list[str]:
        """Names of the parts that are off: what they are about stays as it is on the host."""
        return [name for name, on in self.model_dump().items() if not on]


class HostSettings(BaseModel):
    """One host as the inventory and group_data describe it. Sizes in bytes, ports as numbers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    role: Literal["primary", "replica"] = "primary"
    domain: str
    timezone: str = "Etc/UTC"
    variables: dict[str, str] = {}
    stack_root: str = "/home/docker-projects"
    services_dir: Path = Path("services")
    secrets_dir: Path = Path("secrets")
    overlays: list[Path] = []
    services: list[str] | None = None
    groups: list[str] | None = None
    parts: Parts = Parts()
    backup: Policy = Policy()
    ownership: Ownership = Ownership()
    may_own: bool = True
    peers: dict[str, Peer] = {}
    peers_complete: bool = True
    metadata_service: bool = False
    stack: str = Field(default="homelab", pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")
    edge: EdgeKind = "cloudflare"
    cloudflare: CloudflareSettings = CloudflareSettings()
    ssh_user: str = "root"
    ssh_ports: list[int] = [22]
    lan_networks: list[str] = []
    proxy_port: int = 8080
    docker_log_max_size: str = "10m"
    docker_log_max_files: int = 3
    journal_max_use: str = "500M"
    fail2ban: bool = False
    automatic_reboot: bool = False
    sysctl: dict[str, str] = Field(default_factory=dict)
    sudo: bool = Field(default=False, alias="_sudo")

    @model_validator(mode="after")
    def _auto_moves_names(self) -> HostSettings:
        if self.ownership.auto and self.edge != "cloudflare":
            raise ValueError(
                f"ownership.auto moves public names by itself, and edge is {self.edge}: leave one of them out"
            )
        return self

    @property
    def idle(self) -> bool:
        """Whether nothing of ours has work on this host yet: at most backups, and no repository to take them."""
        waiting = set(self.parts.switched_on()) <= {"backup"}
        return waiting and not self.backup.repositories and not self.backup.jobs

    def all_variables(self) -> dict[str, str]:
        """Plain values for Compose files and templates."""
        return {"DOMAIN": self.domain, "TZ": self.timezone, **self.variables}


def settings_of(name: str, data: Mapping[str, Any]) -> HostSettings:
    """Check the data of one host. Raises BadInput naming host and key."""
    try:
        return HostSettings.model_validate({**data, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{name}: {key} in inventory or group_data: {first['msg']}") from error
