"""The secrets of a project: ``secrets/<service>.yaml``, a flat mapping of names to texts in SOPS."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ..spec import SecretSpec
from . import encrypted, sops
from .errors import SecretsError
from .setup import config_of
from .values import generate

Specs = Mapping[str, SecretSpec]
SERVICE = re.compile(r"^[a-z0-9][a-z0-9_-]*$")
Stamp = tuple[int, int, int]


class Store:
    """Reads and fills the secrets of one folder. What was decrypted is kept for this process only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cache: dict[str, tuple[Stamp, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def path(self, service: str) -> Path:
        """The file of a service."""
        if not SERVICE.match(service):
            raise SecretsError(f"{service!r} is not the name of a service")
        return self.folder / f"{service}.yaml"

    def services(self) -> list[str]:
        """Services that have a file."""
        if not self.folder.is_dir():
            return []
        return sorted(path.stem for path in self.folder.glob("*.yaml") if not path.name.startswith("."))

    def load(self, service: str) -> dict[str, str]:
        """The secrets of a service: name to value; {} without a file. Empty values count as not given.

        Raises SecretsError naming the file: no key, wrong key, changed by hand, not YAML, not flat.
        """
        path = self.path(service)
        stamp = _stamp(path)
        if stamp is None:
            return {}
        known = self._cache.get(service)
        if known is None or known[0] != stamp:
            known = (stamp, _decrypted(path))
            self._cache[service] = known
        return dict(known[1])

    def load_all(self, services: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
        """The secrets of several services (default: all that have a file), decrypted side by side."""
        names = list(self.services() if services is None else services)
        with ThreadPoolExecutor(max_workers=max(2, min(8, os.cpu_count() or 2))) as pool:
            return dict(zip(names, pool.map(self.load, names), strict=True))

    def ensure(self, service: str, specs: Specs) -> list[str]:
        """Make the random secrets that a service lacks; returns their names. No existing value is touched."""
        wanted = {
            name: spec.generate
            for name, spec in specs.items()
            if spec.generate != "none" and not spec.optional
        }
        if all(name in self.load(service) for name in wanted):
            return []
        with self._exclusive():
            known = self.load(service)
            made = {name: generate(kind) for name, kind in wanted.items() if name not in known}
            self._add(service, made)
        return list(made)

    def add(self, service: str, values: Mapping[str, str]) -> list[str]:
        """Keep values that somebody else made (a provider, an import); existing names stay as they are."""
        with self._exclusive():
            known = self.load(service)
            new = {name: value for name, value in values.items() if name not in known}
            self._add(service, new)
        return list(new)

    def replace(self, service: str, values: Mapping[str, str]) -> list[str]:
        """Give existing names the values that are in use elsewhere; names whose value is the same stay untouched."""
        with self._exclusive():
            known = self.load(service)
            new = {name: value for name, value in values.items() if known.get(name, "") != value}
            self._add(service, new)
        return list(new)

    def ensure_all(self, declared: Mapping[str, Specs]) -> dict[str, list[str]]:
        """:meth:`ensure` for every service; returns only those that got something new."""
        self.load_all([service for service, specs in declared.items() if specs])
        made = {service: self.ensure(service, specs) for service, specs in declared.items()}
        return {service: names for service, names in made.items() if names}

    def edit(self, service: str, specs: Specs | None = None) -> bool:
        """Open the owner's editor on a service's secrets; False when nothing was changed.

        The file starts with generated values and an empty line for each secret only the owner knows.
        """
        specs = specs or {}
        self.ensure(service, specs)
        path = self.path(service)
        before = path.read_bytes() if path.exists() else None
        self._offer(path, service, specs)
        changed = False
        try:
            changed = sops.edit(path, config_of(self.folder))
        finally:
            if not changed:
                self._put_back(path, before)
        self.load(service)
        return changed

    def _offer(self, path: Path, service: str, specs: Specs) -> None:
        """Put an empty line for each missing secret into the file, so that the editor shows its name."""
        if not path.exists():
            self._write(path, sops.encrypt(path, _blank(specs).encode(), config_of(self.folder), "yaml"))
            return
        known = self.load(service)
        missing = [name for name, spec in specs.items() if spec.generate == "none" and name not in known]
        if missing:
            self._extend(path, dict.fromkeys(missing, ""))

    def _put_back(self, path: Path, before: bytes | None) -> None:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            self._write(path, before)

    def _add(self, service: str, values: Mapping[str, str]) -> None:
        path = self.path(service)
        for name in values:
            if not encrypted.NAME.match(name) or name == "sops" or name.endswith("_unencrypted"):
                raise SecretsError(f"{path}: {name!r} cannot be the name of a secret")
        if not values:
            return
        if path.exists():
            self._extend(path, values)
        else:
            self._write(path, sops.encrypt(path, json.dumps(dict(values)).encode(), config_of(self.folder)))
        self._cache.pop(service, None)

    def _extend(self, path: Path, values: Mapping[str, str]) -> None:
        """Add to a copy and rename it: the owner's comments and the other ciphertexts stay as they are."""
        with _sibling(path) as copy:
            copy.write_bytes(path.read_bytes())
            for name, value in values.items():
                sops.set_value(copy, name, json.dumps(value).encode())
            _publish(copy, path)

    def _write(self, path: Path, content: bytes) -> None:
        with _sibling(path) as copy:
            copy.write_bytes(content)
            _publish(copy, path)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One writer at a time, in this process and among others on this machine."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with self._lock:
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                # Not left to close(): under gevent a forked sops may hold a copy of the descriptor for a while.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)


def _stamp(path: Path) -> Stamp | None:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SecretsError(f"{path}: cannot be read: {error.strerror}") from error
    return (state.st_ino, state.st_mtime_ns, state.st_size)


def _decrypted(path: Path) -> dict[str, str]:
    found = encrypted.faults(path)
    if found:
        raise SecretsError("\n".join(str(fault) for fault in found))
    values: dict[str, str | None] = json.loads(sops.decrypt(path))
    return {name: value for name, value in values.items() if value}


def _blank(specs: Specs) -> str:
    """A first file for the editor: every secret only the owner knows, with the reason above it."""
    lines = ['# NAME: "value" in quotes, one a line. Saved encrypted.']
    for name, spec in specs.items():
        if spec.generate == "none":
            why = " ".join((spec.why or "").split())
            lines += [f"# {why or name}{' (optional)' if spec.optional else ''}", f'{name}: ""']
    return "\n".join(lines) + ("\n" if len(lines) > 1 else "\n{}\n")


@contextmanager
def _sibling(path: Path) -> Iterator[Path]:
    """A new file beside ``path``, for a rename; removed if it still is there at the end."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".yaml", dir=path.parent)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _publish(copy: Path, path: Path) -> None:
    copy.chmod(0o644)
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(copy, path)
