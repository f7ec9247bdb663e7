"""The desired file tree of one host: plain values, no I/O.

A tree maps absolute host paths to entries. It is rendered whole on the control machine
(understudy/render.py), compared with what the host's survey reports, and applied by the agent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from .errors import BadInput

Kind = Literal["file", "dir", "link"]


@dataclass(frozen=True)
class Entry:
    """One path on a host.

    ``mode`` is the numeric mode (0o644); ``user`` and ``group`` are names or numeric ids.
    ``reaction`` names what must happen once the path changed, "" for nothing:
    ``unit:NAME``, ``stack:SERVICE``, ``recreate:SERVICE/COMPOSE_SERVICE``, ``reload:SERVICE``,
    ``docker``, ``sysctl``, ``sshd``, ``journald``, ``nftables``.
    """

    path: str
    kind: Kind = "file"
    mode: int = 0o644
    user: str | int = "root"
    group: str | int = "root"
    content: bytes = b""
    target: str = ""
    secret: bool = False
    service: str = ""
    reaction: str = ""

    @property
    def sha256(self) -> str:
        """Hex digest of the content; the target's digest for a link, "" for a directory."""
        if self.kind == "dir":
            return ""
        body = self.target.encode() if self.kind == "link" else self.content
        return hashlib.sha256(body).hexdigest()


def directory(
    path: str, mode: int = 0o755, user: str | int = "root", group: str | int = "root", **extra: str
) -> Entry:
    """An entry for a directory."""
    return Entry(path, "dir", mode, user, group, **extra)  # type: ignore[arg-type]


@dataclass
class Tree:
    """All entries of one host, by path. Two parts that claim one path are an error."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, *entries: Entry) -> None:
        """Add entries; the same entry twice is fine, two different ones for one path raise BadInput."""
        for entry in entries:
            _check_path(entry)
            known = self.entries.get(entry.path)
            if known is not None and known != entry:
                owners = " and ".join(sorted({known.service or "the host", entry.service or "the host"}))
                raise BadInput(f"{entry.path} is written twice, by {owners}: remove one of the two")
            self.entries[entry.path] = entry

    def extend(self, entries: Iterable[Entry]) -> None:
        """Add many entries."""
        self.add(*entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted(self.entries.values(), key=lambda entry: entry.path))

    def __len__(self) -> int:
        return len(self.entries)


def _check_path(entry: Entry) -> None:
    path = PurePosixPath(entry.path)
    if not path.is_absolute() or ".." in path.parts or str(path) != entry.path or entry.path == "/":
        raise BadInput(f"{entry.service or 'the host'}: {entry.path!r} is not a clean absolute path")
