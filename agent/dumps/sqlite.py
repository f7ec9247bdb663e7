"""SQLite: a consistent copy of a live database, and its way back into a tree.

The copy is made with SQLite's online backup under one read transaction, so that it is complete as of its start
whatever is written meanwhile, into a fresh file, so that an unchanged database gives the same bytes.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from typing import Any

from ..data.plan import Database
from ..errors import AgentError, because
from ..root import Root
from . import sqlite_text
from .common import Clock, Dump, Loaded, Place, compare_rows, file_name, sha256_of

__all__ = ["dump", "load", "place", "rows_of"]

_PAGES = 8192  # a step of the backup: 32 MB at the usual page size
_BUSY = 60.0  # seconds to wait for a writer that holds the database
_POLL = 0.002
_TICKS = 100_000  # virtual machine instructions between two looks at the clock
BESIDE = ("-wal", "-shm", "-journal")
_GLOB = frozenset("*?[")
# What the database needs of its application and the plain library lacks.
_LACKING = re.compile(r"no such (collation sequence|function|module): (.+)")
_STAND_INS = 50


def dump(place: Place, source: str, timeout: float) -> list[Dump]:
    """Dump every file the entry names. Raises AgentError when there is none, or one is damaged or cannot be read."""
    clock, database = Clock(timeout), place.database
    many = bool(_GLOB & set(database.path))
    dumps = []
    for path in _found(place, source):
        item = path if many else ""
        dumps.append(_one(place, f"{source}/{path}", path, item, clock))
    return dumps


def _found(place: Place, source: str) -> list[str]:
    """Paths relative to ``source``. A link that leads out of it is refused: it could name another service's data."""
    real, path = place.root.at(source), place.database.path
    names = glob.glob(path, root_dir=real, recursive=True) if _GLOB & set(path) else [path]
    names = sorted(n for n in names if not n.endswith(BESIDE) and not os.path.isdir(f"{real}/{n}"))
    if not names or not all(os.path.lexists(f"{real}/{n}") for n in names):
        raise place.failed(f"{source}/{path} does not exist: correct the path, or start the service once")
    top = os.path.realpath(real)
    for name in names:
        if os.path.commonpath([top, os.path.realpath(f"{real}/{name}")]) != top:
            raise place.failed(f"{source}/{name} is a link that leads out of its folder")
    return names


def _one(place: Place, live: str, path: str, item: str, clock: Clock) -> Dump:
    real = place.root.at(live)
    file = file_name(place.database.name, item, ".sql" if place.database.text else ".sqlite")
    temp = place.temp(f"{file}.copy")
    try:
        info = os.stat(real)
        if not stat.S_ISREG(info.st_mode) or info.st_size == 0:
            raise place.failed(f"{live} is {'empty' if info.st_size == 0 else 'not a file'}", item)
        _copy(real, temp, clock)
        rows, pragmas, checked = _looked(temp, clock)
        sha, size = _kept(place, temp, file, rows, clock)
    except sqlite3.Error as error:
        why = f"{live}: {error}" if not clock.over else f"{live}: not done after {clock.timeout:g} s"
        raise place.failed(why, item) from error
    except OSError as error:
        raise place.failed(f"{live}: {because(error)}", item) from error
    except ValueError as error:
        raise place.failed(f"{live}: {error}", item) from error
    finally:
        place.drop(temp)
    extra = {"path": path, "mount": place.database.mount, "text": place.database.text, "pragmas": pragmas}
    if checked != "integrity_check":
        extra["checked"] = checked
    name = f"{place.database.name}/{item}" if item else place.database.name
    owner = (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode))
    return Dump(name, f"dumps/{file}", "sqlite", sha, size, rows, sqlite3.sqlite_version, owner, extra)


def _kept(place: Place, copy: str, file: str, rows: dict[str, int], clock: Clock) -> tuple[str, int]:
    if not place.database.text:
        return place.keep(copy, file, lambda: None)
    temp, descriptor = place.create(file)
    with open(descriptor, "wb") as stream, _opened(copy, clock) as database:
        sqlite_text.write(database, stream)

    def loads() -> None:
        """A text that does not come back as the same database is no dump."""
        again = place.temp(f"{file}.again")
        try:
            sqlite_text.read(temp, again)
            found = _looked(again, clock)[0]
        finally:
            place.drop(again)
        if found != rows:
            raise ValueError(
                f"as text it would come back different ({compare_rows(rows, found)[0]}): set text to false"
            )

    try:
        return place.keep(temp, file, loads)
    finally:
        place.drop(temp)


def _copy(live: str, copy: str, clock: Clock) -> None:
    """Online backup. A database left in the middle of a write by a crash is rolled back first, as its next user would."""
    try:
        _backup(live, copy, "ro", clock)
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error) and "unable to open" not in str(error):
            raise
        Place.drop(copy)
        _backup(live, copy, "rw", clock)


def _backup(live: str, copy: str, mode: str, clock: Clock) -> None:
    def progress(*_: int) -> None:
        if clock.over:
            raise sqlite3.OperationalError(f"not done after {clock.timeout:g} s")

    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.close(descriptor)
    with (
        contextlib.closing(_connect(live, mode, clock)) as source,
        contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as target,
    ):
        target.execute("PRAGMA synchronous = OFF")
        target.execute("PRAGMA journal_mode = OFF")
        # The transaction keeps all steps at one moment: without it a busy database starts the copy over and over.
        _begin(source, clock)
        source.backup(target, pages=_PAGES, progress=progress)
        source.execute("ROLLBACK")


def _begin(source: sqlite3.Connection, clock: Clock) -> None:
    """Get into a read transaction. SQLite's own waiting sleeps ever longer and never gets in beside a busy writer."""
    patience = Clock(min(_BUSY, clock.left))
    source.execute("PRAGMA busy_timeout = 0")
    while True:
        try:
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master").fetchall()
            return
        except sqlite3.OperationalError as error:
            if source.in_transaction:
                source.execute("ROLLBACK")
            if "locked" not in str(error) or patience.over:
                raise
        time.sleep(_POLL)


def _connect(path: str, mode: str, clock: Clock) -> sqlite3.Connection:
    uri = f"file:{_uri(path)}?{mode if '=' in mode else f'mode={mode}'}"
    connection = sqlite3.connect(uri, uri=True, timeout=1.0, isolation_level=None)
    connection.set_progress_handler(lambda: 1 if clock.over else 0, _TICKS)
    return connection


def _uri(path: str) -> str:
    """A path as part of a file: URI."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@contextlib.contextmanager
def _opened(path: str, clock: Clock) -> Iterator[sqlite3.Connection]:
    """A file that nobody else has open. ``immutable`` leaves no -wal beside a database that is in WAL mode."""
    with contextlib.closing(_connect(path, "immutable=1", clock)) as connection:
        yield connection


def _looked(path: str, clock: Clock) -> tuple[dict[str, int], dict[str, Any], str]:
    """Rows, pragmas, and how a copy was checked. Raises ValueError when it is damaged, sqlite3.Error when unreadable."""
    with _opened(path, clock) as connection:
        checked = _check(connection)
        return _rows(connection), _pragmas(connection, path), checked


def _check(connection: sqlite3.Connection) -> str:
    """Check the whole file; without indexes where their order is known to the application alone. Returns how."""
    pragma = "integrity_check"
    for _ in range(_STAND_INS):
        try:
            said = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}(10)")]
        except sqlite3.OperationalError as error:
            if not _stood_in(connection, str(error)):
                raise
            pragma = "quick_check"
            continue
        if said != ["ok"]:
            raise ValueError(f"{pragma} says {'; '.join(said[:3])}: the live database is damaged")
        return pragma
    raise ValueError("it needs too many parts of its application to be checked")


def _stood_in(connection: sqlite3.Connection, complaint: str) -> bool:
    """Put something in the place of what the plain library lacks: enough to read every page and count rows."""
    found = _LACKING.search(complaint)
    if found is None:
        return False
    if found[1] == "collation sequence":
        connection.create_collation(found[2], lambda a, b: (a > b) - (a < b))
    elif found[1] == "function":
        connection.create_function(found[2].rstrip("()"), -1, lambda *_: None, deterministic=True)
    return True


def _rows(connection: sqlite3.Connection) -> dict[str, int]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND rootpage > 0"
    names = sorted(str(name) for (name,) in connection.execute(query))
    return {name: _count(connection, name) for name in names}


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {sqlite_text.quoted(table)}").fetchone()[0])  # noqa: S608 (quoted)


def _pragmas(connection: sqlite3.Connection, path: str) -> dict[str, Any]:
    names = ("user_version", "application_id", "page_size", "encoding", "auto_vacuum")
    found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}
    with open(path, "rb") as stream:
        header = stream.read(20)
    # Asked through ``immutable`` the mode reads "delete" always; byte 18 of the header tells.
    return {**found, "journal_mode": "wal" if header[18:19] == b"\x02" else "delete"}


def rows_of(path: str, timeout: float = 600.0) -> dict[str, int]:
    """Table to row count of a database file at a real path that nobody has open."""
    with _opened(path, Clock(timeout)) as connection:
        return _rows(connection)


def load(
    root: Root, database: Database, facts: dict[str, Any], file: str, staging: str, timeout: float
) -> Loaded:
    """Place a dump in the new tree of its mount, at the path it came from."""
    return place(root, facts, file, f"{staging}/{facts['extra']['path']}", timeout, database.name)


def place(
    root: Root, facts: dict[str, Any], file: str, path: str, timeout: float = 600.0, name: str = "sqlite"
) -> Loaded:
    """Put a dump at ``path`` (a host path in a tree nobody uses yet): copied, checked, with its owner and mode.

    No -wal, -shm or -journal is left beside it: a stale one would change the rows while every check says ok.
    Raises AgentError; then nothing stands at ``path`` that was not there before, except that those three are gone.
    """
    started, clock = time.monotonic(), Clock(timeout)
    real, temp = root.at(path), root.at(f"{path}.understudy-new")
    try:
        if sha256_of(root.at(file)) != facts["sha256"]:
            raise AgentError(
                f"{name}: {file} is not the dump its manifest names: take another snapshot", "mismatch"
            )
        os.makedirs(os.path.dirname(real), exist_ok=True)
        Place.drop(temp)
        rows = _built(root.at(file), temp, facts, clock)
        for end in BESIDE:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(real + end)
        _own(root, temp, facts["owner"])
        os.rename(temp, real)
    except (sqlite3.Error, ValueError) as error:
        raise AgentError(f"{name}: {file} cannot be placed at {path}: {error}", "mismatch") from error
    except OSError as error:
        raise AgentError(f"{name}: {path} cannot be written: {because(error)}", "io") from error
    finally:
        Place.drop(temp)
    return Loaded(name, "sqlite", rows, os.stat(real).st_size, round(time.monotonic() - started, 3), path)


def _built(file: str, temp: str, facts: dict[str, Any], clock: Clock) -> dict[str, int]:
    if facts["extra"].get("text"):
        sqlite_text.read(file, temp)
        if facts["extra"]["pragmas"]["journal_mode"] == "wal":
            sqlite_text.set_wal(temp)
    else:
        _copy_file(file, temp)
    rows, pragmas, _ = _looked(temp, clock)
    wrong = compare_rows(facts["rows"], rows)
    wrong += [
        f"{k} is {pragmas[k]}, not {v}" for k, v in facts["extra"]["pragmas"].items() if pragmas[k] != v
    ]
    if wrong:
        raise ValueError("; ".join(wrong[:3]))
    return rows


def _copy_file(source: str, target: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(source, "rb") as stream, open(os.open(target, flags, 0o600), "wb") as out:
        while chunk := stream.read(1 << 20):
            out.write(chunk)


def _own(root: Root, path: str, owner: list[int] | None) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if owner:
            if root.may_own:
                os.fchown(descriptor, owner[0], owner[1])
            os.fchmod(descriptor, owner[2] & 0o777)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
