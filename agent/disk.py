"""Every change to the file system goes through here: durable, private by default, interruptible for tests.

``checkpoint`` is told what was just done ("write /etc/x"); a test kills the process from it, at any point.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable

from .root import STATE, Root

__all__ = ["Disk"]

_UNFINISHED = ".new"


class Disk:
    """Writes below one root. Paths are host paths; files reach the disk (fsync) before a method returns."""

    def __init__(
        self, root: Root, checkpoint: Callable[[str], None] | None = None, chunk: int = 1 << 20
    ) -> None:
        self.root = root
        self.checkpoint = checkpoint or (lambda done: None)
        self.chunk = chunk

    def make_dir(self, path: str, mode: int, uid: int, gid: int) -> None:
        """A new directory that nobody else can enter before owner and mode are right."""
        os.mkdir(self.root.at(path), 0o700)
        self.checkpoint(f"mkdir {path}")
        self.set_meta(path, mode, uid, gid)

    def private_dir(self, path: str) -> None:
        """One of our own directories (0700; created with its parents, tightened if it exists)."""
        real = self.root.at(path)
        if path.startswith(f"{STATE}/"):
            self.private_dir(os.path.dirname(path))
        else:
            os.makedirs(os.path.dirname(real), mode=0o755, exist_ok=True)
        if not os.path.isdir(real):
            # Services are dumped side by side: another thread may make a shared parent at this moment.
            with contextlib.suppress(FileExistsError):
                os.mkdir(real, 0o700)
                self.checkpoint(f"mkdir {path}")
        if stat.S_IMODE(os.lstat(real).st_mode) & 0o077:
            os.chmod(real, 0o700)

    def set_meta(self, path: str, mode: int, uid: int, gid: int) -> None:
        """Owner first: a change of owner drops setuid and setgid."""
        os.chown(self.root.at(path), uid, gid, follow_symlinks=False)
        self.checkpoint(f"chown {path}")
        os.chmod(self.root.at(path), mode)
        self.checkpoint(f"chmod {path}")

    def create(
        self, path: str, content: Iterable[bytes], mode: int, uid: int, gid: int, durable: bool = True
    ) -> None:
        """A new file; owner and mode are final before its first byte. Replaces a leftover of ours."""
        self.unlink(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.root.at(path), flags, 0o600)
        self.checkpoint(f"create {path}")
        with open(descriptor, "wb", buffering=0) as stream:
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
            for piece in content:
                self._write(path, descriptor, piece)
            if durable:
                os.fsync(stream.fileno())
        self.checkpoint(f"fsync {path}")

    def _write(self, path: str, descriptor: int, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view[: self.chunk]) :]
            self.checkpoint(f"write {path}")

    def copy(self, source: str, path: str, mode: int, uid: int, gid: int, durable: bool = True) -> None:
        """Copy a regular file's content to a new file."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(self.root.at(source), flags), "rb") as stream:
            pieces = iter(lambda: stream.read(1 << 20), b"")
            self.create(path, pieces, mode, uid, gid, durable)

    def symlink(self, target: str, path: str, uid: int, gid: int) -> None:
        """A new symbolic link; its target is not looked at."""
        self.unlink(path)
        os.symlink(target, self.root.at(path))
        self.checkpoint(f"symlink {path}")
        os.chown(self.root.at(path), uid, gid, follow_symlinks=False)
        self.checkpoint(f"chown {path}")

    def rename(self, temp: str, path: str) -> None:
        """The atomic moment: readers see the old file or the new one, never less."""
        os.rename(self.root.at(temp), self.root.at(path))
        self.checkpoint(f"rename {path}")

    def unlink(self, path: str) -> None:
        """Remove a file or link; one that is not there is as wanted."""
        try:
            os.unlink(self.root.at(path))
        except FileNotFoundError:
            return
        self.checkpoint(f"unlink {path}")

    def remove_dir(self, path: str) -> bool:
        """Remove an empty directory; a directory with something in it stays, and that is the answer."""
        try:
            os.rmdir(self.root.at(path))
        except OSError:
            return not os.path.lexists(self.root.at(path))
        self.checkpoint(f"rmdir {path}")
        return True

    def sync_dirs(self, paths: Iterable[str]) -> None:
        """Make the names in these directories durable."""
        for path in sorted(set(paths)):
            descriptor = os.open(self.root.at(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self.checkpoint(f"syncdir {path}")

    def replace(self, path: str, content: bytes) -> None:
        """Write one of our own state files (0600) atomically and durably."""
        folder, name = os.path.split(path)
        temp = f"{folder}/.{name}{_UNFINISHED}"
        self.create(temp, [content], 0o600, os.geteuid(), os.getegid())
        self.rename(temp, path)
        self.sync_dirs([folder])

    def drop_unfinished(self, folder: str) -> None:
        """Remove what a kill inside ``replace`` left behind."""
        names = os.listdir(self.root.at(folder)) if os.path.isdir(self.root.at(folder)) else []
        for name in names:
            if name.startswith(".") and name.endswith(_UNFINISHED):
                self.unlink(f"{folder}/{name}")
