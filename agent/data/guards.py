"""The two questions of quantity: is this more than a timer may upload, and did the source shrink."""

from __future__ import annotations

from typing import Any

from .state import Good
from .tree import Tree

__all__ = ["FIRST_LIMIT", "SHRINK", "added", "lost", "shrank", "size", "too_much"]

FIRST_LIMIT = 10 << 30
SHRINK = 20
# Below these a percentage says nothing: one row less in a table of four is life.
_FEW_FILES, _FEW_BYTES = 10, 64 << 10


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def added(tree: Tree, dumps: int, good: Good | None) -> int:
    """The most that a run would newly read of a service, in bytes, before anything is known to be stored already.

    Files put back by a restore have new inodes but neither new content times nor a bigger sum: they do not count.
    Files copied in with their old times make the sum bigger: they do.
    """
    if good is None:
        return tree.bytes + dumps
    return min(tree.changed, max(tree.written, tree.bytes + dumps - good.bytes))


def too_much(
    service: str, repository: str, new: int, good: Good | None, settings: dict[str, Any]
) -> str | None:
    """The sentence with which a timer refuses; None when it may go on."""
    limit = int(settings.get("first_backup_limit_bytes") or FIRST_LIMIT)
    if new <= limit:
        return None
    what = "would be backed up for the first time" if good is None else "is new since its last backup"
    return (
        f"{service}: {size(new)} {what} to {repository}, more than {size(limit)} that a timer may send:"
        f" `understudy backup {service} --confirm` does it"
    )


def shrank(
    service: str, before: Good, files: int, size_now: int, rows: int | None, settings: dict[str, Any]
) -> str | None:
    """The sentence of the alert when files, bytes or rows fell by more than the limit; None when not."""
    how = lost(before, files, size_now, rows, settings)
    return f"{service} {how}; the snapshot before, {before.snapshot[:8]}, is kept" if how else None


def lost(before: Good, files: int, size_now: int, rows: int | None, settings: dict[str, Any]) -> str | None:
    """How much is gone, in words without the service's name; None when no more than the limit."""
    percent = float(settings.get("shrink_percent") or SHRINK)
    for what, old, new, few in (
        ("files", before.files, files, _FEW_FILES),
        ("bytes", before.bytes, size_now, _FEW_BYTES),
        ("rows", before.rows or 0, rows if rows is not None else before.rows or 0, _FEW_FILES),
    ):
        if old - new >= few and new < old * (1 - percent / 100):
            return f"shrank by {100 - 100 * new / old:.0f} % ({what}: {old} before, {new} now)"
    return None
