"""A scratch host whose services are plain paths, a real repository, and real ticks that fill it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from quick_key import quicken

from understudy.agent import backup, restore
from understudy.agent.root import Root

STATE = "/var/lib/understudy"
PASSWORD = "correct horse"
Tree = dict[str, tuple[Any, ...]]


def service(**more: Any) -> dict[str, Any]:
    """A service with one folder ``/srv/app/data`` that holds a database, a cache and media."""
    return {
        "group": "rest",
        "tier": "important",
        "path": "/srv/app",
        "mounts": [
            {
                "key": "files/data",
                "kind": "bind",
                "source": "/srv/app/data",
                "class": "keep",
                "rules": [{"path": "cache", "class": "cache"}, {"path": "lib/media", "class": "media"}],
                "targets": ["web:/data"],
            }
        ],
        "databases": [{"name": "db", "kind": "sqlite", "mount": "files/data", "path": "app.db"}],
        **more,
    }


class World:
    """One host below a folder."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = Root(str(base))

    def at(self, path: str) -> Path:
        return Path(self.root.at(path))

    def write(self, path: str, content: str | bytes = "x", mode: int = 0o644) -> Path:
        place = self.at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)
        return place

    def plan(self, **services: dict[str, Any]) -> None:
        """Write the plan, with one repository in the host's own /srv/repo."""
        raw = {
            "format": 1,
            "host": "scratch",
            "services": services,
            "repositories": {
                "near": {
                    "url": "/srv/repo",
                    "tiers": ["important"],
                    "credentials": {"password": "near.password"},
                }
            },
            "tiers": {"important": {"every": 3600, "timeout": 600}},
            "settings": {},
        }
        self.write("/etc/understudy/backup.json", json.dumps(raw))
        self.write("/etc/understudy/secrets/backup/near.password", PASSWORD, 0o600)

    def init(self, *groups: str) -> None:
        """Make the repositories of these groups."""
        for group in groups or ("rest",):
            env = {
                **os.environ,
                "RESTIC_PASSWORD": PASSWORD,
                "RESTIC_REPOSITORY": str(self.at(f"/srv/repo/{group}")),
                "RESTIC_CACHE_DIR": str(self.at("/var/cache/understudy/restic")),
            }
            subprocess.run(["restic", "init", "-q"], env=env, check=True)
            quicken(self.at(f"/srv/repo/{group}"), PASSWORD)

    def backup(self, *names: str) -> dict[str, Any]:
        """A real tick; the reply must be good."""
        reply = backup.run({"services": list(names), "confirm": True, "reason": "test"}, self.root)
        assert "error" not in reply, reply
        return reply

    def restore(
        self, *names: str, checkpoint: Callable[[str], None] | None = None, **more: Any
    ) -> dict[str, Any]:
        return restore.run({"services": list(names), **more}, self.root, checkpoint)

    def row(self, *names: str, **more: Any) -> dict[str, Any]:
        """The reply's first service."""
        found: dict[str, Any] = self.restore(*names, **more)["services"][0]
        return found

    def journals(self) -> list[str]:
        place = self.at(f"{STATE}/restore")
        return sorted(name for name in os.listdir(place) if name.endswith(".json")) if place.is_dir() else []

    def ledger(self, kind: str = "restore") -> list[dict[str, Any]]:
        lines = [
            line
            for place in sorted(self.at(f"{STATE}/ledger").glob("*.jsonl"))
            for line in place.read_text().splitlines()
            if line
        ]
        return [record for line in lines for record in [json.loads(line)] if record["kind"] == kind]


def database(place: Path, rows: int, wal: bool = False) -> None:
    """A SQLite file with a table ``notes`` of so many rows."""
    place.parent.mkdir(parents=True, exist_ok=True)
    for end in ("", "-wal", "-shm"):
        Path(f"{place}{end}").unlink(missing_ok=True)
    with closing(sqlite3.connect(place)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
        connection.executemany("INSERT INTO notes (text) VALUES (?)", [(f"note {n}",) for n in range(rows)])
        connection.commit()


def rows(place: Path) -> int:
    with closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM notes").fetchone()[0])


def tree(folder: Path, times: bool = False) -> Tree:
    """Everything below a folder: kind, rights, owner, content hash or link; with times on demand."""
    found: Tree = {}
    for top, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            place = os.path.join(top, name)
            path = os.fsdecode(os.path.relpath(place, os.fsencode(folder)))
            found[path] = _seen(place, times)
    return found


def _seen(place: bytes, times: bool) -> tuple[Any, ...]:
    info = os.lstat(place)
    more = (info.st_mtime_ns,) if times else ()
    if stat.S_ISLNK(info.st_mode):
        return ("link", os.readlink(place), *more)
    rights = (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
    if stat.S_ISREG(info.st_mode):
        with open(place, "rb") as stream:
            return ("file", *rights, hashlib.sha256(stream.read()).hexdigest(), *more)
    return ("dir" if stat.S_ISDIR(info.st_mode) else "other", *rights, *more)


def killed_at(point: int | str, job: Callable[[Callable[[str], None]], object]) -> str:
    """Run ``job(checkpoint)`` in a child that SIGKILLs itself at a checkpoint (its number, or what was just done);

    what was just done there, or "".
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        seen: list[str] = []

        def checkpoint(done: str) -> None:
            seen.append(done)
            if point in (done, len(seen) - 1):
                os.write(writer, done.encode()[:1000])
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            job(checkpoint)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        said = stream.read().decode()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == bool(said), status
    return said


def settle() -> None:
    """So that what is written now is newer than a snapshot just taken."""
    time.sleep(0.05)
