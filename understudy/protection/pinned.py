"""A restic of ours on hosts whose distribution has an older one than 0.17: fetched here, checked, sent like any other file.

The control machine fetches it, so the host needs no way out and the digest is checked before anything is sent. What was
fetched is kept in the user's cache folder and checked again at each use.
"""

from __future__ import annotations

import bz2
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..agent.repo.restic import OWN
from ..desired import Desired, Validator
from ..errors import UnderstudyError
from ..tree import Entry
from .policy import Fetched, Policy

__all__ = ["OWN", "Program", "add", "content", "wanted"]

PROGRAMS = Path(__file__).resolve().parent.parent / "programs.yaml"
_ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
}
_TIMEOUT = 60.0
_MOST = 200 << 20


@dataclass(frozen=True)
class Program:
    """Where a program is fetched from, and the SHA-256 of the file there (.bz2, or the program itself)."""

    url: str
    sha256: str


def wanted(policy: Policy, platform: Mapping[str, Any], machine: str) -> Program | None:
    """The restic that a host is sent; None where it has its own, or the policy names one on the host.

    ``platform``: an entry of platforms.yaml; ``machine``: `uname -m`. Raises UnderstudyError for an unknown machine.
    """
    if isinstance(policy.restic, Fetched):
        return Program(policy.restic.url, policy.restic.sha256)
    if policy.restic or platform.get("restic") != "too old":
        return None
    known, arch = _known(), _ARCHITECTURES.get(machine, machine)
    if arch not in known["sha256"]:
        raise UnderstudyError(
            f"{platform['name']} has a restic older than 0.17, and there is none for {machine or 'an unknown machine'} in "
            f"{PROGRAMS.name}: give `restic: {{url, sha256}}` in the backup policy"
        )
    return Program(known["url"].format(version=known["version"], arch=arch), known["sha256"][arch])


@cache
def _known() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(PROGRAMS.read_text(encoding="utf-8"))["restic"]
    return found


def add(result: Desired, platform: Mapping[str, Any], machine: str) -> None:
    """Put the program into the tree of a host that needs it, in place of the distribution's package."""
    program = wanted(result.settings.backup, platform, machine)
    if program is None:
        return
    result.tree.add(Entry(OWN, mode=0o755, content=content(program)))
    result.packages = [name for name in result.packages if name != "restic"]
    result.validators.append(Validator("restic version", (f"{{stage}}{OWN}", "version"), (OWN,)))


@cache
def content(program: Program) -> bytes:
    """The program itself. Raises UnderstudyError when it cannot be had, or is not what its digest says."""
    kept = _cache() / program.sha256
    data = kept.read_bytes() if kept.is_file() else b""
    if _digest(data) != program.sha256:
        data = _fetch(program, kept)
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(data)
        unfinished.replace(kept)
    return bz2.decompress(data) if data[:3] == b"BZh" else data


def _fetch(program: Program, kept: Path) -> bytes:
    by_hand = f"fetch it elsewhere and put it at {kept}"
    try:
        with urllib.request.urlopen(program.url, timeout=_TIMEOUT) as answer:  # noqa: S310 - policy.py takes http only
            data: bytes = answer.read(_MOST)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise UnderstudyError(f"{program.url} cannot be fetched ({why}): {by_hand}") from error
    found = _digest(data)
    if found != program.sha256:
        raise UnderstudyError(
            f"{program.url} is not what was expected: its SHA-256 is {found}, not {program.sha256}; nothing of it is used"
        )
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "understudy" / "programs"
