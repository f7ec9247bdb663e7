"""Faults in a description: each names file, line and key, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import BadInput

Grade = Literal["error", "warning"]


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a description. ``line`` counts from 1; 0 means the whole file."""

    grade: Grade
    file: Path
    line: int
    key: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else str(self.file)
        key = f" {self.key}:" if self.key else ""
        fix = f" → {self.fix}" if self.fix else ""
        return f"{where}:{key} {self.message}{fix}"


class CatalogError(BadInput):
    """The description has errors; nothing was contacted."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))
