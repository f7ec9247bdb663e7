"""What stood in the place of our files before we first wrote there: kept, so that leaving can put it back.

/var/lib/understudy/originals/index.json maps each path that existed when it came into our manifest to how it looked:
{"kind", "mode", "uid", "gid", "sha256", "target", "adopted"}. Adopted paths already were as we wanted them: they are
not ours to remove. The content of the others stands beside the index under its sha256.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from . import manifest
from .disk import Disk
from .errors import AgentError, because
from .look import MISSING, Seen, look
from .root import MANIFEST, STATE, Root
from .steps import Step

__all__ = ["FOLDER", "content", "keep", "load", "seen"]

FOLDER = f"{STATE}/originals"
INDEX = f"{FOLDER}/index.json"


def load(root: Root) -> dict[str, dict[str, Any]]:
    """Path to how it looked before us. Raises AgentError when that cannot be read: it is never "nothing"."""
    try:
        with open(root.at(INDEX), encoding="utf-8") as stream:
            found: dict[str, dict[str, Any]] = json.load(stream)
            return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        why = because(error) if isinstance(error, OSError) else "it is damaged"
        raise AgentError(f"{INDEX} cannot be read: {why}", "io") from error


def seen(record: Mapping[str, Any]) -> Seen:
    """A record as an observation."""
    return Seen(**{key: value for key, value in record.items() if key != "adopted"})


def content(root: Root, record: Mapping[str, Any]) -> bytes:
    """The kept content of a file."""
    path = f"{FOLDER}/{record['sha256']}"
    try:
        with open(root.at(path), "rb") as stream:
            return stream.read()
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {because(error)}", "io") from error


def keep(disk: Disk, steps: Iterable[Step], wanted: Mapping[str, Any], before: dict[str, Any] | None) -> None:
    """Remember, durably and before anything changes, what each path that becomes ours now looks like."""
    ours, index = manifest.entries(before), load(disk.root)
    changing = {step.path: step for step in steps if step.path != MANIFEST}
    found = dict(index)
    for path in wanted:
        if path in ours:
            continue
        step = changing.get(path)
        now = step.old if step else look(disk.root, path)
        if now == MISSING:
            found.pop(path, None)
            continue
        found[path] = {**now.__dict__, "adopted": step is None}
        if now.kind == "file" and step and step.op == "put":
            _copy(disk, path, now)
    if found != index:
        disk.private_dir(FOLDER)
        disk.sync_dirs([FOLDER])
        disk.replace(INDEX, json.dumps(found, sort_keys=True, indent=1).encode() + b"\n")


def _copy(disk: Disk, path: str, now: Seen) -> None:
    disk.private_dir(FOLDER)
    disk.copy(path, f"{FOLDER}/{now.sha256}", 0o600, os.geteuid(), os.getegid())
