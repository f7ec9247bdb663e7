"""Compares an answer with what a probe expects and says exactly what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .http_call import Answer

__all__ = ["objection"]

_SHOWN = 80


def objection(probe: dict[str, Any], answer: Answer) -> str | None:
    """The first thing that is wrong with an answer, or None."""
    checks: tuple[Callable[[dict[str, Any], Answer], str | None], ...] = (
        _status,
        _content_type,
        _text,
        _json,
    )
    wrong = next((found for check in checks if (found := check(probe, answer))), None)
    return f"{wrong}; the body starts {_start(probe, answer)}" if wrong else None


def _start(probe: dict[str, Any], answer: Answer) -> str:
    """The first characters of the body on one line; headers that the probe sent are hidden if echoed."""
    text = " ".join(answer.body[:4000].decode("utf-8", "replace").split())
    for value in (probe.get("headers") or {}).values():
        text = text.replace(str(value), "***") if value else text
    return repr(text[:_SHOWN])


def _status(probe: dict[str, Any], answer: Answer) -> str | None:
    wanted = probe.get("status")
    if answer.status in wanted if wanted else 200 <= answer.status < 400:
        return None
    expected = " or ".join(map(str, wanted)) if wanted else "below 400"
    place = f" (redirects to {answer.location})" if answer.location else ""
    return f"expected status {expected}, got {answer.status}{place}"


def _content_type(probe: dict[str, Any], answer: Answer) -> str | None:
    wanted = probe.get("content_type")
    got = answer.content_type.partition(";")[0].strip().lower()
    if not wanted or got == str(wanted).partition(";")[0].strip().lower():
        return None
    return f"expected content type {wanted}, got {got or 'none'}"


def _text(probe: dict[str, Any], answer: Answer) -> str | None:
    wanted = probe.get("text")
    if not wanted or str(wanted) in answer.body.decode("utf-8", "replace"):
        return None
    return f"expected the text {wanted!r}, which is not there"


def _json(probe: dict[str, Any], answer: Answer) -> str | None:
    wanted = probe.get("json")
    if not wanted:
        return None
    try:
        value = json.loads(answer.body)
    except ValueError:
        return f"expected JSON, got {answer.content_type or 'something else'}"
    return next((wrong for key, right in wanted.items() if (wrong := _key(value, key, right))), None)


def _key(value: Any, key: str, right: Any) -> str | None:
    for part in key.split("."):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return f"expected JSON key {key} = {json.dumps(right)}, which is not there"
    # In Python True == 1; in JSON they differ.
    if value == right and isinstance(value, bool) == isinstance(right, bool):
        return None
    return f"expected JSON key {key} = {json.dumps(right)}, got {json.dumps(value)[:_SHOWN]}"
