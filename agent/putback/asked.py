"""What a restore is asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..errors import AgentError
from ..root import checked

__all__ = ["Asked", "parse"]


@dataclass(frozen=True)
class Asked:
    """The request; agent/restore.py says what each key means."""

    services: tuple[str, ...] = ()
    repository: str = ""
    snapshot: str = ""
    time: float | None = None
    to: str = ""
    paths: tuple[str, ...] = ()
    dry_run: bool = False
    in_place: bool = False
    keep_old_days: float = 30.0
    allow_version: bool = False
    allow_special: bool = False
    confirm_loss: bool = False
    lock_wait: float = 600.0
    timeout: float = 86400.0
    reason: str = ""


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "tuple[str, ...]": (list, tuple),
}


def parse(values: dict[str, Any]) -> Asked:
    """The request from its JSON form. Raises AgentError kind "bad-request"."""
    known = {field.name: str(field.type) for field in fields(Asked)}
    for key, value in values.items():
        if key not in known:
            raise AgentError(f"a restore knows no {key!r}: {', '.join(known)}", "bad-request")
        if not isinstance(value, _TYPES[known[key]]):
            raise AgentError(f"{key} of a restore is {value!r}, which does not fit", "bad-request")
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    asked = Asked(**given)
    _refuse(asked)
    return asked


def _refuse(asked: Asked) -> None:
    if asked.to:
        checked(asked.to)
    if asked.paths and not asked.to:
        raise AgentError("single paths are restored to a folder: give 'to' as well", "bad-request")
    if asked.in_place and asked.to:
        raise AgentError("in_place and to contradict each other", "bad-request")
    if asked.snapshot and asked.time is not None:
        raise AgentError("give a snapshot or a time, not both", "bad-request")
    if asked.keep_old_days < 0:
        raise AgentError("keep_old_days is negative", "bad-request")
