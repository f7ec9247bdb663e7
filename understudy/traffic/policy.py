"""What an inventory says about the way from the public names to a host."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

EdgeKind = Literal["cloudflare", "external", "none"]


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
