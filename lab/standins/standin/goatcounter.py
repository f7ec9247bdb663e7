"""GoatCounter 2.6: `serve -db sqlite+FILE` in WAL mode, /status as JSON, /count that records a visit."""

from __future__ import annotations

import base64
import sqlite3
import time
from pathlib import Path

from .core import Answer, App, Place, Request, as_json, page, refuse
from .sqlite_store import Layout, SqliteStore

SCHEMA = """
CREATE TABLE IF NOT EXISTS sites (site_id INTEGER PRIMARY KEY, cname TEXT, created_at TEXT);
CREATE TABLE IF NOT EXISTS paths (path_id INTEGER PRIMARY KEY, site_id INTEGER, path TEXT, UNIQUE (site_id, path));
CREATE TABLE IF NOT EXISTS hit_counts (site_id INTEGER, path_id INTEGER, hour TEXT, total INTEGER, UNIQUE (path_id, hour));
CREATE TABLE IF NOT EXISTS version (name TEXT PRIMARY KEY);
"""
PIXEL = base64.b64decode("R0lGODlhAQABAIAAAP///////yH5BAEAAAEALAAAAAABAAEAAAICTAEAOw==")
HOME = "/home/goatcounter"


def build(place: Place) -> App:
    options = flags(place.arguments)
    started = time.monotonic()
    store = SqliteStore(layout(database(place, options.get("db", ""))))
    app = App("goatcounter", int(options.get("listen", ":8080").rpartition(":")[2]), place, store)

    def status(request: Request) -> Answer:
        ((version,),) = store.query("SELECT sqlite_version()")
        uptime = f"{int(time.monotonic() - started)}s"
        return as_json({"database": f"SQLite {version}", "uptime": uptime, "version": f"v{place.version}"})

    app.route("GET", "/status", status)
    app.route("GET", "/", lambda request: page("GoatCounter"))
    app.route("GET", "/count", lambda request: count(store, request))
    return app


def flags(arguments: tuple[str, ...]) -> dict[str, str]:
    """`serve -listen :8080 -automigrate` as names to values; the command must be serve."""
    if not arguments or arguments[0] != "serve":
        refuse(f"unknown command: {arguments[0] if arguments else '(none)'}; the stand-in knows serve")
    found: dict[str, str] = {}
    words = list(arguments[1:])
    while words:
        name = words.pop(0).lstrip("-")
        found[name] = words.pop(0) if words and not words[0].startswith("-") else ""
    return found


def database(place: Place, connect: str) -> Path:
    """The real one's rule: the old file where it exists, else the new place, unless -db says otherwise."""
    if connect:
        for prefix in ("sqlite+", "sqlite://", "sqlite3://"):
            connect = connect.removeprefix(prefix)
        file = connect.split("?")[0]
        return place.path(file if file.startswith("/") else f"{HOME}/{file}")
    old = place.path(f"{HOME}/db/goatcounter.sqlite3")
    return old if old.exists() else place.path(f"{HOME}/goatcounter-data/db.sqlite3")


def layout(path: Path) -> Layout:
    def insert(connection: sqlite3.Connection, number: int) -> None:
        connection.execute("INSERT INTO paths (site_id, path) VALUES (1, ?)", (f"/lab-{number}",))

    def setup(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO sites VALUES (1, '', datetime())")

    numbers = "SELECT CAST(substr(path, 6) AS INTEGER) FROM paths WHERE path LIKE '/lab-%'"
    return Layout(path, SCHEMA, insert, numbers, wal=True, setup=setup)


def count(store: SqliteStore, request: Request) -> Answer:
    path = request.query.get("p", "/")
    store.write("INSERT OR IGNORE INTO paths (site_id, path) VALUES (1, ?)", path)
    store.write(
        "INSERT INTO hit_counts SELECT 1, path_id, strftime('%Y-%m-%d %H:00:00'), 1 FROM paths WHERE path = ?"
        " ON CONFLICT (path_id, hour) DO UPDATE SET total = total + 1", path,
    )  # fmt: skip
    return Answer(PIXEL, content_type="image/gif")
