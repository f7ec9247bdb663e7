"""Runs the host's own tools over the staged tree and collects every objection, secrets masked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import process
from .disk import Disk
from .errors import AgentError
from .look import look
from .request import Request, Validator

__all__ = ["check", "mask", "secrets_in"]

_PARALLEL = 4
_TAIL = 8
_SHORTEST = 4


def check(disk: Disk, request: Request, stage: str, contents: dict[str, bytes]) -> None:
    """Raise AgentError kind "validation" with all objections; ``failures`` lists them one by one."""
    hidden = secrets_in(_secret_contents(disk, request, contents))
    with ThreadPoolExecutor(_PARALLEL) as pool:
        results = list(pool.map(lambda item: _run(item, stage, hidden), request.validators))
    failures = [result for result in results if result]
    if failures:
        text = "; ".join(f"{item['name']}: {item['output']}" for item in failures)
        raise AgentError(f"{text} (nothing was changed)", "validation", failures=failures)


def _run(validator: Validator, stage: str, hidden: list[str]) -> dict[str, Any] | None:
    argv = [word.replace("{stage}", stage) for word in validator.argv]
    ended = process.stream(argv, validator.timeout, lambda line: None, cwd=stage)
    if ended.ok:
        return None
    words = [line.strip().replace(stage, "") for line in ended.lines if line.strip()]
    output = mask("\n".join(words[-_TAIL:]), hidden) or f"exit status {ended.code}"
    return {"name": validator.name, "service": validator.service, "code": ended.code, "output": output}


def _secret_contents(disk: Disk, request: Request, contents: dict[str, bytes]) -> Iterable[bytes]:
    """What nobody else may read: entries marked secret and every staged file closed to others."""
    for entry in request.entries:
        if entry.path in contents and (entry.secret or not entry.mode & 0o004):
            yield contents[entry.path]
    for path in request.context:
        live = look(disk.root, path)
        if live.kind == "file" and not live.mode & 0o004:
            with open(disk.root.at(path), "rb") as stream:
                yield stream.read()


def secrets_in(contents: Iterable[bytes]) -> list[str]:
    """Strings to hide, longest first: whole contents, lines, the values of NAME=value and name: value."""
    found: set[str] = set()
    for content in contents:
        text = content.decode("utf-8", "replace")
        for line in text.splitlines():
            found.update(piece.strip().strip("'\"") for piece in (line, *_values(line)))
        found.add(text.strip())
    found |= {json.dumps(item)[1:-1] for item in found}
    return sorted((item for item in found if len(item) >= _SHORTEST), key=len, reverse=True)


def _values(line: str) -> list[str]:
    return [line.partition(mark)[2] for mark in ("=", ": ") if mark in line]


def mask(text: str, hidden: Iterable[str]) -> str:
    """The text with every hidden string replaced."""
    for item in hidden:
        text = text.replace(item, "***")
    return text
