"""Where the host's file system begins: "/" on a host, a scratch folder in tests."""

from __future__ import annotations

import grp
import os
import pwd
import re
from dataclasses import dataclass

from .errors import AgentError

__all__ = [
    "CACHE",
    "JOURNAL",
    "MANIFEST",
    "PENDING",
    "PREVIOUS",
    "RUN",
    "STAGING",
    "STATE",
    "Root",
    "checked",
]

STATE = "/var/lib/understudy"
RUN = "/run/understudy"
MANIFEST = f"{STATE}/manifest.json"
JOURNAL = f"{STATE}/journal.json"
STAGING = f"{STATE}/staging"
PREVIOUS = f"{STATE}/previous"
PENDING = f"{STATE}/pending"
CACHE = f"{STATE}/cache"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def checked(path: object) -> str:
    """The path itself, if it is absolute, normal and printable; no ``..`` gets past this point."""
    if not isinstance(path, str) or not path.startswith("/") or path.startswith("//"):
        raise AgentError(f"{path!r} is not an absolute path", "bad-request")
    if path == "/" or os.path.normpath(path) != path or _CONTROL.search(path):
        raise AgentError(
            f"{path!r} is not a plain path: no '..', no '//', no control characters", "bad-request"
        )
    return path


@dataclass(frozen=True)
class Root:
    """The folder that stands for "/". Every path in requests, journals and replies is a host path."""

    base: str = "/"

    def at(self, path: str) -> str:
        """Where a host path really is on this machine."""
        return path if self.base == "/" else self.base.rstrip("/") + path

    @property
    def may_own(self) -> bool:
        """Whether files can be given to other users; a scratch root without privilege keeps its own user."""
        return self.base == "/" or os.geteuid() == 0

    def owner(self, user: str | int, group: str | int) -> tuple[int, int]:
        """Numeric owner for names or numbers; an unknown name is an error, not root."""
        if not self.may_own:
            return os.geteuid(), os.getegid()
        return _user(user), _group(group)


def _user(user: str | int) -> int:
    if isinstance(user, int):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise AgentError(f"this host has no user {user!r}") from None


def _group(group: str | int) -> int:
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise AgentError(f"this host has no group {group!r}") from None
