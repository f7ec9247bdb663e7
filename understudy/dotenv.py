"""The ``.env`` file of a Compose project: one quoted assignment a line."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .compose_text import interpolate

HEADER = "# Written by Understudy: values come from group_data and secrets/.\n"


def render(values: Mapping[str, str]) -> str:
    """Assignments in the order of their names; values survive quotes, dollars and line breaks."""
    return HEADER + "".join(f"{name}={quote(values[name])}\n" for name in sorted(values))


def quote(value: str) -> str:
    """Single quotes keep everything literal; a value that holds one itself is escaped in double quotes."""
    if "'" not in value and "\n" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", "\\n")
    return f'"{escaped}"'


ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*[=:]\s?(.*)", re.DOTALL)


def parse(text: str) -> dict[str, str]:
    """What Compose reads from such a file: quotes, escapes, comments, ``export``, values over several lines."""
    values: dict[str, str] = {}
    lines = iter(text.replace("\r\n", "\n").split("\n"))
    for line in lines:
        match = None if line.lstrip().startswith("#") else ASSIGNMENT.fullmatch(line)
        if match is None:
            continue
        name, rest = match[1], match[2].lstrip()
        if rest[:1] in ("'", '"'):
            while _end(rest) < 0 and (more := next(lines, None)) is not None:
                rest += f"\n{more}"
            values[name] = _quoted(rest, values)
        else:
            values[name] = interpolate(
                re.split(r"\s+#", rest)[0].strip() if not rest.startswith("#") else "", values
            )
    return values


def _end(text: str) -> int:
    """Where the opening quote is closed, -1 when it is not."""
    at = 1
    while at < len(text):
        if text[0] == '"' and text[at] == "\\":
            at += 1
        elif text[at] == text[0]:
            return at
        at += 1
    return -1


def _quoted(text: str, values: Mapping[str, str]) -> str:
    end = _end(text)
    inner = text[1:end] if end > 0 else text[1:]
    if text[0] == "'":
        return inner
    escapes = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$$"}
    plain = re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[0]), inner)
    return str(interpolate(plain, values))
