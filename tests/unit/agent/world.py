"""A scratch host for the agent's tests: a file tree under a temporary root, requests for it, and snapshots of it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import signal
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from understudy.agent import apply
from understudy.agent.errors import AgentError
from understudy.agent.root import Root

STATE = "/var/lib/understudy"
ME = (os.geteuid(), os.getegid())


@dataclass(frozen=True)
class Want:
    """How a path should become. ``content`` None: a directory unless there is a target."""

    content: bytes | None = None
    mode: int = 0o644
    target: str = ""
    reaction: str = ""
    secret: bool = False
    owner: tuple[int, int] = ME

    @property
    def kind(self) -> str:
        return "link" if self.target else "dir" if self.content is None else "file"

    @property
    def sha256(self) -> str:
        body = self.target.encode() if self.target else self.content
        return "" if body is None else hashlib.sha256(body).hexdigest()


Tree = dict[str, Want]
Snapshot = dict[str, tuple[Any, ...]]


def folder(mode: int = 0o755, reaction: str = "") -> Want:
    return Want(None, mode, reaction=reaction)


def to(target: str, reaction: str = "") -> Want:
    return Want(None, 0, target, reaction)


def archive(contents: dict[int, bytes]) -> str:
    """A gzipped tar in base64, members named by index."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for index, content in contents.items():
            member = tarfile.TarInfo(str(index))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def request(tree: Tree, release: str = "r1", delete: Tree | None = None, **more: Any) -> dict[str, Any]:
    """An apply request that makes everything in ``tree`` so and deletes what ``delete`` describes."""
    entries = [
        {
            "index": index, "path": path, "kind": want.kind, "mode": want.mode, "user": want.owner[0],
            "group": want.owner[1], "sha256": want.sha256, "target": want.target, "secret": want.secret,
            "service": "x", "reaction": want.reaction,
        }
        for index, (path, want) in enumerate(tree.items())
    ]  # fmt: skip
    contents = {index: want.content for index, want in enumerate(tree.values()) if want.content is not None}
    gone = [{"path": path, "sha256": want.sha256} for path, want in (delete or {}).items()]
    return {
        "release": release, "entries": entries, "archive": archive(contents), "delete": gone, "expect": {},
        "manifest": manifest(tree), "validators": [], "context": [], "lock_wait": 2, **more,
    }  # fmt: skip


def manifest(tree: Tree) -> dict[str, Any]:
    return {"version": 1, "entries": {path: {"kind": w.kind, "sha256": w.sha256} for path, w in tree.items()}}


@dataclass
class World:
    """One scratch host."""

    base: Path
    root: Root = field(init=False)

    def __post_init__(self) -> None:
        self.base.mkdir(parents=True, exist_ok=True)
        self.root = Root(str(self.base))

    def at(self, path: str) -> Path:
        return Path(self.root.at(path))

    def write(self, path: str, content: bytes | str, mode: int = 0o644) -> Path:
        place = self.at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)
        return place

    def apply(
        self, tree: Tree, release: str = "r1", delete: Tree | None = None, **more: Any
    ) -> dict[str, Any]:
        return apply.run(request(tree, release, delete, **more), self.root)

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.at(f"{STATE}/manifest.json").read_text())
        return found

    def pending(self) -> set[str]:
        place = self.at(f"{STATE}/pending")
        return {name for name in os.listdir(place) if not name.startswith(".")} if place.is_dir() else set()

    def snapshot(self) -> Snapshot:
        """Everything on the host but times, saved generations, marker tokens and the lock file."""
        found = {}
        for top, folders, files in os.walk(self.base):
            for name in (*folders, *files):
                place = Path(top, name)
                path = "/" + str(place.relative_to(self.base))
                if not path.startswith((f"{STATE}/previous", "/run")):
                    found[path] = _seen(place, hide=path.startswith(f"{STATE}/pending/"))
        return found

    def live(self) -> Snapshot:
        """The snapshot without the agent's own state."""
        return {path: seen for path, seen in self.snapshot().items() if not path.startswith("/var")}


def refused(world: World, *arguments: Any, **more: Any) -> AgentError:
    """Apply something that must be refused without changing anything."""
    before = world.live()
    with pytest.raises(AgentError) as caught:
        world.apply(*arguments, **more)
    assert world.live() == before
    assert not world.at(f"{STATE}/journal.json").exists()
    assert not world.at(f"{STATE}/staging").exists()
    return caught.value


def _seen(place: Path, hide: bool) -> tuple[Any, ...]:
    info = place.lstat()
    if stat.S_ISLNK(info.st_mode):
        return "link", os.readlink(place)
    rights = (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
    if stat.S_ISREG(info.st_mode):
        return "file", *rights, b"" if hide else place.read_bytes()
    return "dir" if stat.S_ISDIR(info.st_mode) else "other", *rights, None


def killed_at(point: int, job: Callable[[Callable[[str], None]], object]) -> bool:
    """Run ``job(checkpoint)`` in a child that kills itself (SIGKILL) at the given checkpoint; True if it got there."""
    child = os.fork()
    if child == 0:
        left = [point]

        def checkpoint(done: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            job(checkpoint)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
