"""What can go wrong at Hetzner, switched on by tests. The first fault that fits a request acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "error",
    "html",
    "delay",
    "lost",
    "hang",
    "reset",
    "sticky",
    "twice",
    "capacity",
    "action",
    "slow",
    "impostor",
]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    ``error``: answered with ``status`` and ``code``, nothing done. ``html``: the same with a page instead of JSON.
    ``delay``: ``seconds`` pass first. ``lost``: done, and the connection breaks without an answer. ``hang``: no answer
    for ``seconds``, nothing done. ``reset``: the connection breaks at once. ``sticky``: every page of a list is its
    first. ``twice``: done twice, the second answer is given. ``capacity``: a server of ``type`` in ``location`` (empty:
    any) cannot be placed. ``action``: the actions that this request starts fail with ``code``. ``slow``: they take
    ``seconds`` longer. ``impostor``: the server does not get the host key of its user_data.
    ``method`` and ``path`` (a part of it) limit which requests; ``times`` how often (0: no end);
    ``skip`` lets so many that fit pass first.
    """

    kind: Kind
    method: str = ""
    path: str = ""
    status: int = 503
    code: str = "unavailable"
    seconds: float = 0.0
    type: str = ""
    location: str = ""
    times: int = 0
    skip: int = 0


def places(fault: Fault, method: str, path: str, body: dict[str, Any]) -> bool:
    """Whether a shortage meets this request; every other fault does."""
    if fault.kind != "capacity":
        return True
    if (method, path) != ("POST", "/servers"):
        return False
    return fault.type in ("", body.get("server_type")) and fault.location in ("", body.get("location"))
