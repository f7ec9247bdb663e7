"""systemd units that somebody wrote by hand, and timers."""

from __future__ import annotations

import glob
import os
import re
from typing import Any

from .. import process
from ..parts import Unreadable
from ..root import Root

__all__ = ["folders", "read"]

_FOLDERS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/local/etc/systemd/system")
_PROPERTIES = (
    "Id", "Description", "FragmentPath", "ActiveState", "SubState", "UnitFileState", "Result", "User", "WorkingDirectory",
    "ExecStart", "EnvironmentFiles", "ReadWritePaths", "StateDirectory", "Unit", "LastTriggerUSec", "NRestarts", "Type",
)  # fmt: skip
_NOT_THEIRS = re.compile(
    r"^(understudy-|snap[.-]|systemd-|dbus-org|display-manager|ctrl-alt-del|default\.target)"
)
_LEAST = re.compile(
    r"^/$|^/(usr|bin|sbin|lib|etc|home|root|var|opt|srv|mnt|tmp|proc|sys|dev|run)/?$|^/(usr|bin|sbin|lib|proc|sys|dev|run|etc)/"
)


def _files(root: Root) -> list[str]:
    found = []
    for folder in _FOLDERS:
        for path in sorted(glob.glob(root.at(f"{folder}/*"))):
            name = os.path.basename(path)
            hand_made = not os.path.islink(path) and name.endswith((".service", ".timer"))
            if hand_made and "@." not in name and not _NOT_THEIRS.match(name):
                found.append(name)
    return found


def read(root: Root, accounts: list[dict[str, Any]]) -> dict[str, Any]:
    """{"system": [unit], "personal": [paths of units that run for one user only]}."""
    names = _files(root)
    personal = [
        path
        for account in accounts
        for path in sorted(glob.glob(root.at(f"{account['home']}/.config/systemd/user/*.service")))
    ]
    return {"system": [_unit(root, block) for block in _show(names)], "personal": personal}


def _show(names: list[str]) -> list[dict[str, str]]:
    if not names:
        return []
    argv = ["systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", *names]
    ended = process.run(argv, 30)
    if not ended.ok:
        raise Unreadable(f"systemctl show: {ended.why()}")
    blocks = [text for text in re.split(r"\n\s*\n", ended.out.strip()) if text.strip()]
    return [{k: v for k, _, v in (line.partition("=") for line in block.splitlines())} for block in blocks]


def _unit(root: Root, block: dict[str, str]) -> dict[str, Any]:
    argv = re.search(r"argv\[\]=(.*?) ;", block.get("ExecStart", ""))
    words = argv[1].split() if argv else []
    return {
        "name": block.get("Id", ""),
        "description": block.get("Description", ""),
        "file": block.get("FragmentPath", ""),
        "active": block.get("ActiveState", ""),
        "enabled": block.get("UnitFileState", ""),
        "result": block.get("Result", ""),
        "user": block.get("User") or "root",
        "restarts": int(block.get("NRestarts") or 0) if (block.get("NRestarts") or "0").isdigit() else 0,
        "oneshot": block.get("Type") == "oneshot",
        "triggers": block.get("Unit", ""),
        "last": block.get("LastTriggerUSec", ""),
        "program": words[0] if words else "",
        "folders": _places(root, block, words),
        "environment_files": re.findall(r"(/\S+) \(ignore", block.get("EnvironmentFiles", "")),
    }


def _places(root: Root, block: dict[str, str], words: list[str]) -> list[str]:
    """Folders a unit works in: its working directory, what it may write, folders it is given as arguments."""
    found = [block.get("WorkingDirectory", "").lstrip("!")]
    found += block.get("ReadWritePaths", "").split()
    found += [f"/var/lib/{name}" for name in block.get("StateDirectory", "").split()]
    found += [word for word in words[1:] if word.startswith("/")]
    found += [os.path.dirname(word) for word in words if word.startswith("/")]
    places = dict.fromkeys(os.path.normpath(path) for path in found if path.startswith("/"))
    real = [path for path in places if os.path.isdir(root.at(path)) and not _LEAST.search(path)]
    return [path for path in real if not any(path.startswith(f"{other}/") for other in real)]


def folders(root: Root) -> list[str]:
    """Every folder that a hand-made service works in."""
    try:
        blocks = _show([name for name in _files(root) if name.endswith(".service")])
    except Unreadable:
        return []
    return [path for block in blocks for path in _unit(root, block)["folders"]]
