"""The owner's API token, and the token of a host's connector: from Cloudflare where an API token is configured, else from SOPS.

While a host is described nothing is asked of Cloudflare: a mark stands for the token, and what converges or plans a host
puts the token in its place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UnderstudyError
from ..spec import SecretSpec

if TYPE_CHECKING:
    from ..desired import Desired
    from ..secrets import Store

FILE = "cloudflare"
API_TOKEN = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - the name of a variable
SPECS = {
    API_TOKEN: SecretSpec(
        optional=True, why="an API token: Zone Zone Read, Zone DNS Edit, Account Cloudflare Tunnel Edit"
    )
}
SERVICE = "cloudflared"
NAME = "TUNNEL_TOKEN"
PATH = f"/etc/understudy/secrets/{SERVICE}/{NAME}"
PENDING = "the token is asked of Cloudflare when this host is converged"


def api_token(store: Store) -> str:
    """The owner's API token: the environment's, else that of secrets/cloudflare.yaml; "" without one."""
    return os.environ.get(API_TOKEN, "") or store.load(FILE).get(API_TOKEN, "")


def pending(values: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The secrets of a host with the mark in place of its token."""
    own = {**values.get(SERVICE, {}), NAME: PENDING}
    return {**{name: dict(found) for name, found in values.items()}, SERVICE: own}


def waits(desired: Desired) -> bool:
    """Whether the host's description has the mark still."""
    entry = desired.tree.entries.get(PATH)
    return entry is not None and entry.content == PENDING.encode()


def fill(desired: Desired, token: str) -> None:
    """Put the token where the mark stands; it is a secret from here on."""
    entry = desired.tree.entries[PATH]
    desired.tree.entries[PATH] = replace(entry, content=token.encode())
    for number, own in enumerate(desired.service_entries):
        if own.path == PATH:  # the tree is made anew from these when the host was looked at
            desired.service_entries[number] = desired.tree.entries[PATH]
    desired.masks.pop(PENDING, None)
    desired.masks[token] = NAME


def check_filled(desired: Desired) -> None:
    """Before files are written: raises UnderstudyError where the mark would go to a host."""
    if waits(desired):
        raise UnderstudyError(
            f"{desired.settings.name}: its tunnel's token was not asked of Cloudflare: this is a fault of Understudy"
        )
