"""Everything on a host that is there because of us, and what leaving would do with each.

Request: {"packages": bool, "dumps": bool, "needed": [packages of services]}: what leaving takes along.
Reply: {"items": [{"kind", "what", "state", "fate", "why"}]}. ``fate``: "remove", "restore" (what stood there before
comes back), "disable" or "keep", and ``why`` it is kept. ``state`` is what is there now. Read live: nothing is taken
from a description. Looks only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from . import apt, manifest, originals, ours, unguard
from .errors import AgentError
from .look import MISSING, Seen, fingerprint, is_empty, look
from .root import MANIFEST, STATE, Root

__all__ = ["DIRECTORIES", "DUMPS", "UNITS", "Item", "Wish", "items", "run"]

UNITS = "/etc/systemd/system"
DUMPS = f"{STATE}/dumps"
DIRECTORIES = ("/var/cache/understudy", STATE, "/run/understudy")


@dataclass(frozen=True)
class Item:
    """One thing of ours; fields as in the reply."""

    kind: str
    what: str
    state: str
    fate: str
    why: str = ""


@dataclass(frozen=True)
class Wish:
    """What leaving takes along: packages and dumps only when asked."""

    packages: bool = False
    dumps: bool = False
    needed: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: dict[str, Any]) -> Wish:
        """From a request."""
        needed = tuple(str(name) for name in request.get("needed") or ())
        return cls(bool(request.get("packages")), bool(request.get("dumps")), needed)


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    found = items(root, Wish.of(request))
    return {"items": [asdict(item) for item in found]}


def items(root: Root, wish: Wish) -> list[Item]:
    """All of them, in the order in which leaving deals with them. Raises AgentError for what cannot be read."""
    listed = manifest.load(root)
    return [
        *_units(root, listed),
        *_guarded(root),
        *_tables(),
        *_scratch(),
        *_files(root, listed),
        *_directories(root, listed),
        *_users(root),
        *_packages(root, wish),
        *_state(root, wish.dumps),
        *_elsewhere(root),
    ]


def own_units(listed: dict[str, Any] | None) -> list[str]:
    """Units of ours whose files the manifest names; those of services are the owner's."""
    entries = manifest.entries(listed).items()
    paths = [path for path, entry in entries if path.startswith(f"{UNITS}/") and not entry.get("service")]
    names = [os.path.basename(path) for path in paths if path.count("/") == UNITS.count("/") + 1]
    return sorted(name for name in names if name.endswith((".service", ".timer", ".path", ".socket")))


def _units(root: Root, listed: dict[str, Any] | None) -> Iterator[Item]:
    for name in own_units(listed):
        yield Item("unit", name, ours.unit_state(name), "remove")
    listed_paths = manifest.entries(listed)
    for name in ours.noted(root, "enabled"):
        if f"{UNITS}/{name}" in listed_paths:
            continue  # a service of the owner's, or named above
        held = name == "docker.service" and bool(ours.containers())
        why = "containers run on it" if held else ""
        yield Item("enabled", name, ours.unit_state(name), "keep" if held else "disable", why)


def _guarded(root: Root) -> Iterator[Item]:
    """What only the guard starts: on the host that owns it, Docker and systemd take over again."""
    for address, policy in unguard.containers(root).items():
        yield Item("restart policy", address, "the guard's", "restore", f"{policy} again")
    for unit in unguard.units(root):
        yield Item("condition", unit, "the guard's", "remove")
    for service, group in unguard.elsewhere(root).items():
        yield Item("service", service, "down", "keep", f"another host owns {group}: nothing starts it here")


def _tables() -> Iterator[Item]:
    for name in ours.tables():
        yield Item("nft table", name, "loaded", "remove")


def _scratch() -> Iterator[Item]:
    for kind, names in ours.scratch().items():
        for name in names:
            yield Item(kind, name, "left by a drill", "remove")


def _files(root: Root, listed: dict[str, Any] | None) -> Iterator[Item]:
    former, elsewhere = originals.load(root), unguard.elsewhere(root)
    for path, entry in sorted(manifest.entries(listed).items()):
        if entry.get("kind") != "dir":
            if path.startswith(f"{unguard.OVERRIDES}/") and entry.get("service") not in elsewhere:
                entry = {**entry, "service": ""}  # only the guard's: the owner's own files say how to restart
            yield _file(root, path, entry, former.get(path))


def _file(root: Root, path: str, entry: dict[str, Any], former: dict[str, Any] | None) -> Item:
    live = look(root, path)
    service, kind = str(entry.get("service") or ""), str(entry.get("kind"))
    if service:
        return Item(kind, path, _word(live, entry), "keep", f"{service} runs from it")
    if live == MISSING:
        return Item(kind, path, "missing", "keep", "it is gone already")
    if former and (former["adopted"] or originals.seen(former) == live):
        return Item(kind, path, "as it was before", "keep", "it was there before us")
    if fingerprint(live) != str(entry.get("sha256") or ""):
        return Item(kind, path, "changed", "keep", "it was changed after we wrote it")
    return Item(kind, path, "as written", "restore" if former else "remove")


def _word(live: Seen, entry: dict[str, Any]) -> str:
    if live == MISSING:
        return "missing"
    return "as written" if fingerprint(live) == str(entry.get("sha256") or "") else "changed"


def _directories(root: Root, listed: dict[str, Any] | None) -> Iterator[Item]:
    """Those that we made and no service lives in, deepest first; they go when they are empty by then."""
    entries = manifest.entries(listed)
    served = [path for path, entry in entries.items() if entry.get("service")]
    for path in sorted(manifest.created(listed), key=lambda path: (-path.count("/"), path)):
        if path in DIRECTORIES:
            continue
        users = [used for used in served if used == path or used.startswith(f"{path}/")]
        state = "missing" if look(root, path) == MISSING else "empty" if is_empty(root, path) else "in use"
        why = f"{entries[users[0]]['service']} lives in it" if users else ""
        yield Item("dir", path, state, "keep" if users else "remove", why)


def _users(root: Root) -> Iterator[Item]:
    for name in ours.noted(root, "users"):
        if ours.user_exists(name):
            yield Item("user", name, "exists", "keep", "its service runs and its data stays")


def _packages(root: Root, wish: Wish) -> Iterator[Item]:
    noted = ours.noted(root, "packages")
    packages = apt.installed() if noted else {}
    engine = ours.ENGINE if noted and ours.containers() else ()
    kept = apt.kept_by(packages, noted, [*wish.needed, *engine])
    for name in (name for name in noted if name in packages):
        why = "" if wish.packages else "only with --packages"
        if name in kept:
            why = f"{kept[name]} needs it" if kept[name] else _needed_for(name)
        yield Item("package", name, packages[name]["version"], "keep" if why else "remove", why)


def _needed_for(name: str) -> str:
    return "containers run on it" if name in ours.ENGINE else "a service runs on it"


def _state(root: Root, dumps: bool) -> Iterator[Item]:
    if look(root, DUMPS) != MISSING:
        why = "" if dumps else "copies of databases: only with --dumps"
        yield Item("dumps", DUMPS, ours.size(root, DUMPS), "keep" if why else "remove", why)
    for path in DIRECTORIES:
        if look(root, path) != MISSING:
            yield Item("state", path, ours.size(root, path), "remove")


def _elsewhere(root: Root) -> Iterator[Item]:
    """What is named and never touched: repositories, and old data that a restore set aside."""
    for url in ours.repositories(root):
        yield Item("repository", url, "your backups", "keep", "repositories are never removed")
    for path in ours.set_aside(root):
        if look(root, path) != MISSING:
            yield Item("old data", path, "set aside by a restore", "keep", "yours to remove")


def require_readable(root: Root) -> None:
    """Raises AgentError when there is neither a manifest nor any state: this host is not ours."""
    if look(root, MANIFEST) == MISSING and look(root, STATE) == MISSING:
        raise AgentError("nothing on this host is ours: there is no manifest and no state", "refused")
