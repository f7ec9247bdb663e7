"""PostgreSQL's custom dump format, as far as we must know it, and the text of a globals dump."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["GLOBALS_END", "Header", "Role", "header", "roles", "same_globals"]

MAGIC = b"PGDMP"
GLOBALS_END = "-- PostgreSQL database cluster dump complete"
_MOMENT = 7  # numbers of the creation time: second, minute, hour, day, month, year, summer time


@dataclass(frozen=True)
class Header:
    """``version``: of the archive format, (1, 16, 0). ``moment``: the byte range (from, to) of its creation time."""

    version: tuple[int, int, int]
    compressed: bool
    moment: tuple[int, int]


def header(start: bytes) -> Header:
    """Read the first bytes (64 are enough) of a dump. Raises ValueError when it is no custom-format dump."""
    if len(start) < 60 or start[:5] != MAGIC:
        raise ValueError("it does not begin as a dump of PostgreSQL does" if start else "it is empty")
    version = (start[5], start[6], start[7])
    size, kind = start[8], start[10]
    if kind != 1 or not (1, 12, 0) <= version < (2, 0, 0) or size not in (4, 8):
        raise ValueError(f"the dump format {'.'.join(map(str, version))} is not known")
    # Since 1.15 one byte names the compression; before it was a number like the others: a sign and ``size`` bytes.
    width = 1 if version >= (1, 15, 0) else 1 + size
    level = start[11 : 11 + width]
    compressed = any(level[-width:] if width == 1 else level[1:])
    begin = 11 + width
    return Header(version, compressed, (begin, begin + _MOMENT * (1 + size)))


@dataclass
class Role:
    """What a globals dump says of one role; statements are complete and safe to run where the role is missing."""

    name: str
    statements: list[str] = field(default_factory=list)


_NAME = r'("(?:[^"]|"")+"|[^\s";]+)'
_ROLE = re.compile(rf"(?:CREATE ROLE|ALTER ROLE|COMMENT ON ROLE) {_NAME}[ ;]")
_GRANT = re.compile(rf"GRANT {_NAME} TO {_NAME}[ ;]")


def roles(text: str) -> dict[str, Role]:
    """Role name to what makes it; a membership stands with both its roles. Other statements are left out."""
    found: dict[str, Role] = {}
    for statement in _statements(text):
        about = _ROLE.match(statement) or _GRANT.match(statement)
        if about is None:
            continue
        names = [_plain(name) for name in about.groups()]
        if statement.startswith("CREATE ROLE"):
            found[names[0]] = Role(names[0])
        for name in names:
            if name in found:
                found[name].statements.append(_portable(statement))
    return found


def _portable(statement: str) -> str:
    """A membership without its grantor, who may be another one here."""
    if not statement.startswith("GRANT"):
        return statement
    return re.sub(rf"( WITH [A-Z ,]+)? GRANTED BY {_NAME};$", lambda m: f"{m[1] or ''};", statement)


def _statements(text: str) -> Iterator[str]:
    """SQL statements, comments and psql's own commands left out. A ``;`` inside quotes ends none."""
    current = ""
    for line in text.splitlines():
        if not current and (not line.strip() or line.startswith(("--", "\\"))):
            continue
        current += ("\n" if current else "") + line
        if line.endswith(";") and _closed(current):
            yield current
            current = ""


def _closed(statement: str) -> bool:
    return statement.count("'") % 2 == 0 and statement.count('"') % 2 == 0


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def same_globals(one: str, other: str) -> bool:
    """Whether two globals dumps say the same; older clients put a random word into two lines."""
    return _steady(one) == _steady(other)


def _steady(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return [line for line in stream if not line.startswith(("\\restrict ", "\\unrestrict "))]
