"""What an inventory says about the way from the public names to a host."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EdgeKind = Literal["cloudflare", "external", "none"]


class Balancer(BaseModel):
    """Load Balancer mode, a paid add-on at Cloudflare. ``interval``: seconds between two looks of its monitors (60 on cheap
    plans). ``enabled: false`` takes away what the mode has made; without any ``balancer`` Cloudflare is not even asked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    interval: int = Field(default=60, ge=15, le=3600)


class CloudflareSettings(BaseModel):
    """Where the owner's zone is. Everything has a default: the zone is looked up by the domain.

    ``zone`` and ``account`` are ids (with both, a token needs no Zone Read). ``api_url`` is another address of the API
    (else CLOUDFLARE_BASE_URL). ``front_url`` is another address of the edge than that of a public name itself, and
    ``cacert`` the file on this machine that signs the resolvers, if not the system's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    zone: str = ""
    account: str = ""
    api_url: str = ""
    front_url: str = ""
    cacert: str = ""
    balancer: Balancer | None = None
