"""Nextcloud's config.php: written as its own installer writes it, read back without PHP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .durable import write_durably

TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^'\\]|\\.)*')|(?P<number>-?\d+)|(?P<word>true|false|null|array \()|(?P<sign>=>|,|\)))"
)
WORDS = {"true": True, "false": False, "null": None}


class ConfigError(Exception):
    """The file is not one that the installer wrote."""


def read(path: Path) -> dict[str, Any]:
    """The settings of a config.php. Raises ConfigError for anything but `$CONFIG = array (...)`."""
    content = path.read_text()
    start = content.find("$CONFIG = array (")
    if not content.startswith("<?php") or start < 0:
        raise ConfigError(f"{path} does not set $CONFIG")
    value, _ = _value(content, start + len("$CONFIG = "))
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: $CONFIG is not an array")
    return value


def write(path: Path, config: dict[str, Any]) -> None:
    """Replace config.php in one step, readable by its owner and group only."""
    write_durably(path, f"<?php\n$CONFIG = {export(config)};\n".encode(), 0o640)


def export(value: Any, indent: str = "") -> str:
    """A value as PHP's var_export writes it; lists get their numbers as keys."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        inner = "".join(
            f"{indent}  {export(key)} => {export(child, indent + '  ')},\n" for key, child in value.items()
        )
        return f"array (\n{inner}{indent})"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _value(content: str, at: int) -> tuple[Any, int]:
    match = TOKEN.match(content, at)
    if not match:
        raise ConfigError(f"unexpected text in config.php: {content[at : at + 20]!r}")
    if match["string"] is not None:
        return re.sub(r"\\([\\'])", r"\1", match["string"][1:-1]), match.end()
    if match["number"]:
        return int(match["number"]), match.end()
    if match["word"] == "array (":
        return _array(content, match.end())
    if match["word"]:
        return WORDS[match["word"]], match.end()
    raise ConfigError(f"unexpected {match['sign']} in config.php")


def _array(content: str, at: int) -> tuple[Any, int]:
    found: dict[Any, Any] = {}
    while True:
        match = TOKEN.match(content, at)
        if match and match["sign"] == ")":
            numbered = bool(found) and list(found) == list(range(len(found)))
            return (list(found.values()) if numbered else found), match.end()
        key, at = _value(content, at)
        at = _sign(content, at, "=>")
        found[key], at = _value(content, at)
        at = _sign(content, at, ",")


def _sign(content: str, at: int, wanted: str) -> int:
    match = TOKEN.match(content, at)
    if not match or match["sign"] != wanted:
        raise ConfigError(f"{wanted} is missing in config.php near {content[at : at + 20]!r}")
    return match.end()
