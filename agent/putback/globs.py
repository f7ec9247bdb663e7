"""Whether a walk has to enter a folder to find what a pattern names (agent/data/patterns.py has the rest)."""

from __future__ import annotations

from ..data.patterns import matches

__all__ = ["reaches"]


def reaches(pattern: str, folder: str) -> bool:
    """Whether something below this relative folder could match."""
    parts, way = pattern.strip("/").split("/"), folder.split("/")
    for count, name in enumerate(way):
        if count >= len(parts):
            return False
        if parts[count] == "**":
            return True
        if not matches(parts[count], name):
            return False
    return len(parts) > len(way)
