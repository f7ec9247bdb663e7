"""MariaDB and MySQL: dump with the server's own client, load beside the live database, and one step to swap them.

Databases cannot be renamed, tables can: one RENAME TABLE moves all of them, both ways, or none (MariaDB >= 10.6,
MySQL >= 8). Tables with triggers cannot move, and views, routines and events do not: they are dropped before and
made again after, from a script that is kept in a table of ours, the marker. It stands in DB__new until the RENAME,
which carries it to DB__old, so that where it is tells whether the RENAME was done:

    marker          | meaning                              | swap                     | undo
    nowhere         | untouched; DB__new: a torn load      | error: nothing loaded    | drop new
    in new          | loaded                               | keep old script, RENAME  | drop new
    in new, script  | swap begun, RENAME not done          | RENAME and onwards       | old script into DB, drop new
    in old, token   | RENAME done, objects perhaps not     | new script, drop new     | RENAME back, then as above
    in old, done    | swapped                              | nothing                  | RENAME back, then as above
    in old, other   | of another restore (new: loaded)     | drop old, as "in new"    | drop new

A DB__old without a marker that holds tables is not ours: refused. DB__old keeps tables only; its views, routines and
events stay in the marker's script, so that no event of it ever runs.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from ..data import credentials, engine
from ..data.plan import Database
from ..errors import AgentError, because
from ..process import Finished
from ..root import Root
from . import mariadb_sql as sql
from .common import Clock, Dump, Loaded, Place, compare_rows, file_name, new_name, old_name, sha256_of
from .server import Server, container, lines, run, said

__all__ = ["discard_old", "dump", "listed", "load", "set_passwords", "state", "swap", "undo"]

_ASK = 60.0


# --- dump


def dump(place: Place, timeout: float) -> list[Dump]:
    """Dump the named database, or all but the server's own. Raises AgentError (kind "dump" or "docker")."""
    clock, database = Clock(timeout), place.database
    where = container(database)
    names = [database.database] if database.database else _all(place, where, clock)
    users = _users(place, where, clock)
    return [_one(place, where, name, users, clock) for name in names]


def _users(place: Place, where: str, clock: Clock) -> str:
    """The server's users and their rights, beside the dumps; "" where our login may not read them. The file's name."""
    try:
        listed = _ask(place.database, where, sql.USERS, min(_ASK, clock.left))
    except AgentError as error:
        if "denied" in error.sentence:
            return ""
        raise place.failed(error.sentence) from error
    pairs = [tuple(bytes.fromhex(part).decode() for part in line.split("\t")) for line in listed]
    try:
        text = sql.show_users((name, host) for name, host in pairs)
        made = sql.users_text(
            _ask(place.database, where, text, min(_ASK, clock.left), raw=True) if text else ()
        )
    except AgentError as error:
        raise place.failed(f"users could not be read: {error.sentence}") from error
    file = file_name(place.database.container, end=".users.sql")
    temp, descriptor = place.create(file)
    with open(descriptor, "w", encoding="utf-8", newline="") as stream:
        stream.write(made)
    place.keep(temp, file, lambda: None)
    return file


def _all(place: Place, where: str, clock: Clock) -> list[str]:
    try:
        found = [line.split("\t")[0] for line in _ask(place.database, where, sql.DATABASES, clock.brief)]
    except AgentError as error:
        raise place.failed(error.sentence) from error
    ours = {f(name) for name in found for f in (new_name, old_name)}
    others = place.database.besides
    kept = [name for name in found if name not in ours]
    if not kept and not others:
        raise place.failed("the server has no database of its users")
    return [name for name in kept if name not in others]


def _one(place: Place, where: str, name: str, users: str, clock: Clock) -> Dump:
    database, item = place.database, "" if place.database.database else name
    facts = _facts(place, where, name, item, clock)
    file = file_name(database.name, item, ".sql")
    temp, descriptor = place.create(file)
    try:
        with open(descriptor, "wb") as stream:
            limit = clock.left
            ended = run(where, sql.dump_argv(database.user, name, limit), limit, into=stream)
        if not ended.ok:
            raise place.failed(_why(ended, limit), item)
        with open(temp, "rb") as written:
            rows, whole = sql.count_rows(written)
        if not whole:
            raise place.failed("the dump is truncated: it has no end", item)
        sha, size = place.keep(temp, file, lambda: None)
    except OSError as error:
        raise place.failed(because(error), item) from error
    finally:
        place.drop(temp)
    full = f"{database.name}/{item}" if item else database.name
    version = facts.pop("version")
    if users:
        facts["globals"] = f"dumps/{users}"
    return Dump(full, f"dumps/{file}", "mariadb", sha, size, rows, version, None, {"database": name, **facts})


def _facts(place: Place, where: str, name: str, item: str, clock: Clock) -> dict[str, Any]:
    try:
        told = [
            line.split("\t") for line in _ask(place.database, where, sql.facts(name), min(_ASK, clock.left))
        ]
    except AgentError as error:
        raise place.failed(error.sentence, item) from error
    charset = next((line[1:] for line in told if line[0] == "charset"), None)
    if charset is None:
        raise place.failed(f"the server has no database {name!r}", item)
    version = next(line[1] for line in told if line[0] == "version")
    plain = [line[1] for line in told if line[0] == "plain"]
    # Tables outside transactions may change while they are dumped: their rows need not be of one moment.
    more = {"without_transactions": plain} if plain else {}
    return {"version": version.partition("-")[0], "charset": charset[0], "collation": charset[1], **more}


def _why(ended: Finished, limit: float) -> str:
    return f"not done after {limit:g} s" if ended.code == 124 else ended.why(2)


def _ask(
    database: Database, where: str, text: str, timeout: float, at: str = "", raw: bool = False
) -> list[str]:
    """Run SQL, given on standard input; its lines. Raises AgentError (kind "database")."""
    with engine.input_of(text) as feed:
        ended = run(where, sql.client_argv(database.user, timeout, at, raw), timeout, feed=feed)
    if not ended.ok:
        raise AgentError(
            f"MariaDB in {database.project}/{database.container}: {_why(ended, timeout)}", "database"
        )
    return lines(ended.out)


def listed(database: Database, timeout: float) -> Server:
    """Version and databases, the server's own left out."""
    where = container(database)
    told = _ask(database, where, f"SELECT VERSION();\n{sql.DATABASES}", timeout)
    pairs = (line.split("\t") for line in told[1:])
    return Server("mariadb", told[0].partition("-")[0], {name: int(size) for name, size in pairs})


# --- load


def load(root: Root, database: Database, facts: dict[str, Any], file: str, timeout: float) -> Loaded:
    """Load a dump into ``DB__new`` and compare its rows. After any failure DB__new is gone again."""
    started, clock = time.monotonic(), Clock(timeout)
    new, where = new_name(facts["extra"]["database"]), container(database)
    _whole(root, facts, file)
    make_users(root, database, facts, file, clock.brief)
    set_passwords(root, database, clock.brief)
    name = facts["extra"]["database"]
    _drop_new(database, where, name, _now(database, where, name, clock.brief), clock)
    try:
        rows = _loaded(root, database, where, facts, file, clock)
    except BaseException:
        _ask(database, where, sql.drop_database(new), _ASK)
        raise
    return Loaded(database.name, "mariadb", rows, facts["bytes"], round(time.monotonic() - started, 3))


def _whole(root: Root, facts: dict[str, Any], file: str) -> None:
    """The client would load a dump that is cut off without a word."""
    try:
        same = sha256_of(root.at(file)) == facts["sha256"]
        with open(root.at(file), "rb") as stream:
            rows, ended = sql.count_rows(stream)
    except OSError as error:
        raise AgentError(f"{file} cannot be read: {because(error)}", "io") from error
    if not same or not ended or rows != facts["rows"]:
        raise AgentError(f"{file} is not the dump its manifest names: take another snapshot", "mismatch")


def _loaded(
    root: Root, database: Database, where: str, facts: dict[str, Any], file: str, clock: Clock
) -> dict[str, int]:
    extra = facts["extra"]
    new = new_name(extra["database"])
    _ask(database, where, sql.create_database(new, extra["charset"], extra["collation"]), clock.brief)
    limit = clock.left
    with open(root.at(file), "rb") as stream:
        ended = run(where, sql.client_argv(database.user, limit, new), limit, feed=stream)
    if not ended.ok:
        raise AgentError(f"{database.name}: loading {file} into {new}: {_why(ended, limit)}", "database")
    # What cannot move goes at once: an event of a database that only waits must not run.
    found = _objects(database, where, new, clock.brief)
    script = _script(database, where, new, found, clock.brief)
    _drop_objects(database, where, new, found, clock.brief)
    rows = _counted(database, where, new, clock.left)
    wrong = compare_rows(facts["rows"], rows)
    if wrong:
        raise AgentError(f"{database.name}: {new} is not what was dumped: {'; '.join(wrong[:3])}", "mismatch")
    _ask(database, where, sql.make_marker(new, script), clock.brief)
    return rows


def _counted(database: Database, where: str, name: str, timeout: float) -> dict[str, int]:
    # Sequences are tables to the server, and no rows to a dump.
    found = _tables(database, where, [name], timeout, sequences=False)[name]
    counted = _ask(database, where, sql.counts(name, found), timeout)
    pairs = (line.split("\t") for line in counted)
    return {bytes.fromhex(key).decode(): int(count) for key, count in pairs}


def _tables(
    database: Database, where: str, names: list[str], timeout: float, sequences: bool = True
) -> dict[str, list[str]]:
    """Database to its tables."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for line in _ask(database, where, sql.tables(names, sequences), timeout):
        at, table = (bytes.fromhex(part).decode() for part in line.split("\t"))
        found[at].append(table)
    return found


def _objects(database: Database, where: str, name: str, timeout: float) -> list[tuple[str, str]]:
    """Triggers, events, views and routines: (kind, name)."""
    pairs = (line.split("\t") for line in _ask(database, where, sql.objects(name), timeout))
    return [(kind, bytes.fromhex(key).decode()) for kind, key in pairs]


def _script(database: Database, where: str, name: str, found: list[tuple[str, str]], timeout: float) -> str:
    """SQL that makes what ``_objects`` found again; views last, they may use functions."""
    views = sorted(n for kind, n in found if kind == "VIEW")
    runs = [sql.objects_argv(database.user, name, timeout)] if len(found) > len(views) else []
    runs += [sql.views_argv(database.user, name, views, timeout)] if views else []
    parts = []
    for argv in runs:
        ended, text = said(where, argv, timeout)
        if not ended.ok or sql.END.decode() not in text[-200:]:
            raise AgentError(
                f"{database.name}: the views and routines of {name}: {_why(ended, timeout)}", "database"
            )
        parts.append(text)
    return "\n".join(parts)


def _drop_objects(
    database: Database, where: str, name: str, found: list[tuple[str, str]], timeout: float
) -> None:
    if found:
        _ask(database, where, sql.drop_objects(name, found), timeout)


def make_users(root: Root, database: Database, facts: dict[str, Any], file: str, timeout: float) -> list[str]:
    """Create the users of the dump that this server lacks, with their stored hashes and rights. Others stay as they are."""
    beside = facts["extra"].get("globals")
    if not beside:
        return []
    path = f"{os.path.dirname(file)}/{os.path.basename(beside)}"
    try:
        with open(root.at(path), encoding="utf-8", newline="") as stream:
            known = sql.users_of(stream.read())
    except (OSError, ValueError) as error:
        why = because(error) if isinstance(error, OSError) else error
        raise AgentError(f"{path}, the users of {database.name}, cannot be read: {why}", "io") from error
    where = container(database)
    there = {tuple(line.split("\t")) for line in _ask(database, where, sql.USERS, timeout)}
    names = {(name.encode().hex().upper(), host.encode().hex().upper()): (name, host) for name, host in known}
    missing = [who for key, who in sorted(names.items()) if key not in there]
    statements = [statement for who in missing for statement in known[who]]
    if statements:
        _ask(database, where, "\n".join([*statements, ""]), timeout)
    return [f"{name}@{host}" for name, host in missing]


def set_passwords(root: Root, database: Database, timeout: float) -> list[str]:
    """Give users the password of their credential file, under every host they are known by."""
    where = container(database)
    for role, credential in sorted(database.roles.items()):
        with open(credentials.path(root, credential), encoding="utf-8") as stream:
            password = stream.read().rstrip("\n")
        hosts = _ask(database, where, sql.hosts_of(role), timeout)
        if not hosts:
            raise AgentError(f"{database.name}: the server has no user {role!r}", "database")
        _ask(database, where, "".join(sql.set_password(role, host, password) for host in hosts), timeout)
    return sorted(database.roles)


# --- swap


@dataclass
class _Now:
    """What stands on the server: ``has`` and ``marker`` hold db, new, old; ``values`` are the marker's."""

    has: set[str] = field(default_factory=set)
    marker: set[str] = field(default_factory=set)
    values: dict[str, dict[str, str]] = field(default_factory=dict)

    def token(self, where: str) -> str | None:
        return self.values.get(where, {}).get("token")


def _now(database: Database, where: str, name: str, timeout: float) -> _Now:
    now = _Now()
    for line in _ask(database, where, sql.state(name), timeout):
        kind, _, key = line.partition("\t")
        (now.has if kind == "has" else now.marker).add(key)
    for key in now.marker:
        kept = _ask(database, where, sql.read_marker(_named(name, key)), timeout)
        pairs = (line.partition("\t") for line in kept)
        now.values[key] = {k: bytes.fromhex(v).decode("utf-8", "surrogateescape") for k, _, v in pairs}
    return now


def _named(name: str, key: str) -> str:
    return {"db": name, "new": new_name(name), "old": old_name(name)}[key]


def state(database: Database, facts: dict[str, Any], timeout: float) -> dict[str, Any]:
    """{"db": bool, "new": bool, "old": bool, "token": str | None}."""
    now = _now(database, container(database), facts["extra"]["database"], timeout)
    return {**{key: key in now.has for key in ("db", "new", "old")}, "token": now.token("old")}


def swap(database: Database, facts: dict[str, Any], token: str, timeout: float) -> None:
    """See the table above."""
    name, where, clock = facts["extra"]["database"], container(database), Clock(timeout)
    now = _now(database, where, name, clock.left)
    if now.token("old") == token and "new" in now.marker:
        raise AgentError(f"{database.name}: {name} was swapped by this restore before: undo it first")
    if now.token("old") == token:
        script, done = now.values["old"]["new"], now.values["old"]["done"]
    elif "new" in now.marker:
        script, done = now.values["new"]["new"], "no"
        _clear_old(database, where, name, now, clock)
        _exchange(database, where, facts, token, now, clock)
    else:
        raise AgentError(f"{database.name}: there is no {new_name(name)} to put in place: load it first")
    if done != "yes":
        _replay(database, where, name, script, clock)
        last = sql.drop_database(new_name(name)) + sql.mark(old_name(name), done="yes")
        _ask(database, where, last, clock.left)


def _clear_old(database: Database, where: str, name: str, now: _Now, clock: Clock) -> None:
    """An older restore's DB__old goes; one that is not ours is refused; an empty one is of a swap that was cut short."""
    old = old_name(name)
    if "old" in now.marker:
        _ask(database, where, sql.drop_database(old), clock.left)
    elif "old" in now.has and _tables(database, where, [old], clock.left)[old]:
        raise AgentError(f"{database.name}: a database {old} is there that no restore made: rename it first")


def _exchange(
    database: Database, where: str, facts: dict[str, Any], token: str, now: _Now, clock: Clock
) -> None:
    name = facts["extra"]["database"]
    new, old = new_name(name), old_name(name)
    _create(database, where, facts, [name], clock)
    found = _objects(database, where, name, clock.left)
    values = {"token": token, "done": "no"}
    if "old" not in now.values["new"]:
        values["old"] = _script(database, where, name, found, clock.left)
    _ask(database, where, sql.mark(new, **values), clock.left)
    # After the mark, by which an undo knows that this is ours.
    _create(database, where, facts, [old], clock)
    _drop_objects(database, where, name, found, clock.left)
    _move(database, where, [(name, old), (new, name)], (new, old), clock)


def _create(database: Database, where: str, facts: dict[str, Any], names: list[str], clock: Clock) -> None:
    extra = facts["extra"]
    text = "".join(sql.create_database(name, extra["charset"], extra["collation"]) for name in names)
    _ask(database, where, text, clock.left)


def _move(
    database: Database, where: str, ways: list[tuple[str, str]], marker: tuple[str, str], clock: Clock
) -> None:
    """All tables of each way's first database to its second, and the marker its own way, in one statement."""
    tables = _tables(database, where, [start for start, _ in ways], clock.left)
    moves = [(t, start, end) for start, end in ways for t in tables[start] if t != sql.MARKER]
    _ask(database, where, sql.rename([*moves, (sql.MARKER, *marker)]), clock.left)


def _replay(database: Database, where: str, name: str, script: str, clock: Clock) -> None:
    if script:
        _ask(database, where, script, clock.left, name)


def undo(database: Database, facts: dict[str, Any], token: str, timeout: float) -> None:
    """See the table above."""
    name, where, clock = facts["extra"]["database"], container(database), Clock(timeout)
    now = _now(database, where, name, clock.left)
    if now.token("old") == token:
        _exchange_back(database, where, facts, now, clock)
        now = _Now({"db", "new", "old"}, {"new"}, {"new": now.values["old"]})
    _drop_new(database, where, name, now, clock)


def _drop_new(database: Database, where: str, name: str, now: _Now, clock: Clock) -> None:
    """DB__new goes; when a swap of it had begun, the live database gets its objects back, and the empty DB__old goes."""
    text = sql.drop_database(new_name(name))
    if "old" in now.values.get("new", {}):
        _replay(database, where, name, now.values["new"]["old"], clock)
        old = old_name(name)
        if (
            "old" in now.has
            and "old" not in now.marker
            and not _tables(database, where, [old], clock.left)[old]
        ):
            text = sql.drop_database(old) + text
    if "new" in now.has:
        _ask(database, where, text, clock.left)


def _exchange_back(database: Database, where: str, facts: dict[str, Any], now: _Now, clock: Clock) -> None:
    name = facts["extra"]["database"]
    new, old = new_name(name), old_name(name)
    if "new" in now.has:
        _ask(database, where, sql.drop_database(new), clock.left)
    _create(database, where, facts, [new], clock)
    _drop_objects(database, where, name, _objects(database, where, name, clock.left), clock.left)
    _move(database, where, [(name, new), (old, name)], (old, new), clock)


def discard_old(database: Database, facts: dict[str, Any], timeout: float) -> None:
    """Drop ``DB__old``. Refused when it is not ours."""
    name, where, clock = facts["extra"]["database"], container(database), Clock(timeout)
    now = _now(database, where, name, clock.left)
    if "old" not in now.has:
        return
    if "old" not in now.marker:
        raise AgentError(f"{database.name}: {old_name(name)} was made by no restore: it stays")
    _ask(database, where, sql.drop_database(old_name(name)), clock.left)
