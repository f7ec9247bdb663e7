"""What an inventory asks of a replica at Hetzner: ``hetzner = {...}`` in group_data/replica.py."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import BadInput

GROUPS = ("all", "primary", "replica")
NAME = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"


class Wish(BaseModel):
    """The server by requirement; everything has a default.

    ``name``: of the server, and of the host in the inventory. ``types``: these server types and no others,
    in this order; else the cheapest that has ``cores``, ``memory`` and ``disk`` (GB) in ``architecture``.
    ``locations`` in the order of preference. ``max_monthly``: a net ceiling in EUR for everything together.
    ``ssh_keys``: files of public keys. ``ssh_from``: who may reach port 22. ``volume``: GB of an extra
    disk, 0 for none. ``keep_address``: the address outlives the server.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="understudy", pattern=NAME)
    types: list[str] = []
    architecture: Literal["x86", "arm", "any"] = "x86"
    cores: int = Field(default=2, ge=1)
    memory: float = Field(default=4, gt=0)
    disk: int = Field(default=40, ge=1)
    locations: list[str] = Field(default=["fsn1", "nbg1", "hel1"], min_length=1)
    max_monthly: Decimal | None = Field(default=None, gt=0)
    image: str = "debian-13"
    ssh_keys: list[str] = []
    ssh_from: list[str] = ["0.0.0.0/0", "::/0"]
    volume: int = Field(default=0, ge=0, le=10240)
    keep_address: bool = False
    protect: bool = True

    @field_validator("name")
    @classmethod
    def _no_group(cls, name: str) -> str:
        if name in GROUPS:
            raise ValueError(f"{name!r} is a group of the inventory: --limit {name} would mean all its hosts")
        return name

    @field_validator("ssh_from")
    @classmethod
    def _networks(cls, networks: list[str]) -> list[str]:
        if not networks:
            raise ValueError("names nobody: give at least one network, or the replica cannot be reached")
        try:
            return [str(ipaddress.ip_network(network, strict=False)) for network in networks]
        except ValueError as error:
            raise ValueError(f"{error} (a network looks like 203.0.113.0/24)") from None

    @field_validator("volume")
    @classmethod
    def _smallest(cls, size: int) -> int:
        if 0 < size < 10:
            raise ValueError("is less than the 10 GB that Hetzner's smallest volume has")
        return size


def wish_of(data: Mapping[str, Any], **chosen: Any) -> Wish:
    """The wish in group_data with what the command line chose instead. Raises BadInput naming the key."""
    block = data.get("hetzner") or {}
    if not isinstance(block, Mapping):
        raise BadInput("hetzner in group_data/replica.py is not a mapping of settings")
    try:
        return Wish.model_validate({**block, **{key: value for key, value in chosen.items() if value}})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ("hetzner", *first["loc"]))
        message = str(first["msg"]).removeprefix("Value error, ")
        raise BadInput(f"{key} in group_data/replica.py: {message}") from error
