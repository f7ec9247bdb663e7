"""PostgreSQL: dump with the server's own client, load beside the live database, and one step to swap them.

Dump: one psql session opens a transaction, exports its snapshot, counts every table in it, and holds it while
pg_dump works from the same snapshot; so rows and dump are of one moment.

The states of a restore, decided from what exists (X = ``DB__old`` carries another restore's token; one without
any is not ours: refused):

    DB  new  old | meaning                          | swap                     | undo
    yes no   no  | untouched, or undone             | error: nothing loaded    | nothing
    yes yes  no  | loaded, or a torn load           | rename both              | drop new
    no  yes  no  | loaded on an empty server        | rename new               | drop new
    yes no   yes | swapped                          | nothing (X: error)       | rename both back, drop new (X: nothing)
    yes yes  yes | loaded again after this swap     | drop DB, rename new      | drop new, then as the line above
    yes yes  X   | loaded, an older old is kept     | drop old, rename both    | drop new
    no  yes  yes | cut short in the line before     | rename new               | drop new, rename old back
    no  no   yes | by hand                          | error                    | rename old back (X: nothing)

Both renames are one transaction of the server. The token stands on DB__old as its setting ``understudy.token``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from typing import Any

from ..data import credentials, engine
from ..data.plan import Database
from ..errors import AgentError, because
from ..process import Finished
from ..root import Root
from . import postgres_sql as sql
from .common import (
    Clock,
    Dump,
    Loaded,
    Place,
    compare_rows,
    file_name,
    new_name,
    old_name,
    same_bytes,
    sha256_of,
)
from .postgres_format import GLOBALS_END, header, roles, same_globals
from .server import GRACE, Server, container, lines, run

__all__ = ["discard_old", "dump", "listed", "load", "set_passwords", "state", "swap", "undo"]

_END = "understudy-end"
_KEPT = (
    "datcollate", "datctype", "datlocprovider", "datlocale", "daticulocale", "daticurules", "datconnlimit",
)  # fmt: skip
_TRIES = 3


def _app() -> str:
    """How our sessions are called on the server; a session of a run that was killed carries another number."""
    return f"understudy-{os.getpid()}"


# --- dump


def dump(place: Place, timeout: float) -> list[Dump]:
    """Dump the named database, or all that hold something. Raises AgentError (kind "dump" or "docker")."""
    clock, database = Clock(timeout), place.database
    where = container(database)
    names = [database.database] if database.database else _all(place, where, clock)
    globals_file = _globals(place, where, clock)
    return [_one(place, where, name, globals_file, clock) for name in names]


def _all(place: Place, where: str, clock: Clock) -> list[str]:
    try:
        found = list(_listed(place.database, where, clock.brief).databases)
    except AgentError as error:
        raise place.failed(error.sentence) from error
    ours = {f(name) for name in found for f in (new_name, old_name)}
    others = place.database.besides
    kept = [name for name in found if name not in ours]
    if not kept and not others:
        raise place.failed("the server has no database with anything in it")
    return [name for name in kept if name not in others]


def _globals(place: Place, where: str, clock: Clock) -> str:
    """The server's roles, beside the dumps. Returns the file's name."""
    file = file_name(place.database.container, end=".globals.sql")
    temp, descriptor = place.create(file)
    with open(descriptor, "wb") as stream:
        limit = min(300.0, clock.left)
        ended = run(where, sql.globals_argv(place.database.user, _app(), limit), limit, into=stream)
    if not ended.ok or not _has_end(temp):
        place.drop(temp)
        why = _why(ended, limit) if not ended.ok else "the list of roles is truncated"
        raise place.failed(f"roles could not be read as {place.database.user or 'the superuser'}: {why}")
    place.keep(temp, file, lambda: None, same_globals)
    return file


def _has_end(path: str) -> bool:
    with open(path, "rb") as stream:
        stream.seek(max(0, os.stat(path).st_size - 400))
        return GLOBALS_END.encode() in stream.read()


def _one(place: Place, where: str, name: str, globals_file: str, clock: Clock) -> Dump:
    database, item = place.database, "" if place.database.database else name
    file = file_name(database.name, item, ".pgdump")
    temp, descriptor = place.create(file)
    try:
        with open(descriptor, "wb") as stream:
            facts, rows = _dumped(place, where, name, item, stream, clock)
        sha, size = _kept(place, where, temp, file, item, clock)
    except OSError as error:
        raise place.failed(because(error), item) from error
    finally:
        place.drop(temp)
    extra = _extra(name, facts) | {"globals": f"dumps/{globals_file}"}
    full = f"{database.name}/{item}" if item else database.name
    version = str(facts["version"]).split()[0]
    return Dump(full, f"dumps/{file}", "postgres", sha, size, rows, version, None, extra)


def _dumped(
    place: Place, where: str, name: str, item: str, stream: Any, clock: Clock
) -> tuple[dict[str, Any], dict[str, int]]:
    user, limit = place.database.user, clock.left
    argv = sql.psql_argv(user, _app(), name, limit + 5)
    with engine.talk(where, argv, limit + 5 + GRACE) as session:
        session.tell(f"{sql.session_start(_app(), limit)}{sql.COUNTS}\\echo {_END}\n")
        snapshot, facts = session.line(), session.line()
        if snapshot is None or facts is None:
            raise place.failed(_why(session.ended, limit), item)
        ended = run(where, sql.dump_argv(user, _app(), name, snapshot, limit), limit, into=stream)
        if not ended.ok:
            raise place.failed(_why(ended, limit), item)
        rows = {}
        while (line := session.line()) != _END:
            if line is None:
                raise place.failed(f"rows could not be counted: {_why(session.ended, limit)}", item)
            counted = json.loads(line)
            rows[counted["t"]] = int(counted["n"])
    return json.loads(facts), rows


def _kept(place: Place, where: str, temp: str, file: str, item: str, clock: Clock) -> tuple[str, int]:
    try:
        header(_start(temp))
    except ValueError as error:
        raise place.failed(str(error), item) from error

    def whole() -> None:
        limit = clock.left
        with open(temp, "rb") as stream:
            ended = run(where, sql.check_argv(place.database.user, _app(), limit), limit, feed=stream)
        if not ended.ok:
            raise place.failed(f"the dump cannot be read back: {_why(ended, limit)}", item)

    return place.keep(temp, file, whole, _same)


def _same(one: str, other: str) -> bool:
    """Equal but for the time of creation in the header."""
    try:
        mine, kept = header(_start(one)), header(_start(other))
    except ValueError:
        return False
    return mine == kept and same_bytes(one, other, [mine.moment])


def _start(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(96)


def _extra(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    properties = {key: facts["database"][key] for key in _KEPT if key in facts["database"]}
    kept = {key: facts[key] for key in ("owner", "encoding", "comment", "acl", "settings", "extensions")}
    return {"database": name, "properties": properties, **kept}


def _why(ended: Finished | None, limit: float) -> str:
    if ended is None:
        return "the server's client gave no answer"
    if ended.code == 124:
        return f"not done after {limit:g} s"
    return ended.why(2)


# --- what a server holds


def listed(database: Database, timeout: float) -> Server:
    """Version and databases: not the templates, and ``postgres`` only when it holds something."""
    return _listed(database, container(database), timeout)


def _listed(database: Database, where: str, timeout: float) -> Server:
    found = [json.loads(line) for line in _ask(database, where, "postgres", sql.DATABASES, timeout)]
    version = str(found[0]["version"]).split()[0] if found else ""
    sizes = {entry["name"]: int(entry["bytes"]) for entry in found}
    if "postgres" in sizes and _ask(database, where, "postgres", sql.HAS_TABLES, timeout) == ["0"]:
        del sizes["postgres"]
    return Server("postgres", version, sizes)


def _ask(database: Database, where: str, at: str, text: str, timeout: float) -> list[str]:
    """Run SQL, given on standard input, in the database ``at``; its lines. Raises AgentError (kind "database")."""
    argv = sql.psql_argv(database.user, _app(), at, timeout)
    with engine.input_of(text) as feed:
        ended = run(where, argv, timeout, feed=feed)
    if not ended.ok:
        raise AgentError(
            f"PostgreSQL in {database.project}/{database.container}: {_why(ended, timeout)}", "database"
        )
    return lines(ended.out)


def _maintenance(name: str) -> str:
    """A database to be connected to while ``name`` is created, renamed or dropped."""
    return "template1" if name == "postgres" else "postgres"


# --- load


def load(root: Root, database: Database, facts: dict[str, Any], file: str, timeout: float) -> Loaded:
    """Load a dump into ``DB__new`` and compare its rows. After any failure DB__new is gone again."""
    started, clock = time.monotonic(), Clock(timeout)
    name, where = facts["extra"]["database"], container(database)
    _same_file(root, facts, file)
    make_roles(root, database, facts, file, clock.brief)
    set_passwords(root, database, clock.brief)
    try:
        rows = _loaded(root, database, where, facts, file, clock)
    except BaseException:
        _drop(database, where, name, new_name(name), 60.0)
        raise
    seconds = round(time.monotonic() - started, 3)
    return Loaded(database.name, "postgres", rows, facts["bytes"], seconds)


def _same_file(root: Root, facts: dict[str, Any], file: str) -> None:
    try:
        same = sha256_of(root.at(file)) == facts["sha256"]
    except OSError as error:
        raise AgentError(f"{file} cannot be read: {because(error)}", "io") from error
    if not same:
        raise AgentError(f"{file} is not the dump its manifest names: take another snapshot", "mismatch")


def _loaded(
    root: Root, database: Database, where: str, facts: dict[str, Any], file: str, clock: Clock
) -> dict[str, int]:
    name = facts["extra"]["database"]
    new = new_name(name)
    _drop(database, where, name, new, clock.left)
    statements = sql.create_database(facts["extra"], new)
    _ask(database, where, _maintenance(name), "\n".join(statements) + "\n", clock.brief)
    limit = clock.left
    with open(root.at(file), "rb") as stream:
        ended = run(where, sql.restore_argv(database.user, _app(), new, limit), limit, feed=stream)
    if not ended.ok:
        raise AgentError(f"{database.name}: loading {file} into {new}: {_why(ended, limit)}", "database")
    counted = [json.loads(line) for line in _ask(database, where, new, sql.COUNTS, clock.left)]
    rows = {entry["t"]: int(entry["n"]) for entry in counted}
    wrong = compare_rows(facts["rows"], rows)
    if wrong:
        raise AgentError(f"{database.name}: {new} is not what was dumped: {'; '.join(wrong[:3])}", "mismatch")
    return rows


def _drop(database: Database, where: str, name: str, gone: str, timeout: float) -> None:
    _ask(database, where, _maintenance(name), sql.drop_database(gone) + "\n", timeout)


def make_roles(root: Root, database: Database, facts: dict[str, Any], file: str, timeout: float) -> list[str]:
    """Create the roles of the dump's globals that this server lacks, with their stored hashes. Others stay as they are."""
    beside = facts["extra"].get("globals")
    if not beside:
        return []
    path = f"{os.path.dirname(file)}/{os.path.basename(beside)}"
    try:
        with open(root.at(path), encoding="utf-8") as stream:
            known = roles(stream.read())
    except OSError as error:
        raise AgentError(
            f"{path}, the roles of {database.name}, cannot be read: {because(error)}", "io"
        ) from error
    where = container(database)
    there = set(_ask(database, where, "template1", "SELECT rolname FROM pg_roles;\n", timeout))
    missing = [role for name, role in known.items() if name not in there]
    statements = list(dict.fromkeys(s for role in missing for s in role.statements))
    statements.sort(key=lambda s: s.startswith("GRANT"))
    if statements:
        text = "\n".join(["SET log_statement = 'none';", "BEGIN;", *statements, "COMMIT;", ""])
        _ask(database, where, "template1", text, timeout)
    return [role.name for role in missing]


def set_passwords(root: Root, database: Database, timeout: float) -> list[str]:
    """Give roles the password of their credential file, as a SCRAM hash made here. Roles that have it are left alone."""
    changed = []
    where = container(database)
    for role, credential in sorted(database.roles.items()):
        with open(credentials.path(root, credential), encoding="utf-8") as stream:
            password = stream.read().rstrip("\n")
        stored = _ask(database, where, "template1", sql.stored_password(role), timeout)
        if not stored:
            raise AgentError(f"{database.name}: the server has no role {role!r}", "database")
        if not _fits(stored[0], password):
            _ask(database, where, "template1", sql.set_password(role, scram(password)), timeout)
            changed.append(role)
    return changed


def scram(password: str, salt: bytes | None = None, rounds: int = 4096) -> str:
    """What PostgreSQL stores for a password. One outside ASCII is returned as it is: the server prepares it."""
    if not password.isascii():
        return password
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    key = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(key).digest(), hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{parts[0]}${parts[1]}:{parts[2]}"


def _fits(stored: str, password: str) -> bool:
    if not stored.startswith("SCRAM-SHA-256$") or not password.isascii():
        return False
    rounds, _, salt = stored.split("$")[1].partition(":")
    return hmac.compare_digest(stored, scram(password, base64.b64decode(salt), int(rounds)))


# --- swap


def state(database: Database, facts: dict[str, Any], timeout: float) -> dict[str, Any]:
    """{"db": bool, "new": bool, "old": bool, "token": str | None}."""
    name = facts["extra"]["database"]
    lines = _ask(database, container(database), _maintenance(name), sql.state(name), timeout)
    found: dict[str, Any] = json.loads(lines[0])
    return found


def swap(database: Database, facts: dict[str, Any], token: str, timeout: float) -> None:
    """See the table above."""
    name, now = facts["extra"]["database"], state(database, facts, timeout)
    ours = now["old"] and now["token"] == token
    if not now["new"]:
        if now["db"] and ours:
            return
        raise AgentError(f"{database.name}: there is no {new_name(name)} to put in place: load it first")
    if now["old"] and not now["token"]:
        raise AgentError(
            f"{database.name}: a database {old_name(name)} is there that no restore made: rename it first"
        )
    if now["old"] and now["db"]:
        gone = name if ours else old_name(name)
        _drop(database, container(database), name, gone, timeout)
        now = state(database, facts, timeout)
    _rename(database, name, sql.swap(name, token, now["db"]), timeout)


def undo(database: Database, facts: dict[str, Any], token: str, timeout: float) -> None:
    """See the table above."""
    name, now = facts["extra"]["database"], state(database, facts, timeout)
    where = container(database)
    if now["new"]:
        _drop(database, where, name, new_name(name), timeout)
    if now["old"] and now["token"] == token:
        _rename(database, name, sql.unswap(name, now["db"]), timeout)
        _drop(database, where, name, new_name(name), timeout)


def discard_old(database: Database, facts: dict[str, Any], timeout: float) -> None:
    """Drop ``DB__old``. Refused while there is no DB: then it is the only copy."""
    name, now = facts["extra"]["database"], state(database, facts, timeout)
    if not now["old"]:
        return
    if not now["token"]:
        raise AgentError(f"{database.name}: {old_name(name)} was made by no restore: it stays")
    if not now["db"]:
        raise AgentError(f"{database.name}: {old_name(name)} is kept: there is no database {name}")
    _drop(database, container(database), name, old_name(name), timeout)


def _rename(database: Database, name: str, text: str, timeout: float) -> None:
    """A client that connects again between our ending its session and the rename makes the rename fail: try again."""
    for left in reversed(range(_TRIES)):
        try:
            _ask(database, container(database), _maintenance(name), text, timeout)
            return
        except AgentError as error:
            if not left or "being accessed by other users" not in error.sentence:
                raise
