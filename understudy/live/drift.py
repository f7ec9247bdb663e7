"""What differs between a service folder and what its host runs now. Pure but for reading the two folders."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..catalog import BLOCK_FILE
from ..secrets import Masker

FACTS = (
    "project",
    "path",
    "files",
    "profiles",
    "anonymous",
    "images",
    "variables",
    "env_files",
    "databases",
    "native",
)
"""Keys of the block that an import writes; the others are the owner's."""


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a service folder but its block, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.relative_to(folder).as_posix() not in (BLOCK_FILE, "README.md", ".env.example")
    }


def block(folder: Path) -> dict[str, Any]:
    """The block of a service folder, {} without one."""
    path = folder / BLOCK_FILE
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found if isinstance(found, dict) else {}


def differences(mine: Path, live: Path, masks: Mapping[str, str]) -> list[str]:
    """A sentence or a diff for everything that differs; nothing when the host runs what is written here."""
    return [*_files(files(mine), files(live), Masker(masks)), *_facts(block(mine), block(live))]


def _files(mine: Mapping[str, bytes], live: Mapping[str, bytes], masker: Masker) -> Iterator[str]:
    for name in sorted({*mine, *live}):
        if name not in live:
            yield f"{name} is here only"
        elif name not in mine:
            yield f"{name} is new on the host"
        elif mine[name] != live[name]:
            yield "\n".join(masker.mask(line) for line in _diff(name, mine[name], live[name]))


def _diff(name: str, mine: bytes, live: bytes) -> list[str]:
    try:
        old, new = mine.decode().splitlines(), live.decode().splitlines()
    except UnicodeDecodeError:
        return [f"{name} differs ({len(mine)} bytes here, {len(live)} on the host)"]
    return [f"{name} differs:", *difflib.unified_diff(old, new, "here", "on the host", lineterm="", n=1)]


def _facts(mine: Mapping[str, Any], live: Mapping[str, Any]) -> Iterator[str]:
    for key in FACTS:
        if mine.get(key) == live.get(key) or (key == "databases" and mine.get("apps")):
            continue  # a file that its owner has split names its databases below each application
        if key == "images":
            yield from _images(mine.get(key) or {}, live.get(key) or {})
        elif live.get(key) is not None or key in ("profiles", "anonymous"):
            yield f"{key}: {mine.get(key)!r} here, {live.get(key)!r} on the host"


def _images(mine: Mapping[str, Any], live: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*mine, *live}):
        old, new = mine.get(name) or {}, live.get(name) or {}
        if old != new:
            told = [
                f"{one.get('image', 'nothing')} {one.get('version', '')} {(one.get('digest') or one.get('id') or '')[:19]}"
                for one in (old, new)
            ]
            yield f"image of {name}: {told[0]} here, {told[1]} on the host"


def taken_over(mine: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """The block after the live side was taken: what an import knows from the host, everything else as the owner has it."""
    kept = {key: value for key, value in mine.items() if key not in FACTS or key == "databases"}
    own = {"databases"} if "databases" in mine or "apps" in mine else set()
    facts = {key: live[key] for key in FACTS if key in live and key not in own}
    secrets = {**(live.get("secrets") or {}), **(mine.get("secrets") or {})}
    named = list(dict.fromkeys([*(mine.get("secrets_env") or []), *(live.get("secrets_env") or [])]))
    whole = {**facts, **kept}
    return {**whole, **({"secrets": secrets, "secrets_env": named} if secrets else {})}
