"""Variables in a Compose file, replaced as Compose does: ``$A``, ``${A}``, ``${A:-other}``, nested, ``$$``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .yamlfile import Tagged

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OPERATOR = re.compile(r":?[-?+]")


def references(value: Any) -> dict[str, str | None]:
    """Every ``${VAR}`` below a value, except below ``x-`` keys: name to default, None without one."""
    found: dict[str, str | None] = {}
    if isinstance(value, Tagged):
        return references(value.value)
    if isinstance(value, dict):
        for key, child in value.items():
            if not str(key).startswith("x-"):
                found = {**references(child), **found}
    elif isinstance(value, list):
        for child in value:
            found = {**references(child), **found}
    elif isinstance(value, str) and "$" in value:
        _replace(value, {}, found)
    return found


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Replace variables; an unknown one without default stays as it is written."""
    if isinstance(value, Tagged):
        return Tagged(value.tag, interpolate(value.value, variables))
    if isinstance(value, dict):
        return {key: interpolate(child, variables) for key, child in value.items()}
    if isinstance(value, list):
        return [interpolate(child, variables) for child in value]
    if isinstance(value, str) and "$" in value:
        return _replace(value, variables, {})
    return value


def _replace(text: str, known: Mapping[str, str], found: dict[str, str | None]) -> str:
    """The text with variables replaced; ``found`` collects their names and defaults."""
    result, at = "", 0
    while (start := text.find("$", at)) >= 0:
        result += text[at:start]
        piece, at = _one(text, start, known, found)
        result += piece
    return result + text[at:]


def _one(text: str, start: int, known: Mapping[str, str], found: dict[str, str | None]) -> tuple[str, int]:
    """What stands for the ``$`` at ``start``, and where the rest begins."""
    after = text[start + 1 : start + 2]
    if after == "$":
        return "$", start + 2
    bare = NAME.match(text, start + 1)
    if bare:
        found.setdefault(bare[0], None)
        return known.get(bare[0], bare_text(text, start, bare.end())), bare.end()
    end = _closing(text, start + 1) if after == "{" else -1
    name = NAME.match(text, start + 2) if end > 0 else None
    if name is None:
        return "$", start + 1
    operator = OPERATOR.match(text, name.end())
    argument = text[operator.end() : end] if operator else ""
    sign = operator[0] if operator else ""
    if name.end() != end and not operator:
        return "$", start + 1
    default = _replace(argument, known, found) if sign.endswith(("-", "+")) else None
    found.setdefault(name[0], default)
    return _value(known.get(name[0]), sign, default or "", text[start : end + 1]), end + 1


def bare_text(text: str, start: int, end: int) -> str:
    """The variable as it is written."""
    return text[start:end]


def _closing(text: str, opening: int) -> int:
    """Where the brace at ``opening`` is closed, -1 when it never is."""
    depth = 0
    for at in range(opening, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return at
    return -1


def _value(known: str | None, sign: str, default: str, written: str) -> str:
    given = known is not None and (known != "" or not sign.startswith(":"))
    if sign.endswith("+"):
        return default if given else ""
    if given:
        return known or ""
    return default if sign.endswith("-") else written
