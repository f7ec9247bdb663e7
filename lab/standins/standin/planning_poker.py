"""Planning Poker: poker.db in its working folder, with SQLite's default journal; a host password."""

from __future__ import annotations

import hmac
import secrets as random
import sqlite3
import time

from .core import Answer, App, Place, Request, as_json, page, text
from .sqlite_store import Layout, SqliteStore

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, nickname TEXT NOT NULL, current_vote TEXT,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS session (id INTEGER PRIMARY KEY AUTOINCREMENT, status TEXT DEFAULT 'waiting',
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
"""


def build(place: Place) -> App:
    def insert(connection: sqlite3.Connection, number: int) -> None:
        connection.execute(
            "INSERT INTO users (id, nickname) VALUES (?, ?)", (f"lab-{number}", f"Lab {number}")
        )

    def setup(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO session (status) VALUES ('waiting')")

    numbers = "SELECT CAST(substr(id, 5) AS INTEGER) FROM users WHERE id LIKE 'lab-%'"
    store = SqliteStore(Layout(place.root / "poker.db", SCHEMA, insert, numbers, setup=setup))
    app = App("planning-poker", int(place.environment.get("PORT", "3000")), place, store)
    app.route("GET", "/", lambda request: page("Planning Poker"))
    app.route(
        "GET",
        "/style.css",
        lambda request: text("body { margin: 0 }\n", content_type="text/css; charset=utf-8"),
    )
    app.route("GET", "/health", lambda request: health(store, request))
    app.route("POST", "/api/join", lambda request: join(store, request))
    app.route("POST", "/api/host/login", lambda request: host_login(place, request))
    return app


def health(store: SqliteStore, request: Request) -> Answer:
    store.query("SELECT 1")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    return as_json({"status": "healthy", "database": "connected", "timestamp": stamp})


def join(store: SqliteStore, request: Request) -> Answer:
    user = f"user_{random.token_hex(8)}"
    store.write("INSERT INTO users (id, nickname) VALUES (?, 'Swift Fox')", user)
    return as_json({"userId": user, "nickname": "Swift Fox"})


def host_login(place: Place, request: Request) -> Answer:
    right = place.environment.get("HOST_PASSWORD", "admin123")
    if hmac.compare_digest(str(request.json().get("password")).encode(), right.encode()):
        return as_json({"success": True})
    return as_json({"error": "Invalid password"}, 401)
