"""Portainer: one database file with one writer that holds a lock on it, keys beside it, an administrator.

The real file is BoltDB, which cannot be copied consistently while the program writes; this one cannot either:
a header with the number of records is rewritten in place after each record.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets as random
import struct
import threading
from pathlib import Path
from typing import Any, BinaryIO

from .core import Answer, App, Place, Request, as_json, page, refuse
from .durable import missing_numbers, write_durably

MAGIC = b"\xed\x0c\xda\xedLABBOLT\x00"
HEADER = struct.Struct(f">{len(MAGIC)}sQQ")  # magic, records, bytes used


class BoltFile:
    """Records of JSON in one file. A header that does not fit the records is a torn copy."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        new = not path.exists()
        if new and (path.parent / "portainer.key").exists():
            refuse(f"{path} is missing although portainer.key is there: a new one would hide the loss")
        try:
            if new:
                write_durably(path, HEADER.pack(MAGIC, 0, HEADER.size), 0o600)
            self.file: BinaryIO = open(path, "r+b")  # noqa: SIM115 - open as long as the program runs
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            refuse(f"failed opening store: {path}: {error.strerror}")
        self.records: list[dict[str, Any]] = []
        self.end = self._read()

    def _read(self) -> int:
        self.file.seek(0)
        content = self.file.read()
        if len(content) < HEADER.size:
            refuse(f"failed opening store: {self.path}: file size too small")
        magic, count, used = HEADER.unpack_from(content)
        if magic != MAGIC:
            refuse(f"failed opening store: {self.path}: invalid database")
        lines = content[HEADER.size : used].splitlines()
        try:
            self.records = [json.loads(line) for line in lines]
        except ValueError:
            refuse(f"failed opening store: {self.path}: invalid page")
        if len(self.records) != count or len(content) < used:
            refuse(f"failed opening store: {self.path}: {count} records expected, {len(self.records)} there")
        return int(used)

    def _write_header(self, end: int) -> None:
        self.file.seek(0)
        self.file.write(HEADER.pack(MAGIC, len(self.records), end))
        self.file.flush()
        os.fsync(self.file.fileno())

    def add(self, record: dict[str, Any]) -> None:
        """Append one record; it counts once the header says so."""
        self.file.seek(self.end)
        self.file.write(json.dumps(record).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        end = self.file.tell()
        self.records.append(record)
        self._write_header(end)
        self.end = end

    def commit(self, with_file: bool) -> dict[str, Any]:
        with self.lock:
            number = 1 + max(self._numbers(), default=0)
            self.add({"bucket": "lab", "n": number})
            return {"n": number}

    def rows(self) -> dict[str, Any]:
        with self.lock:
            return missing_numbers(self._numbers())

    def _numbers(self) -> list[int]:
        return [record["n"] for record in self.records if record["bucket"] == "lab"]

    def close(self) -> None:
        with self.lock:
            self.file.close()


def build(place: Place) -> App:
    data = place.path("/data")
    store = BoltFile(data / "portainer.db")
    for name in ("portainer.key", "portainer.pub"):
        if not (data / name).exists():
            write_durably(data / name, random.token_hex(32).encode(), 0o600)
    for folder in ("bin", "certs", "compose", "tls"):
        (data / folder).mkdir(exist_ok=True)
    make_administrator(place, store)
    app = App("portainer", 9000, place, store)
    status = {
        "Version": place.version,
        "InstanceID": hashlib.sha256((data / "portainer.key").read_bytes()).hexdigest()[:36],
    }
    app.route("GET", "/", lambda request: page("Portainer"))
    app.route("GET", "/api/system/status", lambda request: as_json(status))
    app.route("POST", "/api/auth", lambda request: sign_in(store, request))
    return app


def make_administrator(place: Place, store: BoltFile) -> None:
    """The password file counts at the first start only, as with the real one."""
    arguments = list(place.arguments)
    if "--admin-password-file" not in arguments:
        return
    file = place.path(arguments[arguments.index("--admin-password-file") + 1])
    if not file.is_file():
        refuse(f"failed getting admin password file: open {file}: no such file or directory")
    if not any(record["bucket"] == "users" for record in store.records):
        salt = random.token_hex(8)
        store.add(
            {
                "bucket": "users",
                "name": "admin",
                "salt": salt,
                "password": hashed(file.read_text().strip(), salt),
            }
        )


def hashed(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=salt.encode(), n=1024, r=8, p=1).hex()


def sign_in(store: BoltFile, request: Request) -> Answer:
    sent = request.json()
    for record in store.records:
        right = record["bucket"] == "users" and record["name"] == sent.get("Username")
        if right and record["password"] == hashed(str(sent.get("Password")), record["salt"]):
            return as_json({"jwt": random.token_urlsafe(32)})
    return as_json({"message": "Invalid credentials"}, 422)
