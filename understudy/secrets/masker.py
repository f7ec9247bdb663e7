"""Replaces secret values by their names in any text that is shown."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus

SHORTEST = 4
# Single angle quotation marks: seldom in configuration, so a masked place is easily seen.
OPEN, CLOSE = "\u2039", "\u203a"


class Masker:
    """Knows the values to hide: ``values`` maps each value to the name that is shown instead.

    A value is also found as base64, JSON, URL, HTML and shell text, and a value of several lines line by
    line. Values shorter than 4 characters are left: they would hide half of every text.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._pattern, self._names = _compiled(tuple(sorted(values.items())))

    def __repr__(self) -> str:
        return f"Masker({len(set(self._names.values()))} names)"

    def mask(self, text: str) -> str:
        """``text`` without any known value."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"{OPEN}{self._names[found[0]]}{CLOSE}", text)


@lru_cache(maxsize=4)
def _compiled(values: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str] | None, dict[str, str]]:
    names: dict[str, str] = {}
    for value, name in values:
        for form in _forms(value):
            if len(form) >= SHORTEST:
                names.setdefault(form, name)
    if not names:
        return None, {}
    # Longest first, so that a value inside another one never leaves the rest of it readable.
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))), names


def _forms(value: str) -> Iterator[str]:
    if len(value) < SHORTEST:
        return
    yield from _spellings(value)
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1 or value != value.strip():
        for line in lines:
            if len(line) >= SHORTEST and any(character.isalnum() for character in line):
                yield from _spellings(line)


def _spellings(value: str) -> Iterator[str]:
    yield value
    raw = value.encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for body in (raw, raw + b"\n"):
            encoded = encode(body).decode()
            yield encoded
            yield encoded.rstrip("=")
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield from (quote(value, safe=""), quote(value), quote_plus(value))
    yield html.escape(value)
    yield value.replace("'", "'\"'\"'")
    yield value.replace("'", "''")
    yield value.replace("$", "$$")
    yield value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", "\\n")
