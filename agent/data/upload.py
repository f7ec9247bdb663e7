"""One restic run: the services that are good, of one move group, into one repository."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..disk import Disk
from ..errors import AgentError
from ..repo import commands, lock_name, restic
from ..repo.restic import Repo, ResticError, Result
from ..root import RUN, Root
from . import stage
from .plan import Service

__all__ = ["Count", "Upload", "hit", "upload", "write_excludes"]

EXCLUDES = f"{RUN}/excludes"


@dataclass
class Count:
    """What a snapshot took of one service."""

    files: int = 0
    bytes: int = 0
    added: int = 0


@dataclass
class Upload:
    """What a run stored. ``torn`` maps services that could not be read to why; they are in no whole snapshot."""

    snapshot: str
    counts: dict[str, Count]
    seconds: float
    torn: dict[str, str] = field(default_factory=dict)


def write_excludes(disk: Disk, group: str, services: list[Service]) -> str:
    """The exclude file of a run; its real path."""
    lines = [line for service in services for line in stage.excludes(disk.root, service)]
    disk.private_dir(EXCLUDES)
    path = f"{EXCLUDES}/{group}"
    disk.create(
        path,
        ["".join(f"{line}\n" for line in lines).encode()],
        0o600,
        os.geteuid(),
        os.getegid(),
        durable=False,
    )
    return disk.root.at(path)


def upload(
    root: Root,
    repo: Repo,
    wanted: commands.Backup,
    left: Callable[[], float],
    parent: Callable[[bool], str],
) -> Upload:
    """Run it. ``parent(again)`` gives the parent; ``again`` after looking, when the one it gave could not be loaded.

    Services of which something was unreadable are left out in a second run with the same sequence number, which says
    so in its tags; readers then pass over the first. Raises AgentError when nothing whole was stored.
    """
    begun = time.monotonic()
    torn: dict[str, str] = {}
    wanted = _with(wanted, parent=parent(False))
    while True:
        counts: dict[str, Count] = {}
        try:
            result = _run(root, repo, wanted, left(), counts)
            return Upload(result.summary["snapshot_id"], counts, time.monotonic() - begun, torn)
        except ResticError as error:
            if wanted.parent and _parent_gone(wanted.parent, error.result):
                again = parent(True)
                if again == wanted.parent:
                    raise
                wanted = _with(wanted, parent=again)
                continue
            unread = hit(root, wanted, error.result) if error.kind == "incomplete" else {}
            if not unread:
                raise
            torn.update(unread)
        good = tuple(name for name in wanted.services if name not in torn)
        if not good:
            raise AgentError("; ".join(torn.values()), "incomplete")
        wanted = _with(wanted, services=good, failed=(*wanted.failed, *sorted(unread)))


def _parent_gone(parent: str, result: Result) -> bool:
    return "no matching ID found" in result.err or f"failed to load snapshot {parent[:8]}" in result.err


def _with(wanted: commands.Backup, **changes: Any) -> commands.Backup:
    return commands.Backup(**{**wanted.__dict__, **changes})


def _run(root: Root, repo: Repo, wanted: commands.Backup, timeout: float, counts: dict[str, Count]) -> Result:
    base = root.at(stage.folder(wanted.group))

    def heard(message: dict[str, Any]) -> None:
        item = message.get("item") if message["message_type"] == "verbose_status" else None
        if item:
            _count(base, item, message, counts)

    name = lock_name.tick(wanted.host) if lock_name.separate() else ""
    result = restic.run(repo, commands.backup(wanted), timeout, heard, cwd=base, lock_as=name)
    if not result.summary.get("snapshot_id"):
        raise AgentError(f"restic backup to {repo.title} named no snapshot", "failed")
    return result


def _count(base: str, item: str, message: dict[str, Any], counts: dict[str, Count]) -> None:
    name = item.strip("/").split("/", 1)[0]
    count = counts.setdefault(name, Count())
    count.added += int(message.get("data_size_in_repo") or 0) + int(message.get("metadata_size_in_repo") or 0)
    if not item.endswith("/"):
        count.files += 1
        # restic's data_size is what was new of the item, not how big it is. A name that is not UTF-8 cannot be asked
        # for: such a file counts, its size does not.
        with contextlib.suppress(OSError):
            count.bytes += os.lstat(base + item).st_size


def hit(root: Root, wanted: commands.Backup, result: Result) -> dict[str, str]:
    """Services that restic's complaints are about, each with the first; {} when one fits no service."""
    base = root.at(stage.folder(wanted.group))
    found: dict[str, str] = {}
    for error in result.errors:
        path = error["item"].removeprefix(base).lstrip("/")
        name = path.split("/", 1)[0]
        if name not in wanted.services:
            return {}
        found.setdefault(name, f"{name}: {path.partition('/')[2]} cannot be read: {error['message'].strip()}")
    return found
