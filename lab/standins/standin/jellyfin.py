"""Jellyfin 10.11: /config/data/jellyfin.db in WAL mode, settings as XML, a library that mirrors /media."""

from __future__ import annotations

import sqlite3
import time
import uuid
from pathlib import Path

from .core import Answer, App, Place, Request, as_json, page, redirect, text
from .durable import write_durably
from .sqlite_store import Layout, SqliteStore

SCHEMA = """
CREATE TABLE IF NOT EXISTS __EFMigrationsHistory (MigrationId TEXT PRIMARY KEY, ProductVersion TEXT);
CREATE TABLE IF NOT EXISTS Users (Id TEXT PRIMARY KEY, Username TEXT, Password TEXT);
CREATE TABLE IF NOT EXISTS BaseItems (Id TEXT PRIMARY KEY, Type TEXT, Name TEXT, Path TEXT, Size INTEGER, DateCreated TEXT);
CREATE TABLE IF NOT EXISTS UserData (ItemId TEXT, UserId TEXT, PlayCount INTEGER, PRIMARY KEY (ItemId, UserId));
"""
SYSTEM_XML = '<?xml version="1.0" encoding="utf-8"?>\n<ServerConfiguration><ServerName>lab</ServerName></ServerConfiguration>\n'


def build(place: Place) -> App:
    config = place.path(place.environment.get("JELLYFIN_DATA_DIR", "/config"))
    store = SqliteStore(layout(config))
    for folder in ("data", "log", "metadata", "plugins", "root"):
        (config / folder).mkdir(exist_ok=True)
    if not (config / "config/system.xml").exists():
        write_durably(config / "config/system.xml", SYSTEM_XML.encode())
    cache = place.path(place.environment.get("JELLYFIN_CACHE_DIR", "/cache"))
    (cache / "images").mkdir(parents=True, exist_ok=True)
    app = App("jellyfin", 8096, place, store)
    library = Library(store, place.path("/media"))
    library.scan()
    app.route("GET", "/", lambda request: redirect("web/"))
    app.route("GET", "/web/?", lambda request: page("Jellyfin"))
    app.route("GET", "/health", lambda request: health(store))
    app.route(
        "GET",
        "/System/Info/Public",
        lambda request: as_json({"Version": place.version, "ProductName": "Jellyfin Server"}),
    )
    app.route("POST", "/Library/Refresh", library.refresh)
    app.route("GET", "/Items/Counts", library.counts)
    return app


def layout(config: Path) -> Layout:
    def insert(connection: sqlite3.Connection, number: int) -> None:
        row = (str(uuid.uuid4()), "Lab", f"lab-{number}", "", 0, time.strftime("%Y-%m-%d %H:%M:%S"))
        connection.execute("INSERT INTO BaseItems VALUES (?, ?, ?, ?, ?, ?)", row)

    numbers = "SELECT CAST(substr(Name, 5) AS INTEGER) FROM BaseItems WHERE Type = 'Lab'"
    beside = (config / "config/system.xml",)
    return Layout(config / "data/jellyfin.db", SCHEMA, insert, numbers, wal=True, beside=beside)


def health(store: SqliteStore) -> Answer:
    store.query("SELECT count(*) FROM Users")
    return text("Healthy", content_type="text/plain")


class Library:
    """The files below /media, as items of the database."""

    def __init__(self, store: SqliteStore, media: Path) -> None:
        self.store, self.media = store, media

    def scan(self) -> None:
        """Add new files and drop items whose file is gone."""
        there = {str(path): path.stat().st_size for path in self.media.rglob("*") if path.is_file()}
        known = {path for (path,) in self.store.query("SELECT Path FROM BaseItems WHERE Type = 'Movie'")}
        for path in known - there.keys():
            self.store.write("DELETE FROM BaseItems WHERE Path = ?", path)
        for path in there.keys() - known:
            row = (
                str(uuid.uuid4()),
                "Movie",
                Path(path).stem,
                path,
                there[path],
                time.strftime("%Y-%m-%d %H:%M:%S"),
            )
            self.store.write("INSERT INTO BaseItems VALUES (?, ?, ?, ?, ?, ?)", *row)

    def refresh(self, request: Request) -> Answer:
        self.scan()
        return Answer(status=204)

    def counts(self, request: Request) -> Answer:
        ((count,),) = self.store.query("SELECT count(*) FROM BaseItems WHERE Type = 'Movie'")
        return as_json({"MovieCount": count})
