"""TravelSync: /app/data/documents_calendar.db, uploads, an administrator made at the first sign-in."""

from __future__ import annotations

import hashlib
import secrets as random
import sqlite3
from pathlib import Path

from .core import Answer, App, Place, Request, as_json, page, refuse
from .sqlite_store import Layout, SqliteStore

SCHEMA = "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, username VARCHAR UNIQUE, hashed_password VARCHAR);"


def build(place: Place) -> App:
    url = place.environment.get("DATABASE_URL", "sqlite:///./data/documents_calendar.db")
    if not url.startswith("sqlite:///"):
        refuse(f"Could not parse SQLAlchemy URL from string '{url}'")
    work = place.path("/app")
    store = SqliteStore(layout(work, work / url.removeprefix("sqlite:///")))
    app = App("travelsync", 8000, place, store)
    app.route("GET", "/", lambda request: page("TravelSync"))
    app.route("GET", "/api/health", lambda request: as_json({"status": "healthy"}))
    app.route("POST", "/api/auth/login", lambda request: sign_in(place, store, request))
    return app


def layout(work: Path, database: Path) -> Layout:
    def insert(connection: sqlite3.Connection, number: int) -> None:
        connection.execute("INSERT INTO users (username, hashed_password) VALUES (?, '')", (f"lab-{number}",))

    return Layout(
        database, SCHEMA, insert, "SELECT CAST(substr(username, 5) AS INTEGER) FROM users WHERE username LIKE 'lab-%'",
        beside=(work / "uploads",),
        files=lambda number: (work / "uploads" / f"lab-{number}.pdf", f"ticket {number}\n".encode() * 64),
    )  # fmt: skip


def hashed(password: str, salt: str) -> str:
    return salt + "$" + hashlib.scrypt(password.encode(), salt=salt.encode(), n=1024, r=8, p=1).hex()


def sign_in(place: Place, store: SqliteStore, request: Request) -> Answer:
    """The administrator's password is taken from the environment once; later changes of it change nothing."""
    form = request.form()
    name, password = (
        place.environment.get("ADMIN_USERNAME", "admin"),
        place.environment.get("ADMIN_PASSWORD", "admin123"),
    )
    if not store.query("SELECT 1 FROM users WHERE username = ?", name):
        store.write(
            "INSERT INTO users (username, hashed_password) VALUES (?, ?)",
            name,
            hashed(password, random.token_hex(8)),
        )
    found = store.query("SELECT hashed_password FROM users WHERE username = ?", form.get("username", ""))
    if not found or found[0][0] != hashed(form.get("password", ""), found[0][0].split("$")[0]):
        return as_json({"detail": "Incorrect username or password"}, 401)
    return as_json({"access_token": random.token_urlsafe(32), "token_type": "bearer"})
