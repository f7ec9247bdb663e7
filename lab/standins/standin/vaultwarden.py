"""Vaultwarden: a WAL-mode database, attachments and sends as files, RSA keys, the sign-in and the admin page."""

from __future__ import annotations

import os
import secrets as random
import sqlite3
import subprocess
import time
import uuid
from pathlib import Path

from .core import Answer, App, Place, Request, as_json, page, redirect, refuse, text
from .durable import secret, write_durably
from .sqlite_store import Layout, SqliteStore

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (uuid TEXT PRIMARY KEY, email TEXT UNIQUE, name TEXT, password_hash BLOB, salt BLOB,
  akey TEXT, security_stamp TEXT, created_at DATETIME, updated_at DATETIME);
CREATE TABLE IF NOT EXISTS ciphers (uuid TEXT PRIMARY KEY, user_uuid TEXT REFERENCES users (uuid), atype INTEGER,
  name TEXT NOT NULL, data TEXT NOT NULL, created_at DATETIME, updated_at DATETIME, deleted_at DATETIME);
CREATE TABLE IF NOT EXISTS attachments (id TEXT PRIMARY KEY, cipher_uuid TEXT REFERENCES ciphers (uuid),
  file_name TEXT, file_size INTEGER);
CREATE TABLE IF NOT EXISTS devices (uuid TEXT, user_uuid TEXT, name TEXT, refresh_token TEXT, PRIMARY KEY (uuid, user_uuid));
CREATE TABLE IF NOT EXISTS sends (uuid TEXT PRIMARY KEY, user_uuid TEXT, name TEXT, data TEXT);
"""
USER = "00000000-0000-4000-8000-000000000001"
COOKIE = "VW_ADMIN"


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())


def cipher_id(number: int) -> str:
    return str(uuid.uuid5(uuid.UUID(USER), f"lab-{number}"))


def build(place: Place) -> App:
    data = place.path(place.environment.get("DATA_FOLDER", "/data"))
    make_keys(data)
    store = SqliteStore(layout(place, data))
    for folder in ("attachments", "icon_cache", "sends", "tmp"):
        (data / folder).mkdir(exist_ok=True)
    app = App("vaultwarden", int(place.environment.get("ROCKET_PORT", "80")), place, store)
    Vault(app, store, place, data)
    return app


def layout(place: Place, data: Path) -> Layout:
    database = place.path(place.environment.get("DATABASE_URL", str(Path("/data/db.sqlite3"))))

    def insert(connection: sqlite3.Connection, number: int) -> None:
        row = (cipher_id(number), USER, 1, f"lab-{number}", "{}", now(), now())
        connection.execute("INSERT INTO ciphers VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", row)
        attachment = data / "attachments" / cipher_id(number) / "lab"
        if attachment.exists():
            size = attachment.stat().st_size
            connection.execute(
                "INSERT INTO attachments VALUES (?, ?, 'lab', ?)", (f"lab-{number}", cipher_id(number), size)
            )

    def setup(connection: sqlite3.Connection) -> None:
        row = (
            USER,
            "lab@example.org",
            "lab",
            b"",
            random.token_bytes(64),
            "",
            str(uuid.uuid4()),
            now(),
            now(),
        )
        connection.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    return Layout(
        database, SCHEMA, insert, "SELECT CAST(substr(name, 5) AS INTEGER) FROM ciphers WHERE name LIKE 'lab-%'", wal=True,
        beside=(data / "attachments", data / "sends"),
        files=lambda number: (data / "attachments" / cipher_id(number) / "lab", f"attachment {number}\n".encode() * 64),
        setup=setup,
    )  # fmt: skip


def make_keys(data: Path) -> None:
    """The key that signs sessions; as with the real one a lost key signs everybody out, so it is never remade
    beside a database."""
    key = data / "rsa_key.pem"
    if key.exists():
        return
    if (data / "db.sqlite3").exists():
        refuse(f"{key} is missing although db.sqlite3 is there")
    try:
        data.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True)
        write_durably(key, made.stdout, 0o600)
    except (OSError, subprocess.CalledProcessError) as error:
        refuse(f"unable to create {key}: {error}")


class Vault:
    """What clients ask of it."""

    def __init__(self, app: App, store: SqliteStore, place: Place, data: Path) -> None:
        self.store, self.place, self.data = store, place, data
        self.sessions: set[str] = set()
        self.token = secret(place, "ADMIN_TOKEN")
        app.route("GET", "/", lambda request: page("Vaultwarden Web"))
        app.route("GET", "/alive", self.alive)
        app.route("POST", "/identity/connect/token", self.sign_in)
        app.route("POST", "/identity/accounts/register", self.register)
        app.route("PUT", "/api/ciphers/([^/]+)/delete", self.soft_delete)
        app.route("POST", "/admin/?", self.admin_login)
        app.route("GET", "/admin/?", lambda request: page("Vaultwarden Admin"))
        app.route("POST", "/admin/users/update_revision", self.update_revision)
        app.route("GET", "/_lab/attachments", self.attachments)

    def alive(self, request: Request) -> Answer:
        self.store.query("SELECT 1")
        return as_json(time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()))

    def sign_in(self, request: Request) -> Answer:
        self.store.query("SELECT count(*) FROM users")
        if "grant_type" not in (form := request.form()):
            return error("missing field grant_type", 422)
        for name in ("client_id", "password", "scope", "username"):
            if not form.get(name):
                return error(f"{name} cannot be blank")
        return error("Username or password is incorrect. Try again")

    def register(self, request: Request) -> Answer:
        if self.place.environment.get("SIGNUPS_ALLOWED", "true") == "false":
            return error("Registration not allowed or user already exists")
        self.store.write(
            "INSERT OR IGNORE INTO users (uuid, email) VALUES (?, ?)",
            str(uuid.uuid4()),
            request.json().get("email"),
        )
        return as_json({"object": "register"})

    def soft_delete(self, request: Request) -> Answer:
        assert request.match
        if not self.store.query("SELECT 1 FROM ciphers WHERE uuid = ?", request.match[1]):
            return error("Cipher doesn't exist")
        self.store.write("UPDATE ciphers SET deleted_at = ? WHERE uuid = ?", now(), request.match[1])
        return Answer()

    def admin_login(self, request: Request) -> Answer:
        if not self.token or request.form().get("token") != self.token:
            return page("Vaultwarden Admin", "Invalid admin token, please try again.", 401)
        session = random.token_urlsafe(32)
        self.sessions.add(session)
        answer = redirect("/admin") if request.form().get("redirect") else page("Vaultwarden Admin")
        answer.headers["Set-Cookie"] = f"{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/admin"
        return answer

    def update_revision(self, request: Request) -> Answer:
        sent = [part.strip() for part in request.headers.get("Cookie", "").split(";")]
        if not any(f"{COOKIE}={session}" in sent for session in self.sessions):
            return text("Unauthorized\n", 401)
        if request.headers.get("Content-Type", "").split(";")[0] != "application/json":
            return text("Not Found\n", 404)
        self.store.write("UPDATE users SET updated_at = ?", now())
        return Answer()

    def attachments(self, request: Request) -> Answer:
        """Attachments that the database knows and the disk has lost."""
        known = self.store.query("SELECT cipher_uuid, file_name, file_size FROM attachments")
        lost = [f"{cipher}/{name}" for cipher, name, size in known if not self._whole(cipher, name, size)]
        return as_json({"count": len(known), "lost": lost})

    def _whole(self, cipher: str, name: str, size: int) -> bool:
        path = self.data / "attachments" / cipher / name
        return path.exists() and os.path.getsize(path) == size


def error(message: str, status: int = 400) -> Answer:
    model = {"message": message, "object": "error"}
    body = {"error": "", "error_description": "", "errorModel": model, "message": message, "object": "error",
            "validationErrors": {"": [message]}}  # fmt: skip
    return as_json(body, status)
