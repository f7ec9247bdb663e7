"""Reads an apply request: every field is checked before anything on the host is looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .errors import AgentError
from .root import JOURNAL, MANIFEST, PENDING, PREVIOUS, STAGING, checked

__all__ = ["Entry", "Request", "Validator", "parse"]

_OWN = (JOURNAL, MANIFEST, STAGING, PREVIOUS, PENDING)
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A path as it should become; ``index`` is its name in the archive (files only)."""

    index: int
    path: str
    kind: str
    mode: int
    user: str | int
    group: str | int
    sha256: str = ""
    target: str = ""
    secret: bool = False
    service: str = ""
    reactions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Validator:
    """A program that must accept the staged tree; ``{stage}`` in argv is the staging root."""

    name: str
    argv: tuple[str, ...]
    timeout: float = 60
    service: str = ""


@dataclass(frozen=True)
class Request:
    """A checked apply request."""

    release: str
    entries: list[Entry]
    archive: str
    expect: dict[str, str]
    delete: dict[str, str]
    delete_reactions: dict[str, tuple[str, ...]]
    manifest: dict[str, Any]
    validators: list[Validator]
    context: list[str]
    reactions: tuple[str, ...] = ()
    lock_wait: float = 120


def parse(request: dict[str, Any]) -> Request:
    """A checked request; a missing or malformed field is named."""
    try:
        return _parse(request)
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError(
            f"the apply request is malformed: {type(error).__name__} {error}", "bad-request"
        ) from error


def _parse(request: dict[str, Any]) -> Request:
    deletes = list(request.get("delete") or [])
    result = Request(
        release=_release(request["release"]),
        entries=[_entry(values) for values in request.get("entries") or []],
        archive=str(request.get("archive") or ""),
        expect={checked(path): str(value) for path, value in (request.get("expect") or {}).items()},
        delete={_target(item["path"]): str(item["sha256"]) for item in deletes},
        delete_reactions={item["path"]: _words(item.get("reaction")) for item in deletes},
        manifest=dict(request["manifest"]),
        validators=[_validator(values) for values in request.get("validators") or []],
        context=[checked(path) for path in request.get("context") or []],
        reactions=_words(request.get("reactions")),
        lock_wait=float(request.get("lock_wait", 120)),
    )
    _refuse_clashes(result)
    return result


def _release(value: object) -> str:
    if not isinstance(value, str) or not _RELEASE.fullmatch(value):
        raise ValueError(f"release {value!r} is not a plain name")
    return value


def _words(value: object) -> tuple[str, ...]:
    if value is None or isinstance(value, str):
        return tuple((value or "").split())
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"reactions {value!r} are neither text nor a list")
    return tuple(str(word) for word in value)


def _target(path: object) -> str:
    """A path that a request may change: not the agent's own records."""
    name = checked(path)
    if any(name == own or name.startswith(f"{own}/") for own in _OWN):
        raise AgentError(f"{name} belongs to the agent and cannot be part of a tree", "bad-request")
    return name


def _entry(values: dict[str, Any]) -> Entry:
    kind, sha256, mode = values["kind"], str(values.get("sha256") or ""), values.get("mode")
    if kind not in ("file", "dir", "link"):
        raise ValueError(f"{values['path']}: unknown kind {kind!r}")
    if kind == "file" and not _SHA256.fullmatch(sha256):
        raise ValueError(f"{values['path']}: a file needs its sha256")
    if kind == "link" and not values.get("target"):
        raise ValueError(f"{values['path']}: a link needs its target")
    if kind != "link" and not (isinstance(mode, int) and 0 <= mode <= 0o7777):
        raise ValueError(f"{values['path']}: mode {mode!r} is not a number from 0 to 0o7777")
    return Entry(
        int(values["index"]),
        _target(values["path"]),
        kind,
        int(mode or 0),
        values.get("user", 0),
        values.get("group", 0),
        sha256,
        str(values.get("target") or ""),
        bool(values.get("secret")),
        str(values.get("service") or ""),
        _words(values.get("reaction")),
    )


def _validator(values: dict[str, Any]) -> Validator:
    argv = tuple(str(word) for word in values["argv"])
    if not argv:
        raise ValueError(f"validator {values['name']} has an empty command")
    return Validator(
        str(values["name"]), argv, float(values.get("timeout") or 60), str(values.get("service") or "")
    )


def _refuse_clashes(request: Request) -> None:
    paths = [entry.path for entry in request.entries]
    twice = {path for path in paths if paths.count(path) > 1} | (set(paths) & set(request.delete))
    if twice:
        raise AgentError(f"{sorted(twice)[0]} is named twice in one request", "bad-request")
    leaves = {entry.path for entry in request.entries if entry.kind != "dir"}
    for path in paths:
        above = next((leaf for leaf in leaves if path.startswith(f"{leaf}/")), None)
        if above:
            raise AgentError(f"{above} cannot be a file and the folder of {path} at once", "bad-request")
