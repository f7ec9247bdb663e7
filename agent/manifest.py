"""The manifest: what the last finished apply left on this host. The control machine writes its content."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from .errors import AgentError, because
from .look import Seen
from .root import MANIFEST, Root

__all__ = ["created", "entries", "load", "render", "seen"]


def load(root: Root) -> dict[str, Any] | None:
    """The manifest, or None on a host that never had one. Raises AgentError when it cannot be read."""
    try:
        with open(root.at(MANIFEST), "rb") as stream:
            values = json.load(stream)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AgentError(f"{MANIFEST} cannot be read: {because(error)}", "io") from error
    except ValueError as error:
        raise AgentError(
            f"{MANIFEST} is damaged: move it away, nothing is deleted without it", "broken"
        ) from error
    if not isinstance(values, dict):
        raise AgentError(f"{MANIFEST} is damaged: move it away, nothing is deleted without it", "broken")
    return values


def entries(manifest: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Path to record (kind, sha256, ...) of everything we wrote."""
    found: dict[str, dict[str, Any]] = (manifest or {}).get("entries") or {}
    return found


def created(manifest: dict[str, Any] | None) -> set[str]:
    """Directories that did not exist before we made them: the only ones we may ever remove."""
    return set((manifest or {}).get("created") or [])


def render(manifest: dict[str, Any], made: Iterable[str]) -> bytes:
    """The file's bytes: the control machine's content plus the directories we made."""
    return json.dumps({**manifest, "created": sorted(made)}, sort_keys=True, indent=1).encode() + b"\n"


def seen(content_sha256: str) -> Seen:
    """How the manifest file looks once written."""
    return Seen("file", 0o600, os.geteuid(), os.getegid(), sha256=content_sha256)
