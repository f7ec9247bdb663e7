"""Who owned each move group when this host last heard of it: the part of agent/owner/state.py that every survey reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .errors import AgentError, because
from .root import STATE, Root

__all__ = ["FOLDER", "FORMAT", "known"]

FOLDER = f"{STATE}/owner"
FORMAT = 1
_KEYS = ("owner", "epoch", "base", "nonce")


def known(root: Root, groups: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Group to {"owner", "epoch", "base", "nonce"}, of those whose record was ever seen. Raises AgentError."""
    told = ((group, _one(root, f"{FOLDER}/{group}.json")) for group in groups)
    return {group: facts for group, facts in told if facts and facts["epoch"] > 0}


def _one(root: Root, path: str) -> dict[str, Any] | None:
    try:
        with open(root.at(path), encoding="utf-8") as stream:
            raw = json.load(stream)
        if raw["format"] != FORMAT:
            raise ValueError("another format")
        return {key: raw[key] for key in _KEYS}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {because(error)}", "io") from error
    except (ValueError, TypeError, KeyError) as error:
        raise AgentError(f"{path} is damaged ({error}): it says who owned this group", "broken") from None
