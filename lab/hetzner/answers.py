"""The shapes in which Hetzner's API answers: errors, times, pages."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
PER_PAGE, MOST_PER_PAGE = 25, 50


class ApiError(Exception):
    """An answer that is an error, in the form every error has."""

    def __init__(self, status: int, code: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details

    def body(self) -> Json:
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}


def invalid(name: str, message: str) -> ApiError:
    """An input error that names the field."""
    details = {"fields": [{"name": name, "messages": [message]}]}
    return ApiError(422, "invalid_input", f"invalid input in field '{name}'", details)


def not_found(kind: str, key: object) -> ApiError:
    return ApiError(404, "not_found", f"{kind} with ID '{key}' not found")


def taken(kind: str, field_name: str = "name") -> ApiError:
    details = {"fields": [{"name": field_name, "messages": [f"{kind} {field_name} is already used"]}]}
    return ApiError(409, "uniqueness_error", f"{kind} {field_name} is already used", details)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Call:
    """One request: the numbers in its path, its query (every key may come several times) and its body."""

    method: str
    path: str
    query: dict[str, list[str]] = field(default_factory=dict)
    body: Json = field(default_factory=dict)
    args: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.args[0]

    def first(self, name: str) -> str:
        """The query's value, "" without it."""
        return (self.query.get(name) or [""])[0]

    def need(self, name: str) -> Any:
        """A field of the body that must be there."""
        if self.body.get(name) in (None, ""):
            raise invalid(name, "Missing data for required field.")
        return self.body[name]


def page(name: str, rows: Sequence[Json], call: Call, sticky: bool = False) -> Json:
    """One page of a list with its ``meta``. ``sticky``: always the first page, and always another one after it."""
    number, size = _number(call, "page", 1), min(_number(call, "per_page", PER_PAGE), MOST_PER_PAGE)
    last = max(1, -(-len(rows) // size))
    shown = 1 if sticky else number
    following = number + 1 if sticky or number < last else None
    pagination = {
        "page": number,
        "per_page": size,
        "previous_page": number - 1 if number > 1 else None,
        "next_page": following,
        "last_page": last,
        "total_entries": len(rows),
    }
    return {name: list(rows[(shown - 1) * size : shown * size]), "meta": {"pagination": pagination}}


def _number(call: Call, name: str, default: int) -> int:
    text = call.first(name)
    if text and (not text.isdigit() or int(text) < 1):
        raise invalid(name, "must be a number greater than 0")
    return int(text) if text else default
