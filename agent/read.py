"""Contents of files, for a diff. Request: {"paths": [...]}. Reply: {"contents": {path: base64}}.

A path that is not there or is no regular file is left out; one that cannot be read is an error.
"""

from __future__ import annotations

import base64
import os
import stat
from typing import Any

from .errors import AgentError, because
from .root import Root, checked

__all__ = ["contents", "run"]

_MOST = 16 << 20


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    return {"contents": contents(root, request.get("paths") or [])}


def contents(root: Root, paths: list[str]) -> dict[str, str]:
    """Path to base64 of each regular file (16 MiB at most)."""
    found = ((path, _content(root, checked(path))) for path in paths)
    return {path: base64.b64encode(content).decode() for path, content in found if content is not None}


def _content(root: Root, path: str) -> bytes | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        if not stat.S_ISREG(os.lstat(root.at(path)).st_mode):
            return None
        with open(os.open(root.at(path), flags), "rb") as stream:
            content = stream.read(_MOST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {because(error)}", "io") from error
    if len(content) > _MOST:
        raise AgentError(f"{path} is larger than {_MOST >> 20} MiB", "refused")
    return content
