"""The ``.env`` file of a Compose project: one quoted assignment a line."""

from __future__ import annotations

from collections.abc import Mapping

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
