"""A store in one SQLite file, opened and journaled the way the real application does it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .core import refuse
from .durable import missing_numbers, sync_folder, write_durably

HEADER = b"SQLite format 3\x00"


@dataclass(frozen=True)
class Layout:
    """How an application keeps rows. ``insert`` gets the number, ``numbers`` selects one column of numbers.

    ``files`` turns a number into the path (below ``folder``) and content of the file that belongs to the row.
    ``beside`` names files, and folders that are empty at first, that prove it is not a first start.
    """

    database: Path
    schema: str
    insert: Callable[[sqlite3.Connection, int], None]
    numbers: str
    wal: bool = False
    beside: tuple[Path, ...] = ()
    files: Callable[[int], tuple[Path, bytes]] | None = None
    setup: Callable[[sqlite3.Connection], None] = lambda connection: None


class SqliteStore:
    """Numbered rows in the application's own tables; one writer at a time."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.lock = threading.Lock()
        self.connection = open_database(layout)

    def commit(self, with_file: bool) -> dict[str, Any]:
        with self.lock:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                number = 1 + max(self._numbers(), default=0)
                answer: dict[str, Any] = {"n": number}
                if with_file and self.layout.files:
                    path, content = self.layout.files(number)
                    # The file first: a row without its file would be a loss, a file without a row is not.
                    write_durably(path, content)
                    answer["file"] = str(path)
                self.layout.insert(self.connection, number)
                self.connection.execute("COMMIT")
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            return answer

    def rows(self) -> dict[str, Any]:
        with self.lock:
            return missing_numbers(self._numbers())

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Read rows of the application's tables."""
        with self.lock:
            return self.connection.execute(statement, values).fetchall()

    def write(self, statement: str, *values: object) -> None:
        """Change the application's tables in a transaction of its own."""
        with self.lock:
            self.connection.execute(statement, values)

    def close(self) -> None:
        with self.lock:
            self.connection.close()

    def _numbers(self) -> list[int]:
        return [number for (number,) in self.connection.execute(self.layout.numbers)]


def open_database(layout: Layout) -> sqlite3.Connection:
    """Open the database, or make it in an empty place. Anything in between stops the program."""
    path = layout.database
    if not path.exists():
        _refuse_beside_data(layout)
        _create(layout)
    connection = _open_existing(path)
    connection.execute("PRAGMA synchronous=FULL")
    if layout.wal:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(layout.schema)
    return connection


def _open_existing(path: Path) -> sqlite3.Connection:
    try:
        with open(path, "rb") as file:
            header = file.read(len(HEADER))
    except OSError as error:
        refuse(f"{path}: {error.strerror}")
    if header != HEADER:
        refuse(f"{path} is not an SQLite database")
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        refuse(f"{path}: attempt to write a readonly database")
    connection = _connect(path)
    try:
        (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        result = str(error)
    if result != "ok":
        refuse(f"{path}: {result}")
    return connection


def _refuse_beside_data(layout: Layout) -> None:
    leftovers = [layout.database.with_name(layout.database.name + end) for end in ("-wal", "-journal")]
    found = [
        path
        for path in (*leftovers, *layout.beside)
        if path.is_file() or (path.is_dir() and any(path.iterdir()))
    ]
    if found:
        refuse(f"{layout.database} is missing although {found[0]} is there: a new one would hide the loss")


def _create(layout: Layout) -> None:
    """Made aside and renamed, so that a start that is cut short leaves nothing half made."""
    path, unfinished = layout.database, layout.database.with_name(layout.database.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.unlink(missing_ok=True)
        connection = _connect(unfinished)
        connection.executescript(layout.schema)
        layout.setup(connection)
        connection.close()
        os.replace(unfinished, path)
    except (OSError, sqlite3.OperationalError) as error:
        refuse(f"unable to create {path}: {error}")
    sync_folder(path.parent)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
