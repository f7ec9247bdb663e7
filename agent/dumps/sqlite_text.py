"""A SQLite database as SQL text, one row a line, and back: for large databases that change everywhere.

Unlike ``.dump`` it keeps implicit row ids (full-text indexes refer to them), texts with zero bytes, and the
settings of the file itself.
"""

# ruff: noqa: S608 (SQL is built here on purpose: names and values go through the quoting functions below)

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["END", "literal", "quoted", "read", "set_wal", "write"]

END = "-- understudy: end of dump\n"
_FIRST = ("page_size", "encoding", "auto_vacuum")
_LAST = ("user_version", "application_id")


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def write(database: sqlite3.Connection, stream: IO[bytes]) -> None:
    """Write the whole database; the same content gives the same bytes."""
    database.text_factory = _decoded
    try:
        for line in _lines(database):
            stream.write(line.encode())
        stream.flush()
    finally:
        database.text_factory = str


def _decoded(raw: bytes) -> str:
    """Text as SQLite holds it, also where it is no valid UTF-8."""
    return raw.decode("utf-8", "surrogateescape")


def _lines(database: sqlite3.Connection) -> Iterator[str]:
    settings = {name: database.execute(f"PRAGMA {name}").fetchone()[0] for name in (*_FIRST, *_LAST)}
    encoding = settings["encoding"]
    for name in _FIRST:
        yield f"PRAGMA {name} = {literal(settings[name], encoding)};\n"
    yield "PRAGMA foreign_keys = OFF;\nBEGIN;\n"
    schema = database.execute(
        "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master ORDER BY rowid"
    ).fetchall()
    tables = [row for row in schema if row[0] == "table" and not row[1].startswith("sqlite_")]
    for _, name, _, rootpage, sql in tables:
        if rootpage:
            yield _statement(sql)
            yield from _rows(database, name, encoding)
    yield from _own_tables(database, {row[1] for row in schema}, encoding)
    yield from (_statement(row[4]) for row in schema if row[0] != "table" and row[4])
    yield from _virtual([row for row in tables if not row[3]], encoding)
    yield "COMMIT;\n"
    for name in _LAST:
        yield f"PRAGMA {name} = {settings[name]};\n"
    yield END


def _statement(sql: str) -> str:
    """A statement of the schema; the end of one that may end in a comment stands on a line of its own."""
    return sql + ("\n;\n" if "--" in sql.rpartition("\n")[2] else ";\n")


def _virtual(tables: list[tuple[Any, ...]], encoding: str) -> Iterator[str]:
    """Virtual tables are only named: their content was written with the ordinary tables behind them."""
    if not tables:
        return
    yield "PRAGMA writable_schema = ON;\n"
    for _, name, table, _, sql in tables:
        values = ", ".join(literal(value, encoding) for value in ("table", name, table, 0, sql))
        yield f"INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql) VALUES ({values});\n"
    yield "PRAGMA writable_schema = OFF;\n"


def _own_tables(database: sqlite3.Connection, names: set[str], encoding: str) -> Iterator[str]:
    """SQLite's own tables with content: the counters of AUTOINCREMENT and the plain statistics of ANALYZE."""
    if "sqlite_sequence" in names:
        yield "DELETE FROM sqlite_sequence;\n"
        yield from _rows(database, "sqlite_sequence", encoding)
    if "sqlite_stat1" in names:
        yield "ANALYZE sqlite_master;\nDELETE FROM sqlite_stat1;\n"
        yield from _rows(database, "sqlite_stat1", encoding)


def _rows(database: sqlite3.Connection, table: str, encoding: str) -> Iterator[str]:
    columns, key = _columns(database, table)
    rowid = _rowid(database, table, columns)
    hidden = rowid and not table.startswith("sqlite_") and not key[1]
    names = [*([rowid] if hidden else []), *map(quoted, columns)]
    order = rowid or ", ".join(map(quoted, key[0]))
    query = f"SELECT {', '.join(names)} FROM {quoted(table)}" + (f" ORDER BY {order}" if order else "")
    into = f"INSERT INTO {quoted(table)} ({', '.join(names)}) VALUES ("
    for row in database.execute(query):
        yield into + ",".join(literal(value, encoding) for value in row) + ");\n"


def _columns(database: sqlite3.Connection, table: str) -> tuple[list[str], tuple[list[str], bool]]:
    """Columns that can be written (not generated ones); the primary key's, and whether it is the row id."""
    found = database.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    key = sorted((row for row in found if row[5]), key=lambda row: row[5])
    is_rowid = len(key) == 1 and key[0][2].upper() == "INTEGER"
    return [row[1] for row in found if row[6] == 0], ([row[1] for row in key], is_rowid)


def _rowid(database: sqlite3.Connection, table: str, columns: list[str]) -> str:
    """A name under which the row id can be read and written; "" where there is none."""
    taken = {column.lower() for column in columns}
    for name in ("rowid", "_rowid_", "oid"):
        if name not in taken:
            try:
                database.execute(f"SELECT {name} FROM {quoted(table)} LIMIT 0")
            except sqlite3.OperationalError:
                return ""  # a table WITHOUT ROWID
            return name
    return ""


def literal(value: Any, encoding: str) -> str:
    """A value as SQL: None, int, float, str (undecodable bytes as surrogates) or bytes (a blob)."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, float) and math.isinf(value):
        return "9e999" if value > 0 else "-9e999"
    if not isinstance(value, str):
        return repr(value)
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        # As bytes of the database's own encoding: a literal would end at the zero byte.
        raw = value.encode(encoding, "surrogateescape")
        return f"CAST(X'{raw.hex()}' AS TEXT)"
    return "'" + value.replace("'", "''") + "'"


def read(file: str, target: str) -> None:
    """Make the database anew at ``target``. Raises ValueError when the text is not whole, sqlite3.Error when it is wrong."""
    with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA journal_mode = OFF")
        ended = False
        for statement in _statements(file):
            ended = statement == END
            if not ended:
                database.execute(statement)
    if not ended:
        raise ValueError("the text has no end: it is truncated")


def _statements(file: str) -> Iterator[str]:
    """Whole statements; the last one is END, alone."""
    parts: list[str] = []
    with open(file, encoding="utf-8", newline="") as stream:
        for line in stream:
            if line == END and not parts:
                yield line
                continue
            parts.append(line)
            if line.endswith(";\n") and sqlite3.complete_statement("".join(parts)):
                yield "".join(parts)
                parts = []
    if parts:
        yield "".join(parts)


def set_wal(path: str) -> None:
    """Put a database that nobody has open into WAL mode."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
