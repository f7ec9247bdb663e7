"""What the practice world has of its own beside hosts: secrets, generated on first use."""

from __future__ import annotations

import base64
import json
import os
import secrets
import uuid
from pathlib import Path

from understudy.catalog import Source, load_catalog
from understudy.secrets import Store

FOLDER = Path(".lab")
SECRETS = FOLDER / "secrets"
AGE_KEY = FOLDER / "age.txt"
OVERLAY = Path("lab/overlay")


def use_lab_key() -> None:
    """Point SOPS at the lab's own age key, so that it never meets the owner's."""
    os.environ["SOPS_AGE_KEY_FILE"] = str(AGE_KEY.resolve())


def prepare_secrets() -> None:
    """Make every secret the catalogue declares and the lab has not: random ones, and a tunnel token."""
    use_lab_key()
    SECRETS.mkdir(parents=True, exist_ok=True)
    store = Store(SECRETS)
    store.init()
    catalog = load_catalog(Source(Path("services"), (OVERLAY,), {"DOMAIN": "example.org", "TZ": "Etc/UTC"}))
    for service in catalog:
        if service.secrets:
            store.ensure(service.name, service.secrets, given=_given(service.name))


def _given(service: str) -> dict[str, str]:
    """Values that would come from the outside world: Cloudflare hands out the tunnel's token."""
    if service != "cloudflared":
        return {}
    parts = {"a": secrets.token_hex(16), "t": str(uuid.uuid4()), "s": base64.b64encode(secrets.token_bytes(32)).decode()}
    return {"TUNNEL_TOKEN": base64.b64encode(json.dumps(parts).encode()).decode()}
