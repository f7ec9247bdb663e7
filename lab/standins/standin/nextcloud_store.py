"""Nextcloud's tables in a real PostgreSQL server, and the files they register."""

from __future__ import annotations

import hashlib
import secrets as random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .core import refuse
from .durable import missing_numbers, write_durably

SCHEMA = """
CREATE TABLE oc_users (uid varchar(64) PRIMARY KEY, displayname varchar(64), password varchar(255));
CREATE TABLE oc_storages (numeric_id bigserial PRIMARY KEY, id varchar(64) UNIQUE, available integer DEFAULT 1);
CREATE TABLE oc_filecache (fileid bigserial PRIMARY KEY, storage bigint, path varchar(4000), path_hash varchar(32),
  name varchar(250), size bigint, mtime bigint, etag varchar(40), UNIQUE (storage, path_hash));
CREATE TABLE oc_appconfig (appid varchar(32), configkey varchar(64), configvalue text, PRIMARY KEY (appid, configkey));
CREATE TABLE oc_preferences (userid varchar(64), appid varchar(32), configkey varchar(64), configvalue text,
  PRIMARY KEY (userid, appid, configkey));
"""
CONNECT_SECONDS = 300
File = tuple[int, int]  # size in bytes, time of change in seconds


@contextmanager
def connection(host: str, database: str, user: str, password: str) -> Iterator[Any]:
    """One transaction: committed at the end, rolled back on an error."""
    import psycopg2

    name, _, port = host.partition(":")
    made = psycopg2.connect(
        host=name, port=port or 5432, dbname=database, user=user, password=password, connect_timeout=5
    )
    try:
        with made, made.cursor() as cursor:
            yield cursor
    finally:
        made.close()


def wait_until_reachable(attempt: Callable[[], None]) -> None:
    """Try until the database answers; a host that boots brings everything up at once."""
    import psycopg2

    until = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return attempt()
        except psycopg2.OperationalError as error:
            if time.monotonic() > until:
                refuse(f"the database does not answer: {str(error).strip()}")
            print(f"Retrying install... ({str(error).strip().splitlines()[0]})", file=sys.stderr, flush=True)
            time.sleep(1)


def install(
    config: dict[str, Any], owner: dict[str, str], administrator: str, password: str, resumed: bool
) -> None:
    """Make the tables in one transaction and, where ``owner`` may, a role of Nextcloud's own, as its installer does.

    That role's password is in no secret, only in config.php. Where the owner may not make roles, the config is
    changed to name the owner.
    """
    with connection(config["dbhost"], config["dbname"], owner["dbuser"], owner["dbpassword"]) as cursor:
        cursor.execute("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
        own_role = bool(cursor.fetchone()[0])
        if not own_role:
            config.update(owner)
        cursor.execute("SELECT to_regclass('public.oc_filecache')")
        if cursor.fetchone()[0]:
            if not resumed:
                refuse(
                    "the database has tables of a Nextcloud although config.php is missing: a new one would hide the loss"
                )
            return
        if own_role:
            _make_role(cursor, config["dbuser"], config["dbpassword"])
        _fill(cursor, config, administrator, password)


def _make_role(cursor: Any, role: str, password: str) -> None:
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
    verb = "ALTER" if cursor.fetchone() else "CREATE"
    cursor.execute(f'{verb} ROLE "{role}" LOGIN CREATEDB PASSWORD %s', (password,))
    cursor.execute(f'GRANT CREATE ON SCHEMA public TO "{role}"')
    cursor.execute(f'SET LOCAL ROLE "{role}"')


def _fill(cursor: Any, config: dict[str, Any], administrator: str, password: str) -> None:
    cursor.execute(SCHEMA)
    hashed = hashlib.scrypt(password.encode(), salt=config["passwordsalt"].encode(), n=1024, r=8, p=1).hex()
    cursor.execute("INSERT INTO oc_users VALUES (%s, %s, %s)", (administrator, administrator, hashed))
    cursor.execute("INSERT INTO oc_storages (id) VALUES (%s)", (f"home::{administrator}",))
    cursor.execute("INSERT INTO oc_appconfig VALUES ('core', 'installedat', %s)", (str(int(time.time())),))


class Files:
    """The user files of one Nextcloud: what is on the disk and what the database says is there."""

    def __init__(self, config: dict[str, Any], data: Path) -> None:
        self.config, self.data = config, data

    def transaction(self) -> Any:
        """A cursor with the role and password of config.php."""
        return connection(*(self.config[key] for key in ("dbhost", "dbname", "dbuser", "dbpassword")))

    def commit(self, with_file: bool) -> dict[str, Any]:
        """The next numbered file: on the disk first, then registered; acknowledged after the commit."""
        with self.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(20090)")
            cursor.execute(
                "SELECT coalesce(max(substring(path from '^files/lab-(\\d+)\\.txt$')::bigint), 0) + 1 FROM oc_filecache"
            )
            number = int(cursor.fetchone()[0])
            path = f"files/lab-{number}.txt"
            file = self.data / "admin" / path
            write_durably(file, f"file {number}\n".encode() * 64)
            register(cursor, "admin", path, (file.stat().st_size, int(file.stat().st_mtime)))
        return {"n": number, "file": str(file)}

    def rows(self) -> dict[str, Any]:
        with self.transaction() as cursor:
            known = {path for path in registered(cursor, "admin") if path.startswith("files/lab-")}
        there = {path for path in on_disk(self.data, "admin") if path.startswith("files/lab-")}
        numbers = [int(path.removeprefix("files/lab-").removesuffix(".txt")) for path in known]
        return missing_numbers(numbers) | {
            "files_missing": sorted(known - there),
            "files_unregistered": sorted(there - known),
        }

    def scan(self, user: str) -> dict[str, int]:
        """Make the database agree with the disk: counts of files ``new``, ``updated``, ``removed``, ``files``."""
        with self.transaction() as cursor:
            there, known = on_disk(self.data, user), registered(cursor, user)
            new, updated, removed = differences(there, known)
            for path in new + updated:
                register(cursor, user, path, there[path])
            for path in removed:
                cursor.execute(
                    "DELETE FROM oc_filecache WHERE storage = %s AND path = %s", (storage(cursor, user), path)
                )
        return {"files": len(there), "new": len(new), "updated": len(updated), "removed": len(removed)}

    def users(self) -> list[str]:
        with self.transaction() as cursor:
            cursor.execute("SELECT uid FROM oc_users ORDER BY uid")
            return [uid for (uid,) in cursor.fetchall()]

    def close(self) -> None:
        """Each request has a connection of its own."""


def differences(there: dict[str, File], known: dict[str, File]) -> tuple[list[str], list[str], list[str]]:
    """Paths that are new on the disk, changed there, and gone from it."""
    new = sorted(there.keys() - known.keys())
    updated = sorted(path for path in there.keys() & known.keys() if there[path] != known[path])
    return new, updated, sorted(known.keys() - there.keys())


def on_disk(data: Path, user: str) -> dict[str, File]:
    """Files of a user, named as the database names them: ``files/...``."""
    home = data / user
    found = (path for path in (home / "files").rglob("*") if path.is_file() and path.suffix != ".part")
    return {str(path.relative_to(home)): (path.stat().st_size, int(path.stat().st_mtime)) for path in found}


def storage(cursor: Any, user: str) -> int:
    """The number of a user's storage, made when it is not there."""
    cursor.execute("INSERT INTO oc_storages (id) VALUES (%s) ON CONFLICT (id) DO NOTHING", (f"home::{user}",))
    cursor.execute("SELECT numeric_id FROM oc_storages WHERE id = %s", (f"home::{user}",))
    return int(cursor.fetchone()[0])


def registered(cursor: Any, user: str) -> dict[str, File]:
    cursor.execute("SELECT path, size, mtime FROM oc_filecache WHERE storage = %s", (storage(cursor, user),))
    return {path: (size, mtime) for path, size, mtime in cursor.fetchall()}


def register(cursor: Any, user: str, path: str, file: File) -> None:
    digest = hashlib.md5(path.encode(), usedforsecurity=False).hexdigest()
    row = (storage(cursor, user), path, digest, path.rpartition("/")[2], *file, random.token_hex(7))
    cursor.execute(
        "INSERT INTO oc_filecache (storage, path, path_hash, name, size, mtime, etag) VALUES (%s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (storage, path_hash) DO UPDATE SET size = excluded.size, mtime = excluded.mtime, etag = excluded.etag", row,
    )  # fmt: skip
