"""What an inventory says about ownership (docs/replica.md)."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MINUTE = 60
Offline = Literal["serve", "stay-down"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Peer(_Model):
    """Another host of the inventory, as far as ownership goes. ``groups`` None: all of them."""

    role: Literal["primary", "replica"] = "primary"
    groups: list[str] | None = None
    may_own: bool = True

    def carries(self, group: str) -> bool:
        """Whether the host may own this group."""
        return self.may_own and (self.groups is None or group in self.groups)


class GroupSettings(_Model):
    """One move group. ``refresh``: seconds between refreshes of its replica; ``offline`` as in ``Ownership``.

    ``slots``: 1 for a group too big for two copies beside the live data: refreshed in place, not promotable meanwhile.
    """

    refresh: int | None = Field(default=None, ge=5 * MINUTE)
    offline: Offline | None = None
    slots: Literal[1, 2] = 2


class Watch(_Model):
    """How a host that could take over looks at the owner. ``every`` and ``patience`` in seconds.

    ``direct``: host to a tcp://ADDRESS:PORT of it that the others can reach past the edge (a LAN, a VPN), where there is
    one. ``references``: addresses of the internet that tell whether this host's own line is dead.
    """

    every: int = Field(default=30, ge=10)
    patience: int = Field(default=5 * MINUTE, ge=30)
    direct: dict[str, str] = {}
    references: list[str] = Field(default=["tcp://1.1.1.1:443", "tcp://9.9.9.9:443"], min_length=1)

    @field_validator("direct", "references")
    @classmethod
    def _tcp(cls, given: dict[str, str] | list[str]) -> dict[str, str] | list[str]:
        for address in given.values() if isinstance(given, dict) else given:
            if not re.fullmatch(r"tcp://[^/:@]+:\d+", address):
                raise ValueError(f"{address!r} is not tcp://ADDRESS:PORT")
        return given


class Auto(_Model):
    """Auto mode (docs/replica.md): a watcher moves a group by itself once its owner's lease is over.

    ``url``: s3:https://HOST/BUCKET/PREFIX in a store that writes on conditions; ``ttl``: the lease's length in seconds;
    ``groups``: those that have one, all guarded ones by default.
    """

    url: str
    region: str = ""
    ttl: int = Field(default=7 * MINUTE, ge=4 * MINUTE)
    groups: list[str] | None = None

    @field_validator("url")
    @classmethod
    def _s3(cls, url: str) -> str:
        if not re.fullmatch(r"s3:(https?://)?[^/]+/[^/]+(/.*)?", url):
            raise ValueError(f"{url!r} is not s3:https://HOST/BUCKET or s3:https://HOST/BUCKET/PREFIX")
        return url


class Ownership(_Model):
    """``auto`` None: only a person moves a group. ``resolvers`` answer DNS over HTTPS (RFC 8484); ``cacert``: a file on the
    host that signs them, if not the system's.

    ``offline``: what a host does after a boot without any answer with what was its own. ``boot_wait`` in seconds,
    ``keep_days``: how long data stays that something else took the place of.
    """

    resolvers: list[str] = Field(
        default=["https://1.1.1.1/dns-query", "https://8.8.8.8/dns-query"], min_length=1
    )
    cacert: str = ""
    offline: Offline = "serve"
    groups: dict[str, GroupSettings] = {}
    boot_wait: int = Field(default=120, ge=0)
    keep_days: int = Field(default=30, ge=30)
    watch: Watch = Watch()
    auto: Auto | None = None

    @field_validator("resolvers")
    @classmethod
    def _https(cls, resolvers: list[str]) -> list[str]:
        for url in resolvers:
            if not url.startswith("https://"):
                raise ValueError(
                    f"{url!r} is not https://: an answer that anybody on the way can write is none"
                )
        return resolvers

    @model_validator(mode="after")
    def _no_serving_without_a_lease(self) -> Ownership:
        said = [self.offline] if "offline" in self.model_fields_set else []
        said += [one.offline for one in self.groups.values() if one.offline]
        if self.auto and "serve" in said:
            raise ValueError(
                "auto and offline: serve contradict each other: a host that serves without its lease may not be the only one"
            )
        return self

    def leased(self, group: str) -> bool:
        """Whether the group is in auto mode."""
        return self.auto is not None and (self.auto.groups is None or group in self.auto.groups)

    def refresh(self, group: str) -> int:
        """Seconds between refreshes."""
        own = self.groups.get(group, GroupSettings()).refresh
        return own or (15 * MINUTE if group == "critical" else 60 * MINUTE)

    def offline_of(self, group: str) -> Offline:
        """What the group does after a boot without an answer."""
        default: Offline = "stay-down" if self.leased(group) else self.offline
        return self.groups.get(group, GroupSettings()).offline or default
