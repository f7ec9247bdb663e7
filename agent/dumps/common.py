"""What all kinds of dumps share: their record, file names, and the one way a kept file is replaced."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ..data.plan import Database
from ..errors import AgentError, because
from ..root import Root

__all__ = [
    "Clock",
    "Dump",
    "Loaded",
    "Place",
    "compare_rows",
    "file_name",
    "new_name",
    "old_name",
    "same_bytes",
    "sha256_of",
]

_CHUNK = 1 << 20
_BRIEF = 300.0
_TEMP = re.compile(r"^\..+\.(\d+)\.new(-wal|-shm|-journal)?$")


@dataclass(frozen=True)
class Dump:
    """One database as it was dumped.

    ``name`` is the plan's name of the database, with ``/ITEM`` where one entry gives several. ``file`` is relative to
    the service's stage (``dumps/x``); ``sha256`` and ``bytes`` are of the kept file. ``rows``: table to count.
    ``owner`` (SQLite, Redis): [uid, gid, mode]. ``extra``: what loading needs to know, stable while nothing changes.
    """

    name: str
    file: str
    kind: str
    sha256: str
    bytes: int
    rows: dict[str, int]
    version: str
    owner: tuple[int, int, int] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Its entry in a manifest."""
        owner = list(self.owner) if self.owner else None
        return {
            "kind": self.kind, "file": self.file, "sha256": self.sha256, "bytes": self.bytes, "rows": self.rows,
            "version": self.version, "owner": owner, "extra": self.extra,
        }  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """One database that was loaded and compared with its manifest. ``path``: the host path where a file was placed."""

    name: str
    kind: str
    rows: dict[str, int]
    bytes: int
    seconds: float
    path: str = ""


class Clock:
    """A deadline over several steps."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._until = time.monotonic() + timeout

    @property
    def left(self) -> float:
        """Seconds left, at least one: the step that gets it ends by itself."""
        return max(1.0, self._until - time.monotonic())

    @property
    def brief(self) -> float:
        """Seconds for a step that moves no data: one that takes longer than this hangs."""
        return min(_BRIEF, self.left)

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._until


def file_name(name: str, item: str = "", end: str = "") -> str:
    """A file name that no other database of the service has: ``db@shop.pgdump``."""
    return quote(name, safe="") + (f"@{quote(item, safe='')}" if item else "") + end


def new_name(database: str) -> str:
    """Where a database is loaded before the swap."""
    return f"{database}__new"


def old_name(database: str) -> str:
    """Where the replaced database stays after the swap."""
    return f"{database}__old"


@dataclass(frozen=True)
class Place:
    """The folder of a service's dumps. ``folder`` is the host path STAGE/GROUP/SERVICE/dumps."""

    root: Root
    folder: str
    database: Database

    @property
    def service(self) -> str:
        return os.path.basename(os.path.dirname(self.folder))

    def failed(self, why: str, item: str = "") -> AgentError:
        """A dump that must not be kept."""
        which = f"{self.database.name}/{item}" if item else self.database.name
        return AgentError(
            f"{self.service}: no dump of the {self.database.kind} database {which}: {why}; the last good dump was kept",
            "dump",
            service=self.service,
            database=which,
        )

    def ready(self) -> None:
        """Make the folder, and remove what a killed run left in it."""
        real = self.root.at(self.folder)
        os.makedirs(real, mode=0o700, exist_ok=True)
        for name in os.listdir(real):
            left = _TEMP.match(name)
            if left and int(left[1]) != os.getpid():
                os.unlink(f"{real}/{name}")

    def temp(self, file: str) -> str:
        """The real path of an unfinished file; nothing stands there."""
        path = self.root.at(f"{self.folder}/.{file}.{os.getpid()}.new")
        self.drop(path)
        return path

    def create(self, file: str) -> tuple[str, int]:
        """An empty unfinished file (0600): its real path and an open descriptor."""
        path = self.temp(file)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return path, os.open(path, flags, 0o600)

    @staticmethod
    def drop(path: str) -> None:
        """Remove an unfinished file and what SQLite may have put beside it."""
        for end in ("", "-wal", "-shm", "-journal"):
            if os.path.lexists(path + end):
                os.unlink(path + end)

    def keep(
        self,
        temp: str,
        file: str,
        check: Callable[[], None],
        same: Callable[[str, str], bool] | None = None,
    ) -> tuple[str, int]:
        """Put a finished dump in the kept one's place, unless their content is the same. (sha256, bytes) of what is kept.

        ``check`` raises when the dump is not whole; a dump equal to the kept one was checked when it was kept.
        """
        kept = self.root.at(f"{self.folder}/{file}")
        try:
            if self._is_kept(temp, kept, same or same_bytes):
                self.drop(temp)
            else:
                check()
                self._replace(temp, kept)
            return sha256_of(kept), os.stat(kept).st_size
        except OSError as error:
            raise self.failed(because(error)) from error
        finally:
            self.drop(temp)

    def _is_kept(self, temp: str, kept: str, same: Callable[[str, str], bool]) -> bool:
        try:
            info = os.lstat(kept)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(info.st_mode) and same(temp, kept)

    def _replace(self, temp: str, kept: str) -> None:
        descriptor = os.open(temp, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o600)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temp, kept)
        folder = os.open(os.path.dirname(kept), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def same_bytes(one: str, other: str, skip: Iterable[tuple[int, int]] = ()) -> bool:
    """Whether two files are equal outside ``skip``, ranges (from, to) that count in both."""
    if os.stat(one).st_size != os.stat(other).st_size:
        return False
    with open(one, "rb") as a, open(other, "rb") as b:
        at = 0
        while True:
            left, right = a.read(_CHUNK), b.read(_CHUNK)
            if left != right and _without(left, at, skip) != _without(right, at, skip):
                return False
            if not left:
                return True
            at += len(left)


def _without(chunk: bytes, at: int, skip: Iterable[tuple[int, int]]) -> bytes:
    blank = bytearray(chunk)
    for start, end in skip:
        low, high = max(start - at, 0), min(end - at, len(blank))
        if low < high:
            blank[low:high] = bytes(high - low)
    return bytes(blank)


def sha256_of(path: str) -> str:
    """The sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def compare_rows(wanted: dict[str, int], found: dict[str, int]) -> list[str]:
    """How two counts differ, in words; empty when they agree."""
    words = []
    for table in sorted(set(wanted) | set(found)):
        want, got = wanted.get(table), found.get(table)
        if want != got:
            words.append(
                f"{table}: {want if want is not None else 'no table'} dumped, {got if got is not None else 'no table'} loaded"
            )
    return words
