"""Labels: the only memory of what is ours at Hetzner (design.md, decision 4)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from .wish import Wish

MANAGED = "managed-by"
US = "understudy"
FRESH, READY = "fresh", "ready"


def base(stack: str, name: str) -> dict[str, str]:
    """What everything that belongs to one replica carries."""
    return {MANAGED: US, "stack": stack, "role": "replica", "host": name}


def selector(stack: str, name: str = "") -> str:
    """Finds what is ours, of one replica or of all."""
    wanted = {MANAGED: US, "stack": stack, "role": "replica", **({"host": name} if name else {})}
    return ",".join(f"{key}={value}" for key, value in wanted.items())


def ours(labels: Mapping[str, str], stack: str, name: str) -> bool:
    return all(labels.get(key) == value for key, value in base(stack, name).items())


def spec_hash(wish: Wish) -> str:
    """Changes with what a server is made of; not with who may reach it, which is changed in place."""
    parts = wish.model_dump(mode="json", exclude={"ssh_from", "protect", "max_monthly", "locations"})
    return digest(json.dumps(parts, sort_keys=True))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
