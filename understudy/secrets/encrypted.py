"""Looks at a secrets file without opening it: is it SOPS at all, and does anything in it stand in clear?"""

from __future__ import annotations

import re
from pathlib import Path

from ..faults import CatalogError, Fault
from ..yamlfile import YamlFile, load
from .errors import SecretsError

CIPHER = re.compile(r"^ENC\[AES256_GCM,.*,type:(?P<type>\w+)\]$", re.DOTALL)
NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
QUOTE = "put the value in quotes, otherwise YAML changes it (007 becomes 7)"


def faults(path: Path) -> list[Fault]:
    """What is wrong with one file; [] for a SOPS file with a flat mapping of texts. Needs no key."""
    try:
        source = _load(path)
    except SecretsError as error:
        return [Fault("error", path, 0, "", str(error).removeprefix(f"{path}: "))]
    data = source.data
    if not isinstance(data, dict) or not isinstance(data.get("sops"), dict) or "mac" not in data["sops"]:
        fix = "encrypt it with `sops encrypt --in-place`, and change the values: they have been in clear"
        return [Fault("error", path, 0, "", "is not a SOPS file: its secrets stand in clear", fix)]
    return [
        fault
        for name, value in data.items()
        if name != "sops"
        for fault in _value_faults(source, name, value)
    ]


def _load(path: Path) -> YamlFile:
    try:
        return load(path)
    except CatalogError as error:
        # The parser's own words may quote a line of the file.
        where = f" (line {error.faults[0].line})" if error.faults[0].line else ""
        raise SecretsError(f"{path}: is not valid YAML{where}: restore it from git") from None


def _value_faults(source: YamlFile, name: object, value: object) -> list[Fault]:
    file, line = source.path, source.line((str(name),))
    if not isinstance(name, str) or not NAME.match(name):
        return [Fault("error", file, line, str(name), "is not a secret's name (letters, digits and _)")]
    if value is None or value == "":
        return []
    if isinstance(value, dict | list):
        return [Fault("error", file, line, name, "is nested: a secrets file is a flat list of NAME: value")]
    cipher = CIPHER.match(value) if isinstance(value, str) else None
    if cipher is None:
        fix = f"take the line out, set it with `understudy secrets edit {file.stem}`, and change the value"
        return [Fault("error", file, line, name, "stands in clear in an encrypted file", fix)]
    if cipher["type"] != "str":
        return [Fault("error", file, line, name, f"is a {cipher['type']}, not a text", QUOTE)]
    return []
