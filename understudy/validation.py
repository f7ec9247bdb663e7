"""Turns the schema library's errors into faults with file, line and key."""

from __future__ import annotations

from pydantic import ValidationError

from .faults import Fault
from .yamlfile import KeyPath, YamlFile, dotted


def faults_of(error: ValidationError, source: YamlFile, prefix: KeyPath = ()) -> list[Fault]:
    """One fault for each wrong key; ``prefix`` is where the block stands in its file."""
    return [_fault(dict(item), source, prefix) for item in error.errors()]


def _fault(item: dict[str, object], source: YamlFile, prefix: KeyPath) -> Fault:
    location = item["loc"]
    assert isinstance(location, tuple)
    key: KeyPath = tuple(part for part in location if not str(part).startswith("function-"))
    if item["type"] == "extra_forbidden":
        message, fix = "is not a key Understudy knows", "see docs/services.md for the keys"
    else:
        message, fix = str(item["msg"]).removeprefix("Value error, "), ""
    return Fault("error", source.path, source.line((*prefix, *key)), dotted(key), message, fix)
