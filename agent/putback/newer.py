"""What an in-place restore would take away: files, rows and minutes that are newer than the snapshot."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from ..data.patterns import any_of
from ..data.plan import Service
from ..errors import AgentError
from ..root import Root
from . import listing
from .arrive import database_of
from .places import Layout
from .target import ours

__all__ = ["loss", "newer", "refuse"]

_SHOWN = 10
_SECONDS = 5.0
_BESIDE = ("", "-wal", "-shm", "-journal")


def newer(
    root: Root,
    found: Layout,
    manifest: dict[str, Any],
    since: float,
    now: float,
    spool: str,
) -> dict[str, Any]:
    """{"minutes", "files", "bytes", "examples": [host paths], "rows": {database: {table: now - then}}}.

    ``since`` is the snapshot's time, ``spool`` its list. Files count when they changed after it and differ
    from it in size or time, or are not in it. Rows are compared for SQLite, where that is
    cheap; a table that only one side has counts whole.
    """
    changed: dict[str, tuple[str, int, int]] = {}
    for path, place, info in _live(root, found):
        if max(info.st_mtime, info.st_ctime) > since:
            changed[_as_listed(path)] = (place, info.st_size, info.st_mtime_ns)
    for path, _, size, stamp in listing.read(spool) if changed else ():
        # The snapshot's clock has whole seconds, and a restore itself changes inodes: what is the same is not lost.
        if path in changed and changed[path][1:] == (size, listing.nanoseconds(stamp)):
            del changed[path]
    lost = sorted((place, size) for place, size, _ in changed.values())
    return {
        "minutes": round(max(0.0, now - since) / 60, 1),
        "files": len(lost),
        "bytes": sum(size for _, size in lost),
        "examples": [place for place, _ in lost[:_SHOWN]],
        "rows": _rows(root, found, manifest),
    }


def _as_listed(path: str) -> str:
    """How restic's list spells a name that is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _live(root: Root, found: Layout) -> Iterator[tuple[str, str, os.stat_result]]:
    """Regular files that the snapshot could hold: path in the snapshot, host path, status."""
    for key, live in found.lives.items():
        mount = found.service.mount(key)
        stage = f"/{found.service.name}/data/{key}"
        own = [
            f"{d.path.strip('/')}{end}" for d in found.service.databases if d.mount == key for end in _BESIDE
        ]
        hidden = any_of([*(rule.path.strip("/") for rule in mount.rules if rule.class_ != "keep"), *own])
        real = root.at(live)
        with suppress(OSError):
            info = os.lstat(real)
            if stat.S_ISREG(info.st_mode):
                yield stage, live, info
        for path, info in _walk(real, "", hidden):
            yield f"{stage}/{path}", f"{live}/{path}", info


def _walk(real: str, below: str, hidden: Any) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = list(os.scandir(f"{real}/{below}" if below else real))
    except OSError:
        return
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if (not below and ours(entry.name)) or (hidden and hidden.fullmatch(f"{path}/")):
            continue
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                if not os.path.ismount(entry.path):
                    yield from _walk(real, path, hidden)
            elif entry.is_file(follow_symlinks=False):
                yield path, entry.stat(follow_symlinks=False)


def _rows(root: Root, found: Layout, manifest: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Tables that do not have as many rows as in the snapshot; what cannot be asked is left out."""
    differ = {}
    for name, facts in sorted((manifest.get("databases") or {}).items()):
        database = database_of(found.service, name)
        if facts["kind"] != "sqlite" or database is None or database.mount not in found.lives:
            continue
        place = root.at(f"{found.lives[database.mount]}/{facts['extra']['path']}")
        now = _count(place)
        then = facts["rows"]
        if now is not None:
            tables = {t: now.get(t, 0) - then.get(t, 0) for t in sorted(set(now) | set(then))}
            differ[name] = {table: count for table, count in tables.items() if count}
    return {name: tables for name, tables in differ.items() if tables}


def _count(place: str) -> dict[str, int] | None:
    """Rows of a live database without leaving a trace beside it; None when that cannot be had quickly."""
    wal = os.path.exists(f"{place}-wal") and os.path.getsize(f"{place}-wal") > 0
    if not os.path.isfile(place) or (wal and not os.path.exists(f"{place}-shm")):
        return None
    uri = f"file:{_for_uri(place)}?{'mode=ro' if wal else 'immutable=1'}"
    until = time.monotonic() + _SECONDS
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=1)) as connection:
            connection.set_progress_handler(lambda: 1 if time.monotonic() > until else 0, 100_000)
            return _tables(connection)
    except sqlite3.Error:
        return None


def _for_uri(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _tables(connection: sqlite3.Connection) -> dict[str, int]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND rootpage > 0"
    names = [str(name) for (name,) in connection.execute(query)]
    return {name: _rows_in(connection, name) for name in names}


def _rows_in(connection: sqlite3.Connection, table: str) -> int:
    quoted = '"' + table.replace('"', '""') + '"'
    return int(connection.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0])  # noqa: S608


def loss(found: dict[str, Any]) -> str:
    """The figures in words, "" when nothing would be lost."""
    words = []
    if found["files"]:
        words.append(f"{found['files']} files ({found['bytes'] / 1e6:.1f} MB)")
    for name, tables in found["rows"].items():
        words += [f"{count:+d} rows in {name}.{table}" for table, count in tables.items()]
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def refuse(service: Service, found: dict[str, Any], confirmed: bool) -> None:
    """Raise AgentError kind "refused" when something newer would go and nobody said that it may."""
    words = loss(found)
    if words and not confirmed:
        raise AgentError(
            f"{service.name}: newer than the snapshot of {found['minutes']:g} minutes ago: {words}. Restore to a folder "
            "with 'to', or repeat with confirm_loss; nothing was changed",
            newer=found,
        )
