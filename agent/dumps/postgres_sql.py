"""The SQL and the programs of dumps of PostgreSQL: built here, run by postgres.py."""

# ruff: noqa: S608 (SQL is built here on purpose: names and values go through the quoting functions below)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .common import new_name, old_name
from .server import limited

__all__ = [
    "conninfo",
    "create_database",
    "drop_database",
    "dump_argv",
    "globals_argv",
    "ident",
    "literal",
    "psql_argv",
    "restore_argv",
]

RESTRICT_KEY = "understudydump"

# Runs in the container: the image's own variables say who the superuser is and where its password lies.
PRELUDE = """\
export PGUSER="${1:-${POSTGRES_USER:-${POSTGRESQL_USERNAME:-postgres}}}" PGAPPNAME="$2"; shift 2
export PGCONNECT_TIMEOUT=15 PGCLIENTENCODING=UTF8
unset PGOPTIONS PGDATABASE
if [ -z "${PGPASSWORD:-}" ]; then
  file="${POSTGRES_PASSWORD_FILE:-${POSTGRESQL_PASSWORD_FILE:-}}"
  if [ -n "$file" ] && [ -r "$file" ]; then PGPASSWORD="$(cat "$file")"
  else PGPASSWORD="${POSTGRES_PASSWORD:-${POSTGRESQL_PASSWORD:-}}"; fi
  export PGPASSWORD
fi"""

_GLOBALS = (
    """\
if pg_dumpall --help | grep -q -e --restrict-key; then set -- "$@" --restrict-key="""
    + RESTRICT_KEY
    + "; fi"
)

# Ordinary tables whose rows a dump holds: members of extensions come with the extension.
COUNTS = """\
SELECT format('SELECT json_build_object(''t'', %L, ''n'', (SELECT count(*) FROM ONLY %I.%I))',
              n.nspname || '.' || c.relname, n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
\\gexec
"""

_FACTS = """\
SELECT json_build_object(
  'version', current_setting('server_version'),
  'database', (SELECT to_jsonb(d) FROM pg_database d WHERE datname = current_database()),
  'encoding', (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()),
  'owner', (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()),
  'comment', (SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()),
  'acl', (SELECT json_agg(json_build_array(CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee) END,
                                           privilege_type, is_grantable) ORDER BY grantee, privilege_type)
          FROM pg_database d, aclexplode(d.datacl) WHERE d.datname = current_database()),
  'settings', (SELECT json_agg(json_build_array(CASE setrole WHEN 0 THEN '' ELSE pg_get_userbyid(setrole) END, entry)
                               ORDER BY setrole, entry)
               FROM pg_db_role_setting, unnest(setconfig) entry
               WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND entry NOT LIKE 'understudy.%'),
  'extensions', (SELECT json_object_agg(extname, extversion ORDER BY extname) FROM pg_extension));
"""

DATABASES = """\
SELECT json_build_object('name', datname, 'bytes', pg_database_size(oid), 'version', current_setting('server_version'))
FROM pg_database WHERE NOT datistemplate AND datallowconn ORDER BY datname;
"""

HAS_TABLES = """\
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e');
"""


def ident(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string, whatever standard_conforming_strings says."""
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return f" E{quoted}" if "\\" in text else quoted


def conninfo(database: str) -> str:
    """A connection string: a database name alone would be read as one when it holds a ``=``."""
    return "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _program(user: str, app: str, limit: float, argv: Sequence[str], more: str = "") -> list[str]:
    prelude = f"{PRELUDE}\n{more}" if more else PRELUDE
    return limited(prelude, [user, app], argv, limit)


def psql_argv(user: str, app: str, database: str, limit: float) -> list[str]:
    """psql that reads SQL and prints bare values, and stops at the first error."""
    flags = [
        "--no-psqlrc",
        "--quiet",
        "--no-align",
        "--tuples-only",
        "--no-password",
        "--set=ON_ERROR_STOP=1",
    ]
    return _program(user, app, limit, ["psql", *flags, f"--dbname={conninfo(database)}"])


def dump_argv(user: str, app: str, database: str, snapshot: str, limit: float) -> list[str]:
    """pg_dump of the moment that ``snapshot`` names, uncompressed, to standard output."""
    flags = ["--format=custom", "--compress=0", f"--snapshot={snapshot}", "--lock-wait-timeout=60s"]
    return _program(user, app, limit, ["pg_dump", *flags, "--no-password", f"--dbname={conninfo(database)}"])


def globals_argv(user: str, app: str, limit: float) -> list[str]:
    """Roles with their password hashes, to standard output; without a random word where the client can."""
    return _program(user, app, limit, ["pg_dumpall", "--globals-only", "--no-password"], _GLOBALS)


def check_argv(user: str, app: str, limit: float) -> list[str]:
    """Read a dump from standard input to its last byte, and write it nowhere."""
    return _program(user, app, limit, ["pg_restore", "--file=/dev/null"])


def restore_argv(user: str, app: str, database: str, limit: float) -> list[str]:
    """Load a dump from standard input; the first error ends it."""
    flags = ["--exit-on-error", "--no-tablespaces", "--no-password"]
    return _program(user, app, limit, ["pg_restore", *flags, f"--dbname={conninfo(database)}"])


def session_start(app: str, limit: float) -> str:
    """Open the transaction whose moment the dump and the counts share. Prints the snapshot, then the facts."""
    milliseconds = round(limit * 1000)
    return f"""\
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
  AND application_name ~ '^understudy-[0-9]+$' AND application_name <> {literal(app)} \\g /dev/null
SELECT set_config(name, '0', false) FROM pg_settings
  WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout', 'idle_session_timeout') \\g /dev/null
SET statement_timeout = {milliseconds};
SET lock_timeout = '60s';
SET search_path = pg_catalog;
SET row_security = off;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot();
{_FACTS}"""


def create_database(facts: dict[str, Any], name: str) -> list[str]:
    """Statements that make an empty database like the dumped one, called ``name``. ``facts``: a dump's extra."""
    database = facts["properties"]
    words = [f"CREATE DATABASE {ident(name)} TEMPLATE template0 OWNER {ident(facts['owner'])}"]
    words += [f"ENCODING {literal(facts['encoding'])}"]
    words += [f"LC_COLLATE {literal(database['datcollate'])} LC_CTYPE {literal(database['datctype'])}"]
    locale = database.get("datlocale") or database.get("daticulocale")
    if database.get("datlocprovider") == "i" and locale:
        words += [f"LOCALE_PROVIDER icu ICU_LOCALE {literal(locale)}"]
        words += [f"ICU_RULES {literal(database['daticurules'])}"] if database.get("daticurules") else []
    if database.get("datlocprovider") == "b" and locale:
        words += [f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(locale)}"]
    words += [f"CONNECTION LIMIT {int(database.get('datconnlimit', -1))}"]
    return [f"{' '.join(words)};", *_properties(facts, name)]


def _properties(facts: dict[str, Any], name: str) -> list[str]:
    """Comment, rights and settings of the database itself, which a dump leaves to whoever creates it."""
    lines = []
    if facts.get("comment") is not None:
        lines.append(f"COMMENT ON DATABASE {ident(name)} IS {literal(facts['comment'])};")
    if facts.get("acl") is not None:
        holders = sorted({"", facts["owner"], *(grantee for grantee, _, _ in facts["acl"])})
        lines += [f"REVOKE ALL ON DATABASE {ident(name)} FROM {_grantee(holder)};" for holder in holders]
        for grantee, privilege, grantable in facts["acl"]:
            more = " WITH GRANT OPTION" if grantable else ""
            lines.append(f"GRANT {privilege} ON DATABASE {ident(name)} TO {_grantee(grantee)}{more};")
    for role, entry in facts.get("settings") or []:
        key, _, value = entry.partition("=")
        who = f"ROLE {ident(role)} IN " if role else ""
        lines.append(f"ALTER {who}DATABASE {ident(name)} SET {key} = {_setting(key, value)};")
    return lines


def _grantee(name: str) -> str:
    return ident(name) if name else "PUBLIC"


# Settings that are lists: quoted as one string they would become one name with commas in it.
_LISTS = ("search_path", "temp_tablespaces", "session_preload_libraries", "shared_preload_libraries",
          "local_preload_libraries", "unix_socket_directories")  # fmt: skip


def _setting(key: str, value: str) -> str:
    """A stored list setting is already written the way SET takes it."""
    return (value or "''") if key in _LISTS else literal(value)


def drop_database(name: str) -> str:
    """Drop a database of ours, also one that somebody is connected to."""
    return f"{terminate(name)}\nDROP DATABASE IF EXISTS {ident(name)};"


def terminate(name: str) -> str:
    """End all sessions of a database but ours; nothing is printed."""
    return (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {literal(name)} "
        "AND pid <> pg_backend_pid() \\g /dev/null"
    )


def state(database: str) -> str:
    """One JSON line: which of the three databases exist, and the token on the old one."""
    names = ", ".join(
        f"'{key}', EXISTS (SELECT FROM pg_database WHERE datname = {literal(name)})"
        for key, name in (("db", database), ("new", new_name(database)), ("old", old_name(database)))
    )
    token = (
        "(SELECT substr(entry, 18) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, "
        "unnest(setconfig) entry WHERE setrole = 0 AND entry LIKE 'understudy.token=%' "
        f"AND d.datname = {literal(old_name(database))})"
    )
    return f"SELECT json_build_object({names}, 'token', {token});\n"


def swap(database: str, token: str, has_db: bool) -> str:
    """One transaction: the database becomes ``__old`` with the token on it, the new one takes its name."""
    new, old = ident(new_name(database)), ident(old_name(database))
    lines = [terminate(new_name(database)), "BEGIN;"]
    if has_db:
        lines += [terminate(database), f"ALTER DATABASE {ident(database)} RENAME TO {old};"]
        lines += [f"ALTER DATABASE {old} SET understudy.token = {literal(token)};"]
    return "\n".join([*lines, f"ALTER DATABASE {new} RENAME TO {ident(database)};", "COMMIT;\n"])


def unswap(database: str, has_db: bool) -> str:
    """One transaction: the way back; what was loaded becomes ``__new`` again."""
    new, old = ident(new_name(database)), ident(old_name(database))
    lines = [terminate(old_name(database)), "BEGIN;"]
    if has_db:
        lines += [terminate(database), f"ALTER DATABASE {ident(database)} RENAME TO {new};"]
    lines += [f"ALTER DATABASE {old} RESET understudy.token;"]
    return "\n".join([*lines, f"ALTER DATABASE {old} RENAME TO {ident(database)};", "COMMIT;\n"])


def stored_password(role: str) -> str:
    """One line: the hash the server holds for a role, "" for none. No line: no such role."""
    return f"SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = {literal(role)};\n"


def set_password(role: str, password: str) -> str:
    """Set a role's password; the server stores its hash. Not logged, whatever log_statement says."""
    return f"SET log_statement = 'none';\nSET log_min_duration_statement = -1;\nALTER ROLE {ident(role)} PASSWORD {literal(password)};\n"
