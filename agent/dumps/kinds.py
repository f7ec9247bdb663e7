"""Dump and load of any kind of database: what the tick, the restore and the coverage check call.

A restore of one database, each step idempotent, so that a killed one is finished or undone by calling it again:

    load     SQLite and Redis: the file is placed in the new tree (``staging``), which is swapped as files are.
             PostgreSQL and MariaDB: into ``DB__new`` on the running server, compared with the manifest.
    swap     servers: DB -> DB__old and DB__new -> DB, in one step; ``token`` names this restore
    undo     servers: back to what was there before ``token``'s swap; DB__new goes
    discard_old   servers: DB__old goes, for good

What Docker lost in the middle (engine.Lost) is so simply done once more.

Beside a server's dumps lies a file of its roles or users (``extra["globals"]``): ``load`` creates those that the
server lacks, with their stored hashes. The tables of states stand in postgres.py and mariadb.py. For SQLite and Redis
swap, undo and discard_old do nothing.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from ..data import engine
from ..data.plan import Database
from ..errors import AgentError
from ..root import Root
from ..say import say
from .common import Dump, Loaded, Place
from .server import Server

__all__ = [
    "SERVERS",
    "Dump",
    "Loaded",
    "Server",
    "discard_old",
    "drop_others",
    "dump",
    "in_database_server",
    "listed",
    "load",
    "set_passwords",
    "state",
    "swap",
    "undo",
]


class _Kind(Protocol):
    """What a kind that lives in a running server can do: the functions of postgres.py and mariadb.py."""

    def dump(self, place: Place, timeout: float) -> list[Dump]: ...
    def listed(self, database: Database, timeout: float) -> Server: ...
    def load(self, root: Root, database: Database, facts: Facts, file: str, timeout: float) -> Loaded: ...
    def state(self, database: Database, facts: Facts, timeout: float) -> Facts: ...
    def swap(self, database: Database, facts: Facts, token: str, timeout: float) -> None: ...
    def undo(self, database: Database, facts: Facts, token: str, timeout: float) -> None: ...
    def discard_old(self, database: Database, facts: Facts, timeout: float) -> None: ...
    def set_passwords(self, root: Root, database: Database, timeout: float) -> list[str]: ...


Facts = dict[str, Any]
T = TypeVar("T")
# Kinds that live in a server which must run while they are loaded. Their modules, as the other kinds', are loaded
# when one is met: most hosts have few kinds, and a tick comes every few minutes.
SERVERS = ("postgres", "mariadb")


def in_database_server(kind: str) -> bool:
    """Whether this kind is loaded into a running server (else it is a file of the new tree)."""
    return kind in SERVERS


def dump(
    root: Root, database: Database, source: str | None, target: str, timeout: float = 3600.0
) -> list[Dump]:
    """Dump one entry of the plan into ``target`` (host path STAGE/GROUP/SERVICE/dumps).

    ``source``: for SQLite the host path of its mount's live folder. Several dumps for a glob or a whole server. A kept
    file changes only when the database's content did. Raises AgentError (kind "dump") naming service and database;
    then every kept file is as it was, or already a newer good dump.
    """
    place = Place(root, target, database)
    place.ready()
    if database.kind == "sqlite":
        if source is None:
            raise place.failed("the plan names no folder for it")
        from . import sqlite

        return sqlite.dump(place, source, timeout)
    if database.kind == "redis":
        from . import redis

        return _twice(lambda: redis.dump(place, timeout))
    return _twice(lambda: _server(database).dump(place, timeout))


def drop_others(root: Root, target: str, dumps: Iterable[Dump]) -> list[str]:
    """Remove files of databases that are no longer there. Call it only when every dump of the service is good.

    ``dumps`` are all dumps of the service. Returns the names removed.
    """
    kept = {os.path.basename(d.file) for d in dumps}
    kept |= {os.path.basename(str(d.extra["globals"])) for d in dumps if d.extra.get("globals")}
    gone = [name for name in os.listdir(root.at(target)) if name not in kept and not name.startswith(".")]
    for name in gone:
        os.unlink(root.at(f"{target}/{name}"))
    return sorted(gone)


def load(
    root: Root,
    database: Database,
    facts: dict[str, Any],
    file: str,
    staging: str,
    timeout: float = 3600.0,
) -> Loaded:
    """Load a dump where ``swap`` can take it, and compare it with its manifest.

    ``facts`` is the manifest's entry, ``file`` the host path of the restored dump (a globals file lies beside it).
    ``staging``: SQLite and Redis: the new tree of the mount that holds the database, where the file is placed with its
    owner. Servers: not used. Raises AgentError (kind "mismatch" when the content is not what was backed up).
    """
    if facts["kind"] == "sqlite":
        from . import sqlite

        return sqlite.load(root, database, facts, file, staging, timeout)
    if facts["kind"] == "redis":
        from . import redis

        return redis.load(root, database, facts, file, staging, timeout)
    return _twice(lambda: _server(database).load(root, database, facts, file, timeout))


def state(database: Database, facts: dict[str, Any], timeout: float = 60.0) -> dict[str, Any]:
    """Which of {"db", "new", "old"} exist on the server, and the "token" of the swap that made old. {} for files."""
    if facts["kind"] not in SERVERS:
        return {}
    return _twice(lambda: _server(database).state(database, facts, timeout))


def swap(database: Database, facts: dict[str, Any], token: str, timeout: float = 300.0) -> None:
    """Put the loaded database in its place; the former one becomes ``DB__old`` and carries ``token``.

    An older ``DB__old`` of another restore goes. Does nothing when this swap was done before.
    """
    if facts["kind"] in SERVERS:
        _twice(lambda: _server(database).swap(database, facts, token, timeout))


def undo(database: Database, facts: dict[str, Any], token: str, timeout: float = 300.0) -> None:
    """Bring back what ``token``'s swap replaced, if it did, and remove ``DB__new``. A swap of another restore stays."""
    if facts["kind"] in SERVERS:
        _twice(lambda: _server(database).undo(database, facts, token, timeout))


def discard_old(database: Database, facts: dict[str, Any], timeout: float = 300.0) -> None:
    """Remove ``DB__old`` for good."""
    if facts["kind"] in SERVERS:
        _twice(lambda: _server(database).discard_old(database, facts, timeout))


def set_passwords(root: Root, database: Database, timeout: float = 60.0) -> list[str]:
    """Give the roles of ``database.roles`` the password in their credential file. Returns the roles set.

    ``load`` does it too; this is for a password that changed.
    """
    if database.kind not in SERVERS:
        return []
    return _twice(lambda: _server(database).set_passwords(root, database, timeout))


def listed(kind: str, project: str, container: str, user: str = "", timeout: float = 60.0) -> Server:
    """What a running database server holds: for coverage and version checks. ``kind`` is postgres, mariadb or redis.

    Raises AgentError when the container does not run or does not answer.
    """
    database = Database(container, kind, project=project, container=container, user=user)
    if kind == "redis":
        from . import redis

        return _twice(lambda: redis.listed(database, timeout))
    return _twice(lambda: _server(database).listed(database, timeout))


def _twice(step: Callable[[], T]) -> T:
    """A step, done once more when Docker lost a program of it."""
    try:
        return step()
    except AgentError as error:
        if not _lost(error):
            raise
        say(f"{error.sentence}: once more")
        return step()


def _lost(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, engine.Lost):
        error = error.__cause__ or error.__context__
    return error is not None


def _server(database: Database) -> _Kind:
    if database.kind not in SERVERS:
        raise AgentError(f"{database.name}: a database of kind {database.kind!r} is not known", "bad-request")
    module: Any = importlib.import_module(f".{database.kind}", __package__)
    found: _Kind = module
    return found
