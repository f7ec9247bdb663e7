"""KitchenOwl: /data/database.db (not kitchenowl.db) with SQLite's default journal, pictures in /data/upload."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .core import Answer, App, Place, Request, as_json, page
from .durable import secret
from .sqlite_store import Layout, SqliteStore

SCHEMA = """
CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS user (id INTEGER PRIMARY KEY, name TEXT, username TEXT UNIQUE, password TEXT);
CREATE TABLE IF NOT EXISTS household (id INTEGER PRIMARY KEY, name TEXT, photo TEXT);
CREATE TABLE IF NOT EXISTS shoppinglist (id INTEGER PRIMARY KEY, name TEXT, household_id INTEGER REFERENCES household (id));
CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, name TEXT, household_id INTEGER REFERENCES household (id));
"""
HEALTH = "/api/health/8M4F88S8ooi4sMbLBfkkV7ctWwgibW6V"


def build(place: Place) -> App:
    data = place.path(place.environment.get("STORAGE_PATH", "/data"))
    secret(place, "JWT_SECRET_KEY", "PLEASE_CHANGE_ME")
    store = SqliteStore(layout(data))
    (data / "upload").mkdir(exist_ok=True)
    app = App("kitchenowl", 8080, place, store)
    app.route("GET", "/", lambda request: page("KitchenOwl"))
    app.route("GET", HEALTH, lambda request: health(store, request))
    return app


def layout(data: Path) -> Layout:
    def insert(connection: sqlite3.Connection, number: int) -> None:
        connection.execute("INSERT INTO item (name, household_id) VALUES (?, 1)", (f"lab-{number}",))

    def setup(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO household (id, name) VALUES (1, 'lab')")

    return Layout(
        data / "database.db", SCHEMA, insert,
        "SELECT CAST(substr(name, 5) AS INTEGER) FROM item WHERE name LIKE 'lab-%'", setup=setup, beside=(data / "upload",),
        files=lambda number: (data / "upload" / f"lab-{number}.jpg", f"picture {number}\n".encode() * 64),
    )  # fmt: skip


def health(store: SqliteStore, request: Request) -> Answer:
    store.query("SELECT count(*) FROM household")
    return as_json({"msg": "OK", "version": 123, "min_frontend_version": 71, "oidc_provider": []})
