"""Which move groups the guard lets run in this boot. Travels with each converge, so that it starts nothing else.

``/run/understudy/may/GROUP`` holds the reason; ``may/any`` is there while any group may run. Units ask for these files
with ExecCondition=, so that a boot starts nothing before the guard has looked.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress

from .root import RUN, Root

__all__ = ["FOUND", "GRANTED", "GUARD_PLAN", "MAY", "allow", "allowed", "forbid", "note", "seen", "waits"]

MAY = f"{RUN}/may"
GRANTED = "granted"
"""The reason while a group stands behind its fence because the control machine asked for it."""
FOUND = "it ran when the guard came"
GUARD_PLAN = "/etc/understudy/owner.json"


def seen(root: Root) -> dict[str, str] | None:
    """Group to why it may run; None on a host without a guard."""
    if not os.path.exists(root.at(GUARD_PLAN)):
        return None
    folder = root.at(MAY)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return {name: allowed(root, name) for name in sorted(names) if name != "any" and "." not in name}


def waits(root: Root, service: str) -> bool:
    """Whether only the guard may start a service, and it does not let its group run now."""
    try:
        with open(root.at(GUARD_PLAN), encoding="utf-8") as stream:
            known = json.load(stream)["services"].get(service)
    except FileNotFoundError:
        return False
    return known is not None and allowed(root, known["group"]) in ("", GRANTED)


def allowed(root: Root, group: str) -> str:
    """Why the guard lets the group run now ("named", "offline", ...), or "" while it does not."""
    try:
        with open(root.at(f"{MAY}/{group}"), encoding="utf-8") as stream:
            return stream.read().strip() or "named"
    except FileNotFoundError:
        return ""


def allow(root: Root, group: str, why: str) -> None:
    """Let the group's units and containers start."""
    note(root.at(f"{MAY}/{group}"), why)
    note(root.at(f"{MAY}/any"), group)


def forbid(root: Root, group: str) -> None:
    """No start of the group from here on."""
    with suppress(FileNotFoundError):
        os.unlink(root.at(f"{MAY}/{group}"))
    if not seen(root):
        with suppress(FileNotFoundError):
            os.unlink(root.at(f"{MAY}/any"))


def note(path: str, text: str) -> None:
    """A small file in memory (real path), whole or not at all."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temp = f"{path}.{os.getpid()}"
    with open(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as stream:
        stream.write(text)
    os.rename(temp, path)
