"""Uptime Kuma 1: /app/data/kuma.db in WAL mode, monitors and their heartbeats."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .core import Answer, App, Place, Request, as_json, page, redirect
from .sqlite_store import Layout, SqliteStore

SCHEMA = """
CREATE TABLE IF NOT EXISTS user (id INTEGER PRIMARY KEY, username TEXT UNIQUE, password TEXT);
CREATE TABLE IF NOT EXISTS monitor (id INTEGER PRIMARY KEY, name TEXT, url TEXT, type TEXT, maxretries INTEGER DEFAULT 3);
CREATE TABLE IF NOT EXISTS heartbeat (id INTEGER PRIMARY KEY, monitor_id INTEGER, status INTEGER, msg TEXT, time TEXT);
CREATE TABLE IF NOT EXISTS setting (id INTEGER PRIMARY KEY, key TEXT UNIQUE, value TEXT);
"""


def build(place: Place) -> App:
    data = place.path(place.environment.get("DATA_DIR", "/app/data"))
    store = SqliteStore(layout(data))
    for folder in ("upload", "docker-tls", "screenshots"):
        (data / folder).mkdir(exist_ok=True)
    app = App("uptime-kuma", int(place.environment.get("UPTIME_KUMA_PORT", "3001")), place, store)
    app.route("GET", "/", lambda request: redirect("/dashboard"))
    app.route("GET", "/dashboard", lambda request: page("Uptime Kuma"))
    app.route("GET", "/api/entry-page", lambda request: entry_page(store, request))
    return app


def layout(data: Path) -> Layout:
    def insert(connection: sqlite3.Connection, number: int) -> None:
        statement = "INSERT INTO heartbeat (monitor_id, status, msg, time) VALUES (1, 1, ?, datetime())"
        connection.execute(statement, (f"lab-{number}",))

    def setup(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO monitor (id, name, url, type) VALUES (1, 'lab', 'http://127.0.0.1', 'http')"
        )

    numbers = "SELECT CAST(substr(msg, 5) AS INTEGER) FROM heartbeat WHERE msg LIKE 'lab-%'"
    return Layout(data / "kuma.db", SCHEMA, insert, numbers, wal=True, setup=setup, beside=(data / "upload",))


def entry_page(store: SqliteStore, request: Request) -> Answer:
    store.query("SELECT value FROM setting WHERE key = 'entryPage'")
    return as_json({"type": "entryPage", "entryPage": "dashboard"})
