"""The SQL and the programs of dumps of MariaDB and MySQL: built here, run by mariadb.py."""

# ruff: noqa: S608 (SQL is built here on purpose: names and values go through the quoting functions below)

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .common import new_name, old_name
from .server import limited

__all__ = ["client_argv", "count_rows", "dump_argv", "ident", "literal", "objects_argv", "views_argv"]

# A table of ours that travels with the swap: what it holds, and where it stands, tell how far a restore came.
MARKER = "understudy__swap"
END = b"-- Dump completed"

# Runs in the container: finds the programs under either name, and a login that works: the given user, or root, or
# the unit's own user. Passwords come from the image's variables, or from the files they name.
PRELUDE = """\
user=$1 tool=$2; shift 2
value() {
  for prefix in MARIADB MYSQL; do
    eval "text=\\${${prefix}_$1:-}"; [ -z "$text" ] || { printf %s "$text"; return; }
    eval "text=\\${${prefix}_$1_FILE:-}"; [ -z "$text" ] || { cat "$text"; return; }
  done
}
program() {
  for name in "mariadb$1" "mysql${1#-}"; do command -v "$name" && return; done
  echo "neither mariadb$1 nor mysql${1#-} is in this image" >&2; return 127
}
client=$(program "") || exit 127
login() {
  [ -n "$1" ] || return 1
  export MYSQL_PWD="$2"; user=$1
  said=$("$client" --user="$user" --execute="SELECT 1" </dev/null 2>&1 >/dev/null)
}
if [ -n "$user" ] && [ "$user" != root ]; then login "$user" "$(value PASSWORD)"
else login root "$(value ROOT_PASSWORD)" || login "$(value USER)" "$(value PASSWORD)"
fi || { echo "no login to the server works: ${said##*ERROR }" >&2; exit 1; }
program=$(program "$tool") || exit 127
set -- "$program" --user="$user" "$@"
"""

# MySQL's own client would write server-wide replication state into the dump.
_MYSQL_ONLY = """\
case $("$1" --version) in *MariaDB*) ;; *) program=$1; shift; set -- "$program" --set-gtid-purged=OFF "$@" ;; esac
"""

DATABASES = """\
SELECT s.SCHEMA_NAME, CAST(COALESCE(SUM(t.DATA_LENGTH + t.INDEX_LENGTH), 0) AS UNSIGNED)
FROM information_schema.SCHEMATA s LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.SCHEMA_NAME
WHERE s.SCHEMA_NAME NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')
GROUP BY s.SCHEMA_NAME ORDER BY s.SCHEMA_NAME;
"""

_TABLES = ("BASE TABLE", "SYSTEM VERSIONED", "SEQUENCE")


def ident(name: str) -> str:
    """An SQL identifier."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """An SQL string as bytes, whatever the server's mode does to backslashes."""
    return f"CONVERT(0x{text.encode().hex()} USING utf8mb4)" if text else "''"


def _program(user: str, tool: str, limit: float, argv: Sequence[str], more: str = "") -> list[str]:
    return limited(f"{PRELUDE}{more}", [user, tool], argv, limit)


def client_argv(user: str, limit: float, database: str = "", raw: bool = False) -> list[str]:
    """The client that reads SQL from standard input, stops at the first error, and prints bare values.

    ``raw``: a backslash in a value is printed as it is.
    """
    flags = [
        *(["--raw"] if raw else []),
        "--batch",
        "--skip-column-names",
        "--binary-mode",
        "--default-character-set=utf8mb4",
    ]
    return _program(user, "", limit, [*flags, *([f"--database={database}"] if database else [])])


_DUMP = ("--single-transaction", "--skip-dump-date", "--no-tablespaces", "--default-character-set=utf8mb4")


def dump_argv(user: str, database: str, limit: float) -> list[str]:
    """One database with all it holds to standard output, a line for each row, without a time in it."""
    flags = [
        "--skip-extended-insert",
        "--no-autocommit",
        "--routines",
        "--events",
        "--triggers",
        "--hex-blob",
    ]
    return _program(user, "-dump", limit, [*_DUMP, *flags, database], _MYSQL_ONLY)


def objects_argv(user: str, database: str, limit: float) -> list[str]:
    """Triggers, routines and events of a database, each after a DROP of its name."""
    flags = ["--no-data", "--no-create-info", "--routines", "--events", "--triggers", "--add-drop-trigger"]
    return _program(user, "-dump", limit, [*_DUMP, *flags, database], _MYSQL_ONLY)


def views_argv(user: str, database: str, views: Sequence[str], limit: float) -> list[str]:
    """The views of a database, each after a DROP of its name."""
    return _program(
        user, "-dump", limit, [*_DUMP, "--no-data", "--skip-triggers", database, *views], _MYSQL_ONLY
    )


def facts(database: str) -> str:
    """Three kinds of lines: version; character set and collation; each table outside transactions."""
    name = literal(database)
    return f"""\
SELECT 'version', VERSION();
SELECT 'charset', DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name};
SELECT 'plain', TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name}
  AND TABLE_TYPE = 'BASE TABLE' AND ENGINE NOT IN ('InnoDB', 'RocksDB', 'TokuDB') ORDER BY TABLE_NAME;
"""


def tables(databases: Iterable[str], sequences: bool = True) -> str:
    """A line for each table, and sequence, ours included: database and table, in hex."""
    kinds = ", ".join(f"'{kind}'" for kind in (_TABLES if sequences else _TABLES[:2]))
    names = ", ".join(map(literal, databases))
    return (
        f"SELECT HEX(TABLE_SCHEMA), HEX(TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({names}) "
        f"AND TABLE_TYPE IN ({kinds}) ORDER BY TABLE_SCHEMA, TABLE_NAME;\n"
    )


def counts(database: str, names: Iterable[str]) -> str:
    """A line for each table: its name in hex and its rows."""
    lines = (
        f"SELECT '{name.encode().hex()}', COUNT(*) FROM {ident(database)}.{ident(name)};" for name in names
    )
    return "\n".join([*lines, ""])


def objects(database: str) -> str:
    """A line for each trigger, event, view and routine: its kind and its name in hex."""
    name = literal(database)
    return f"""\
SELECT 'TRIGGER', HEX(TRIGGER_NAME) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {name};
SELECT 'EVENT', HEX(EVENT_NAME) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name};
SELECT 'VIEW', HEX(TABLE_NAME) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {name};
SELECT ROUTINE_TYPE, HEX(ROUTINE_NAME) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name};
"""


def drop_objects(database: str, found: Iterable[tuple[str, str]]) -> str:
    """Statements that drop what ``objects`` listed."""
    lines = (f"DROP {kind} IF EXISTS {ident(database)}.{ident(name)};" for kind, name in found)
    return "\n".join([*lines, ""])


def create_database(name: str, charset: str, collation: str) -> str:
    return f"CREATE DATABASE IF NOT EXISTS {ident(name)} CHARACTER SET {charset} COLLATE {collation};\n"


def drop_database(name: str) -> str:
    return f"DROP DATABASE IF EXISTS {ident(name)};\n"


def make_marker(database: str, objects_text: str) -> str:
    """The marker in a database that was loaded, with what must be made again after the swap."""
    table = f"{ident(database)}.{ident(MARKER)}"
    return (
        f"CREATE TABLE {table} (k VARCHAR(32) PRIMARY KEY, v LONGBLOB) ENGINE=InnoDB;\n"
        f"{_set(table, 'new', objects_text)}"
    )


def mark(database: str, **values: str) -> str:
    """Write values into the marker, in one transaction."""
    table = f"{ident(database)}.{ident(MARKER)}"
    return "".join(["START TRANSACTION;\n", *(_set(table, k, v) for k, v in values.items()), "COMMIT;\n"])


def _set(table: str, key: str, value: str) -> str:
    raw = value.encode(errors="surrogateescape").hex()
    return f"REPLACE INTO {table} VALUES ('{key}', X'{raw}');\n"


def read_marker(database: str) -> str:
    """A line for each value: its key, and it in hex."""
    return f"SELECT k, HEX(v) FROM {ident(database)}.{ident(MARKER)};\n"


def state(database: str) -> str:
    """Lines "has NAME", "marker NAME", NAME being db, new or old."""
    lines = []
    for key, name in (("db", database), ("new", new_name(database)), ("old", old_name(database))):
        lines += [
            f"SELECT 'has', '{key}' FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {literal(name)};",
            f"SELECT 'marker', '{key}' FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(name)} "
            f"AND TABLE_NAME = '{MARKER}';",
        ]
    return "\n".join([*lines, ""])


def rename(moves: Iterable[tuple[str, str, str]]) -> str:
    """One statement that moves tables (table, from database, to database): all of them or none."""
    parts = (f"{ident(old)}.{ident(t)} TO {ident(new)}.{ident(t)}" for t, old, new in moves)
    return f"RENAME TABLE {', '.join(parts)};\n"


USERS = """\
SELECT HEX(User), HEX(Host) FROM mysql.user WHERE Host <> '' AND User NOT IN
  ('', 'root', 'healthcheck', 'mariadb.sys', 'mysql.sys', 'mysql.session', 'mysql.infoschema')
ORDER BY User, Host;
"""
USERS_END = "-- understudy: end of users\n"
_USER = "-- user "


def show_users(users: Iterable[tuple[str, str]]) -> str:
    """What makes each user again with its rights: a line "-- user NAME HOST" (in hex), then statements."""
    parts = []
    for name, host in users:
        who = f"{_string(name)}@{_string(host)}"
        mark = f"{_USER}{name.encode().hex()} {host.encode().hex()}"
        parts.append(f"SELECT '{mark}';\nSHOW CREATE USER {who};\nSHOW GRANTS FOR {who};\n")
    return "".join(parts)


def users_text(out: Iterable[str]) -> str:
    """The file that is kept, from what ``show_users`` printed."""
    lines = (line if line.startswith(_USER) else f"{line};" for line in out)
    return "".join(f"{line}\n" for line in lines) + USERS_END


def users_of(text: str) -> dict[tuple[str, str], list[str]]:
    """(name, host) to the statements that make this user. Raises ValueError when the text is not whole."""
    if not text.endswith(USERS_END):
        raise ValueError("it is truncated")
    found: dict[tuple[str, str], list[str]] = {}
    for line in text.removesuffix(USERS_END).splitlines():
        if line.startswith(_USER):
            # An empty name would leave nothing between the blanks.
            name, host = (bytes.fromhex(part).decode() for part in line.removeprefix(_USER).split(" "))
            statements = found.setdefault((name, host), [])
        else:
            statements.append(line)
    return found


def hosts_of(role: str) -> str:
    """A line for each host part under which a user is known."""
    return f"SELECT Host FROM mysql.user WHERE User = {literal(role)};\n"


def set_password(role: str, host: str, password: str) -> str:
    """Set a user's password."""
    return f"ALTER USER {_string(role)}@{_string(host)} IDENTIFIED BY {_string(password)};\n"


def _string(text: str) -> str:
    """A plain string, where the grammar takes no expression (default sql_mode: a backslash escapes)."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


_LOCK = re.compile(rb"LOCK TABLES (`(?:[^`]|``)+`) WRITE;\s*$")


def count_rows(lines: Iterable[bytes]) -> tuple[dict[str, int], bool]:
    """Rows of each table by the INSERT lines of a dump, and whether the dump has its end.

    Only lines between a table's LOCK and UNLOCK count: the text of a trigger may look like a row, too.
    """
    rows: dict[str, int] = {}
    table, start, last = "", b"", b""
    for line in lines:
        if table:
            if line.startswith(start):
                rows[table] += 1
            elif line.startswith(b"UNLOCK TABLES;"):
                table = ""
        elif line.startswith(b"LOCK TABLES "):
            found = _LOCK.match(line)
            if found:
                table = found[1][1:-1].replace(b"``", b"`").decode("utf-8", "replace")
                start = b"INSERT INTO " + found[1] + b" "
                rows[table] = 0
        if line.strip():
            last = line
    return rows, last.startswith(END) and not table
