"""What a snapshot says it holds, written down once and compared with what came out, without reading a file again."""

from __future__ import annotations

import calendar
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from ..errors import AgentError
from ..repo import restic
from ..repo.restic import Repo

__all__ = ["Part", "Wrong", "argv", "compare", "nanoseconds", "read", "take"]

_SHOWN = 20
_KINDS = {"file": stat.S_ISREG, "dir": stat.S_ISDIR, "symlink": stat.S_ISLNK, "fifo": stat.S_ISFIFO}


@dataclass
class Part:
    """Sums of a mount, or of ``dumps`` and the like. ``type`` is that of the mount itself: dir, file."""

    type: str = ""
    files: int = 0
    bytes: int = 0
    devices: list[str] = field(default_factory=list)


@dataclass
class Wrong:
    """How a restored tree differs from its snapshot: a count and the first paths, each with what is wrong."""

    count: int = 0
    paths: list[str] = field(default_factory=list)

    def add(self, path: str, what: str) -> None:
        self.count += 1
        if len(self.paths) < _SHOWN:
            self.paths.append(f"{path}: {what}")


def argv(snapshot: str, services: Sequence[str]) -> list[str]:
    """List everything below the services' folders."""
    return ["ls", "--json", "--no-lock", "--recursive", snapshot, *(f"/{name}" for name in services)]


def take(
    repo: Repo,
    snapshot: str,
    keys: dict[str, list[str]],
    spool: str,
    timeout: float,
) -> dict[str, dict[str, Part]]:
    """Write the list to the real path ``spool``. ``keys``: service to its mounts' keys.

    Returns service → part → sums; a part is a mount's key, or the first folder (dumps, config, manifest.json).
    """
    sums: dict[str, dict[str, Part]] = {name: {} for name in keys}
    order = {name: sorted(found, key=len, reverse=True) for name, found in keys.items()}
    with open(spool, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o600)

        def heard(message: dict[str, Any]) -> None:
            if message.get("message_type") == "node" and "path" in message:
                _note(message, order, sums, stream)

        restic.run(repo, argv(snapshot, list(keys)), timeout, heard)
    for name, parts in sums.items():
        if not parts:
            raise AgentError(f"snapshot {snapshot[:8]} holds nothing of {name}", "no-snapshot")
    return sums


def _note(
    node: dict[str, Any],
    order: dict[str, list[str]],
    sums: dict[str, dict[str, Part]],
    stream: IO[str],
) -> None:
    path, kind = str(node["path"]), str(node.get("type"))
    service, _, rest = path.lstrip("/").partition("/")
    if service not in sums or not rest:
        return
    size = int(node.get("size") or 0)
    part = sums[service].setdefault(_part(rest, order[service]), Part())
    if rest.partition("/")[2] and _is_mount(rest, order[service]):
        part.type = kind
    if kind == "file":
        part.files += 1
        part.bytes += size
    elif kind in ("dev", "chardev"):
        part.devices.append(rest)
    stream.write(json.dumps([path, kind, size, node.get("mtime")]) + "\n")


def _is_mount(rest: str, keys: list[str]) -> bool:
    return any(rest == f"data/{key}" for key in keys)


def _part(rest: str, keys: list[str]) -> str:
    top, _, below = rest.partition("/")
    if top == "data":
        for key in keys:
            if below == key or below.startswith(f"{key}/"):
                return key
    return top


def read(spool: str) -> Iterator[tuple[str, str, int, str]]:
    """Path in the snapshot, type, size and time of change (as restic writes it) of everything that was listed."""
    with open(spool, encoding="utf-8") as stream:
        for line in stream:
            path, kind, size, changed = json.loads(line)
            yield path, kind, size, changed or ""


def nanoseconds(text: str) -> int:
    """restic's time in nanoseconds since the epoch; -1 for what is none. Its zone is UTC, as its environment says."""
    whole, _, part = text.rstrip("Z").partition(".")
    try:
        seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return -1
    return seconds * 10**9 + int((part + "0" * 9)[:9] if part.isdigit() or not part else 0)


def compare(spool: str, real: str, excludes: Sequence[str], services: Sequence[str]) -> dict[str, Wrong]:
    """Look at each listed path below the real folder ``real``. ``excludes``: paths whose trees were not asked for."""
    wrong = {name: Wrong() for name in services}
    for path, kind, size, _ in read(spool):
        service = path.split("/", 2)[1]
        if service not in wrong or _below(path, excludes):
            continue
        # restic's JSON cannot say a name that is not UTF-8.
        if "\ufffd" in path:
            continue
        what = _differs(real + path, kind, size)
        if what:
            wrong[service].add(path, what)
    return wrong


def _below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _differs(real: str, kind: str, size: int) -> str:
    try:
        info = os.lstat(real)
    except OSError:
        return "missing"
    right = _KINDS.get(kind)
    if right and not right(info.st_mode):
        return f"is not a {kind}"
    if kind == "file" and info.st_size != size:
        return f"{info.st_size} bytes, {size} in the snapshot"
    return ""
