"""What the emulated clouds share: what they hold, kept in one file, and the faults that tests switch on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from lab.storage.place import write_private


class Kept:
    """``data``: a JSON object in a private file, so that it survives a restart."""

    def __init__(self, file: Path, first: Callable[[], dict[str, Any]], kinds: tuple[str, ...]) -> None:
        self.file = file
        self.lock = threading.RLock()
        self.data: dict[str, Any] = json.loads(file.read_text()) if file.exists() else first()
        for kind in kinds:
            self.data.setdefault(kind, {})
        self.save()

    def save(self) -> None:
        write_private(self.file, json.dumps(self.data, indent=1))

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """A transaction: what is done inside is kept whole, or not at all when it raises."""
        with self.lock:
            kept = self.data
            self.data = deepcopy(kept)
            try:
                yield self.data
            except BaseException:
                self.data = kept
                raise
            self.save()
            self.changed(kept)

    def changed(self, before: dict[str, Any]) -> None:
        """A change was kept; for those who have somebody to tell."""


class AnyFault(Protocol):
    """Which requests a fault meets: ``method`` and a part of ``path``, ``times`` (0: no end) after ``skip``."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def times(self) -> int: ...
    @property
    def skip(self) -> int: ...


F = TypeVar("F", bound=AnyFault)


@dataclass
class Faults(Generic[F]):
    """The faults of one kind that are on, and how often each has acted; the first that fits a request acts."""

    kind: type[F]
    faults: list[F] = field(default_factory=list)
    acted: list[int] = field(default_factory=list)
    fitted: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, faults: list[dict[str, Any]]) -> None:
        with self.lock:
            self.faults = [self.kind(**fault) for fault in faults]
            self.acted, self.fitted = [0] * len(faults), [0] * len(faults)

    def for_call(self, method: str, path: str, fits: Callable[[F], bool] = lambda fault: True) -> F | None:
        """The fault this request meets, counted; ``fits`` says what else it depends on."""
        with self.lock:
            for number, fault in enumerate(self.faults):
                if (fault.method and fault.method != method) or fault.path not in path or not fits(fault):
                    continue
                self.fitted[number] += 1
                if self.fitted[number] <= fault.skip or 0 < fault.times <= self.acted[number]:
                    continue
                self.acted[number] += 1
                return fault
        return None

    def as_rows(self) -> list[dict[str, Any]]:
        with self.lock:
            pairs = list(zip(self.faults, self.acted, strict=True))
        return [{**asdict(fault), "acted": acted} for fault, acted in pairs]
