"""One change to one path, as the journal remembers it, and how far it has come."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .look import MISSING, Seen, look
from .root import Root

__all__ = ["Op", "Progress", "Step", "progress", "temp_name"]

Op = Literal["mkdir", "meta", "put", "delete", "rmdir"]
Progress = Literal["todo", "done", "foreign"]


@dataclass
class Step:
    """``old`` and ``new`` are complete observations: every step can be finished, undone or left alone.

    ``temp`` is the new file beside its target (for a delete: where an undo writes), ``saved`` the old one's
    name below previous/RELEASE.
    mkdir runs while preparing (temp files need their folder), all others while committing.
    """

    op: Op
    path: str
    old: Seen = MISSING
    new: Seen = MISSING
    temp: str = ""
    saved: str = ""
    reactions: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Step:
        return cls(**{**values, "old": Seen(**values["old"]), "new": Seen(**values["new"])})


def temp_name(release: str, path: str) -> str:
    """A name beside the target that conf.d-style readers skip (leading dot, trailing tilde)."""
    folder = path.rpartition("/")[0]
    digest = hashlib.sha256(f"{release}\0{path}".encode()).hexdigest()[:16]
    return f"{folder}/.understudy-{digest}~"


def progress(root: Root, step: Step) -> Progress:
    """Whether a committing step still waits, has happened, or somebody else changed the path meanwhile."""
    now = look(root, step.path)
    if step.op == "meta":
        # chown and chmod are two calls: between them the path is neither old nor new, its content the same.
        same = now.kind == step.new.kind and now.sha256 == step.new.sha256
        return ("done" if now == step.new else "todo") if same else "foreign"
    if now == step.new:
        return "done"
    halfway = step.old.kind == "dir" and now == MISSING
    return "todo" if now == step.old or halfway else "foreign"
