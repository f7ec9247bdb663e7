"""What the practice world has of its own beside hosts: secrets, generated on first use."""

from __future__ import annotations

import base64
import json
import os
import secrets
import uuid
from pathlib import Path

from understudy.catalog import Source, load_catalog
from understudy.secrets import Store, init

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
    folder = SECRETS
    folder.mkdir(parents=True, exist_ok=True)
    init(folder)
    store = Store(folder)
    catalog = load_catalog(Source(Path("services"), (OVERLAY,), {"DOMAIN": "example.org", "TZ": "Etc/UTC"}))
    store.ensure_all({service.name: service.secrets for service in catalog})
    for service in catalog:
        from_outside = [
            name for name, spec in service.secrets.items() if spec.generate == "none" and not spec.optional
        ]
        if from_outside:
            store.add(service.name, {name: outside_value(name) for name in from_outside})


def outside_value(name: str) -> str:
    """What somebody else would hand out: a tunnel token in Cloudflare's form, else a value nobody else has."""
    return tunnel_token() if name == "TUNNEL_TOKEN" else f"lab-{secrets.token_urlsafe(24)}"


def tunnel_token() -> str:
    """A token of the form Cloudflare hands out: base64 of account, tunnel id and secret."""
    parts = {
        "a": secrets.token_hex(16),
        "t": str(uuid.uuid4()),
        "s": base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    return base64.b64encode(json.dumps(parts).encode()).decode()
