"""How Cloudflare answers: one envelope for everything, errors with its own numbers, lists in pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """An error as the API gives it: HTTP status, Cloudflare's number and its sentence."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def envelope(self) -> Json:
        error = {"code": self.code, "message": str(self)}
        return {"success": False, "errors": [error], "messages": [], "result": None}


NOT_FOUND_ROUTE = 7000
UNAUTHORIZED = ApiError(403, 9109, "Unauthorized to access requested resource")
AUTHENTICATION = ApiError(403, 10000, "Authentication error")


@dataclass
class Call:
    """One request: the parts of its path that vary, its query (last value of each name) and its JSON body."""

    method: str
    path: str
    parts: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    def mapping(self) -> Json:
        """The body, which has to be a JSON object."""
        if not isinstance(self.body, dict):
            raise ApiError(400, 6003, "Could not parse input. Expected an object.")
        return self.body


@dataclass(frozen=True)
class Listing:
    """A list that the API gives in pages."""

    items: Sequence[Json]
    per_page: int = 100


Handler = Callable[[Call], Any]


def envelope(result: Any, query: Mapping[str, str], sticky: bool = False) -> Json:
    """The answer of a call that worked. ``sticky`` ignores the page asked for, as GET /accounts really does."""
    answer: Json = {"success": True, "errors": [], "messages": [], "result": result}
    if not isinstance(result, Listing):
        return answer
    per_page = number(query, "per_page", result.per_page)
    page = 1 if sticky else number(query, "page", 1)
    chosen = list(result.items[(page - 1) * per_page : page * per_page])
    total = len(result.items)
    info = {
        "page": page,
        "per_page": per_page,
        "count": len(chosen),
        "total_count": total,
        "total_pages": -(-total // per_page),
    }
    return {**answer, "result": chosen, "result_info": info}


def number(query: Mapping[str, str], name: str, default: int) -> int:
    """A positive whole number of the query."""
    text = query.get(name, str(default))
    if not re.fullmatch(r"[1-9]\d{0,6}(\.0)?", text):
        raise ApiError(400, 1004, f"Invalid {name}")
    return int(float(text))


def now() -> str:
    """This moment in the API's form."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
