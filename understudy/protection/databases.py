"""Databases of a service, as its protection plan names them."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from .. import recipe_book
from ..compose import Container
from ..service import Service, unit_of
from ..spec import Database
from .mounts import Place, below

if TYPE_CHECKING:
    from ..desired import Desired

# Where each server keeps its own files inside its image (PostgreSQL 18 moved up one folder).
SERVER_DATA = {
    "postgres": ("/var/lib/postgresql",),
    "mariadb": ("/var/lib/mysql", "/config/databases"),
    "redis": (),
}
USER_VARIABLES = ("POSTGRES_USER", "MARIADB_USER", "MYSQL_USER")
PASSWORD_FILES = ("POSTGRES_PASSWORD_FILE", "MARIADB_PASSWORD_FILE", "MYSQL_PASSWORD_FILE")


def kind_of(container: Container) -> str:
    """``postgres``, ``mariadb``, ``redis``, or "" for anything else, by the image's recipe."""
    recipe = recipe_book.for_image(container.image) if container.image else None
    kinds = [database.kind for database in recipe.databases] if recipe else []
    return kinds[0] if kinds and kinds[0] in SERVER_DATA else ""


def servers(service: Service) -> list[str]:
    """Containers that are database servers: they keep running while applications are stopped."""
    return [name for name, container in service.containers.items() if kind_of(container)]


def of(result: Desired, service: Service, places: list[Place]) -> list[dict[str, Any]]:
    """The plan's entries; the server's own files are left to the dump."""
    for place in places:
        if _is_server_data(service, place):
            place.class_ = "none"
    return [_entry(result, service, database, places) for database in service.databases()]


def _is_server_data(service: Service, place: Place) -> bool:
    for name, target in place.seen:
        roots = SERVER_DATA.get(kind_of(service.containers[name]), ())
        if any(target == root or below(target, root) for root in roots):
            return True
    return False


def _entry(result: Desired, service: Service, database: Database, places: list[Place]) -> dict[str, Any]:
    if database.sqlite is not None:
        return _sqlite(service, database.sqlite, places, database.text)
    named = database.postgres or database.mariadb
    owner, container = _server_of(result, service, database)
    name = named.database if named and named.database else ""
    besides = [] if name else _named_by_others(result, owner, container)
    return {
        "name": f"{container}.{name}" if name else container,
        "kind": database.kind,
        "project": owner.project,
        "container": container,
        "database": name,
        "user": (named.user or "")
        if named and not _is_application_user(owner, container, named.user)
        else "",
        "data_mount": _data_mount(owner, container, places) if owner is service else "",
        "roles": roles(owner, container),
        **({"besides": besides} if besides else {}),
    }


def _server_of(result: Desired, service: Service, database: Database) -> tuple[Service, str]:
    """The unit with a server database's container, and that container."""
    known = database.postgres or database.mariadb or database.redis
    assert known is not None
    unit, _, container = known.service.rpartition("/")
    return unit_of(result.catalog.services, unit or service.name, container), container


def _named_by_others(result: Desired, owner: Service, container: str) -> list[str]:
    """Databases on a server that services name one by one: who has all of the server leaves them to those."""
    found = set()
    for unit in (result.catalog.services[name] for name in result.kept):
        for database in unit.databases():
            named = database.postgres or database.mariadb
            if not named or not named.database:
                continue
            other, where = _server_of(result, unit, database)
            if (other.name, where) == (owner.name, container):
                found.add(named.database)
    return sorted(found)


def _is_application_user(owner: Service, container: str, user: str | None) -> bool:
    """A user that may read its own database only: dumps, roles and new databases are the superuser's work."""
    kind, environment = kind_of(owner.containers[container]), owner.containers[container].environment
    if kind == "postgres":
        return user != environment.get("POSTGRES_USER", "postgres")
    return kind == "mariadb" and user != "root"


def _sqlite(service: Service, place: str, places: list[Place], text: bool) -> dict[str, Any]:
    if service.native:
        holder = max((p for p in places if below(place, p.source)), key=lambda p: len(p.source))
        relative = posixpath.relpath(place, holder.source)
    else:
        container, _, path = place.partition(":")
        holding = [
            (p, target)
            for p in places
            for name, target in p.seen
            if name == container and below(path, target)
        ]
        holder, target = max(holding, key=lambda pair: len(pair[1]))
        relative = posixpath.relpath(path, target)
    return {
        "name": posixpath.basename(relative),
        "kind": "sqlite",
        "mount": holder.key,
        "path": relative,
        "text": text,
    }


def _data_mount(owner: Service, container: str, places: list[Place]) -> str:
    kind = kind_of(owner.containers[container])
    roots = SERVER_DATA.get(kind, ()) or ("/data",)
    for place in places:
        for name, target in place.seen:
            if name == container and any(target == root or below(target, root) for root in roots):
                return place.key
    return ""


def roles(owner: Service, container: str) -> dict[str, str]:
    """Role to the host's file that holds its password, where the image takes it from one."""
    environment = owner.containers[container].environment
    found = {}
    for user, file in zip(USER_VARIABLES, PASSWORD_FILES, strict=True):
        name, path = environment.get(user), environment.get(file)
        if name and path and owner.compose is not None:
            label = posixpath.basename(path)
            host_path = owner.compose.secret_files.get(label)
            if host_path:
                found[name] = host_path
    return found
