"""What an owner looks at: the list of snapshots, and a repository as folders."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..agent.repo.snapshots import Snapshot
from ..errors import Refused
from .restic import AdminRepository, opened

__all__ = ["age", "mount", "rows", "why_no_mount"]

_OTHERWISE = "restore single files with `understudy restore --path ... --to ...`"
_STEPS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def age(seconds: float) -> str:
    """A time span in one unit; a negative one is said to lie ahead."""
    for size, unit in _STEPS:
        if abs(seconds) >= size:
            return f"{seconds / size:.1f} {unit}" if seconds > 0 else f"{-seconds / size:.1f} {unit} ahead"
    return "0 s"


def rows(
    snapshots: Iterable[Snapshot], now: float, service: str = "", kept: dict[str, list[str]] | None = None
) -> list[dict[str, str]]:
    """One row a snapshot, newest first by (epoch, seq): id, seq ("epoch.seq"), time, age, host, tier, services,
    failed, size and, with the reasons of a retention choice, kept.
    """
    chosen = [one for one in snapshots if not service or service in (*one.services, *one.failed)]
    return [
        {
            "id": one.id[:8],
            "seq": f"{one.epoch}.{one.seq}",
            "time": time.strftime("%Y-%m-%d %H:%M", time.localtime(one.time)),
            "age": age(now - one.time),
            "host": one.host,
            "tier": one.tier,
            "services": ", ".join(one.services),
            "failed": ", ".join(one.failed),
            "size": f"{one.bytes / 1e6:.1f} MB",
            "kept": "; ".join((kept or {}).get(one.id, [])),
        }
        for one in sorted(chosen, key=lambda one: (one.order, one.time), reverse=True)
    ]


def why_no_mount(point: str) -> str:
    """The sentence that says why a repository cannot be mounted there, "" when it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return f"this machine has no usable /dev/fuse: {_OTHERWISE}"
    if shutil.which("fusermount") is None and shutil.which("fusermount3") is None:
        return f"fusermount is not installed (Debian: `apt install fuse3`); or {_OTHERWISE}"
    folder = Path(point)
    if not folder.is_dir() or any(folder.iterdir()):
        return f"{point} is not an empty folder: make one to mount on"
    return ""


def mount(
    repository: AdminRepository,
    point: str,
    tags: Sequence[str] = (),
    ready: Callable[[str], None] | None = None,
) -> None:
    """Mount the repository on an empty folder, read-only, until Ctrl-C. Raises Refused or ResticError.

    ``tags``: only snapshots with all of these, as ``service:vault``.
    """
    sentence = why_no_mount(point)
    if sentence:
        raise Refused(sentence)
    chosen = ["--tag", ",".join(tags)] if tags else []
    with opened(repository) as session:
        if ready is not None:
            ready(f"{repository.label} appears in {point}; Ctrl-C ends it")
        session.run(["mount", *chosen, "--path-template", "snapshots/%T-%i", point], 30 * 86400)
