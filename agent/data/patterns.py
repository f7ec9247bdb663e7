"""Globs of the plan, once as regular expressions for our own walk and once in restic's spelling.

``*`` and ``?`` stay inside one path component, ``**`` spans any number of them; a match on a folder takes all below it.
"""

from __future__ import annotations

import re

__all__ = ["any_of", "escaped", "line", "matches"]

_MAGIC = re.compile(r"([\\*?\[])")


def any_of(wanted: list[str]) -> re.Pattern[str] | None:
    """One expression for many patterns, to be matched in full against a relative path with "/" at its end."""
    return (
        re.compile("|".join(_expression(pattern.strip("/")) for pattern in wanted), re.DOTALL)
        if wanted
        else None
    )


def _expression(pattern: str) -> str:
    pattern = re.sub(r"/\*\*$", "/*", pattern)
    parts = [
        r"(?:[^/]+/)*" if part == "**" else _component(part) + "/" for part in pattern.split("/") if part
    ]
    return "".join(parts)


def _component(part: str) -> str:
    out, rest = "", part
    while rest:
        char, rest = rest[0], rest[1:]
        end = rest.find("]", 1)
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and end > 0:
            inner = rest[:end].replace("\\", "\\\\")
            out += f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]"
            rest = rest[end + 1 :]
        elif char == "\\" and rest:
            out, rest = out + re.escape(rest[0]), rest[1:]
        else:
            out += re.escape(char)
    return out


def matches(pattern: str, path: str) -> bool:
    """Whether a relative path is what the pattern names (what lies below it is not asked)."""
    expression = any_of([pattern])
    return expression is not None and expression.fullmatch(path.strip("/") + "/") is not None


def escaped(path: str) -> str:
    """A path as a pattern that matches it alone."""
    return _MAGIC.sub(r"\\\1", path)


def line(pattern: str) -> str:
    """A pattern as a line of restic's exclude file: it expands ``$`` and trims blanks there, and knows no line feeds."""
    text = re.sub(r"/\*\*$", "/*", pattern).replace("$", "$$").replace("\n", "?").replace("\r", "?")
    stripped = text.rstrip()
    return stripped + "?" * (len(text) - len(stripped))
