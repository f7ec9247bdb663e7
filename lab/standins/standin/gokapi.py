"""Gokapi: config.json with salts and the key of all files, a WAL-mode database, files named by their hash.

A stored file is encrypted with the key of config.json, so a restore that forgot config.json shows as files that
cannot be read, as with the real one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets as random
import sqlite3
from pathlib import Path
from typing import Any

from .core import Answer, App, Place, Request, as_json, refuse, text
from .durable import missing_numbers, write_durably
from .sqlite_store import Layout, SqliteStore

SCHEMA = """
CREATE TABLE IF NOT EXISTS FileMetaData (Id TEXT PRIMARY KEY, Name TEXT, Size INTEGER, SHA1 TEXT, ExpireAt INTEGER,
  DownloadsRemaining INTEGER, Encryption BLOB);
CREATE TABLE IF NOT EXISTS Users (Id INTEGER PRIMARY KEY, Name TEXT UNIQUE, Password TEXT);
CREATE TABLE IF NOT EXISTS ApiKeys (Id TEXT PRIMARY KEY, FriendlyName TEXT);
"""
LOGIN = """<!doctype html><html><head><title>Gokapi</title></head><body><h1 class="card-title">Login</h1>
<form method="post" action="./login" id="form"><input type="hidden" name="username"></form></body></html>
"""


def build(place: Place) -> App:
    options = dict(zip(place.arguments[::2], place.arguments[1::2], strict=False))
    config_folder = place.path(options.get("-cd", options.get("--config-dir", "/app/config")))
    data = place.path(options.get("-d", options.get("--data", "/app/data")))
    config = load_config(config_folder / "config.json", data, place)
    store = GokapiStore(data, base64.b64decode(config["Encryption"]["Cipher"]))
    app = App("gokapi", int(config["Port"].rpartition(":")[2]), place, store)
    app.route("GET", "/", lambda request: text("Gokapi", content_type="text/html"))
    app.route("GET", "/login", lambda request: text(LOGIN, content_type="text/html; charset=utf-8"))
    app.route("GET", "/downloadFile", lambda request: download(store, request))
    return app


def load_config(path: Path, data: Path, place: Place) -> dict[str, Any]:
    """The settings; made on a first start, never beside a database whose files they cannot open."""
    if path.exists():
        try:
            loaded: dict[str, Any] = json.loads(path.read_text())
            return loaded
        except (OSError, ValueError) as error:
            refuse(f"{path}: {error}")
    if (data / "gokapi.sqlite").exists():
        refuse(f"{path} is missing although {data}/gokapi.sqlite is there: its files could not be read")
    config = {
        "Authentication": {
            "SaltAdmin": random.token_hex(15),
            "SaltFiles": random.token_hex(15),
            "Username": "admin",
        },
        "Port": f":{place.environment.get('GOKAPI_PORT', '53842')}",
        "DatabaseUrl": f"sqlite://{data}/gokapi.sqlite",
        "ConfigVersion": 22,
        "Encryption": {"Level": 3, "Cipher": base64.b64encode(random.token_bytes(32)).decode()},
    }
    try:
        write_durably(path, json.dumps(config, indent=1).encode(), 0o600)
    except OSError as error:
        refuse(f"{path}: {error.strerror}")
    return config


def crypt(key: bytes, name: str, content: bytes) -> bytes:
    """Encrypt or decrypt: a stream of HMACs over a counter. Good enough to need the right key."""
    blocks = (hmac.digest(key, f"{name}:{i}".encode(), "sha256") for i in range(len(content) // 32 + 1))
    return bytes(a ^ b for a, b in zip(content, b"".join(blocks), strict=False))


class GokapiStore(SqliteStore):
    """Each commit stores an encrypted file and its row."""

    def __init__(self, data: Path, key: bytes) -> None:
        self.data, self.key = data, key
        stored = tuple(path for path in data.glob("*") if "sqlite" not in path.name)[:1]
        numbers = "SELECT Size FROM FileMetaData WHERE Id LIKE 'lab-%'"
        layout = Layout(
            data / "gokapi.sqlite", SCHEMA, self._insert, numbers, wal=True, beside=stored, files=self._file
        )
        super().__init__(layout)

    def commit(self, with_file: bool) -> dict[str, Any]:
        return super().commit(True)

    def rows(self) -> dict[str, Any]:
        rows = self.query("SELECT Id, SHA1 FROM FileMetaData WHERE Id LIKE 'lab-%'")
        unreadable = [name for name, _ in rows if self.read(name) != plain(name)]
        return missing_numbers([int(name[4:]) for name, _ in rows]) | {"files_missing": unreadable[:1000]}

    def read(self, name: str) -> bytes | None:
        """The stored file, decrypted; None when it is not there."""
        found = self.query("SELECT SHA1 FROM FileMetaData WHERE Id = ?", name)
        path = self.data / found[0][0] if found else None
        return crypt(self.key, name, path.read_bytes()) if path and path.is_file() else None

    def _file(self, number: int) -> tuple[Path, bytes]:
        content = plain(f"lab-{number}")
        return self.data / hashlib.sha1(content, usedforsecurity=False).hexdigest(), crypt(
            self.key, f"lab-{number}", content
        )

    def _insert(self, connection: sqlite3.Connection, number: int) -> None:
        path, _ = self._file(number)
        row = (f"lab-{number}", f"lab-{number}.txt", number, path.name)
        connection.execute("INSERT INTO FileMetaData VALUES (?, ?, ?, ?, 0, 1, NULL)", row)


def plain(name: str) -> bytes:
    return f"shared file {name}\n".encode() * 16


def download(store: GokapiStore, request: Request) -> Answer:
    content = store.read(request.query.get("id", ""))
    return (
        Answer(content, content_type="application/octet-stream")
        if content
        else as_json({"Result": "error"}, 404)
    )
