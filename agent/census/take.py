"""Files and folders as they are, for an import: their bytes, modes and owners. Request: {"take": [paths]}."""

from __future__ import annotations

import base64
import os
import stat
from typing import Any

from ..errors import because
from ..root import Root, checked

__all__ = ["read"]

_MOST_BYTES, _MOST_FILES = 32 << 20, 5000
_LEFT_OUT = {".git", "node_modules", "__pycache__", ".venv"}


def read(root: Root, paths: list[str], skip: list[str]) -> dict[str, dict[str, Any]]:
    """Path to {"kind": "file", "content": base64, "mode", "uid", "gid"}, {"kind": "missing"} or {"kind": "refused", "reason"}.

    A folder gives one entry for itself ({"kind": "dir"}) and one a file below it; links are {"kind": "link", "target"}.
    Below a folder, paths of ``skip`` are left out: data that lies in a build context is not part of it.
    """
    found: dict[str, dict[str, Any]] = {}
    budget = [_MOST_BYTES, _MOST_FILES]
    for path in paths:
        _add(root, checked(path), found, budget, set(skip))
    return found


def _add(root: Root, path: str, found: dict[str, dict[str, Any]], budget: list[int], skip: set[str]) -> None:
    real = root.at(path)
    try:
        info = os.lstat(real)
        if stat.S_ISLNK(info.st_mode):
            found[path] = {"kind": "link", "target": os.readlink(real)}
        elif stat.S_ISDIR(info.st_mode):
            found[path] = {"kind": "dir", "mode": f"{info.st_mode & 0o7777:04o}"}
            for name in sorted(os.listdir(real)):
                if name not in _LEFT_OUT and f"{path}/{name}" not in skip:
                    _add(root, f"{path}/{name}", found, budget, skip)
        elif stat.S_ISREG(info.st_mode):
            found[path] = _file(real, info, budget)
        else:
            found[path] = {"kind": "refused", "reason": "is neither a file nor a folder"}
    except FileNotFoundError:
        found[path] = {"kind": "missing"}
    except OSError as error:
        found[path] = {"kind": "refused", "reason": because(error)}


def _file(real: str, info: os.stat_result, budget: list[int]) -> dict[str, Any]:
    budget[0] -= info.st_size
    budget[1] -= 1
    if budget[0] < 0 or budget[1] < 0:
        return {
            "kind": "refused",
            "reason": f"more than {_MOST_BYTES >> 20} MiB or {_MOST_FILES} files were asked for",
        }
    with open(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
        content = stream.read()
    entry = {
        "kind": "file",
        "content": base64.b64encode(content).decode(),
        "mode": f"{info.st_mode & 0o7777:04o}",
    }
    return {**entry, "uid": info.st_uid, "gid": info.st_gid}
