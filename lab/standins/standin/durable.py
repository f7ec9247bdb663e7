"""Files that are on the disk when the call returns, and secrets as images take them."""

from __future__ import annotations

import os
from pathlib import Path

from .core import Place, refuse


def write_durably(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file in one step; both the content and the name survive a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    with open(unfinished, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def secret(place: Place, name: str, default: str | None = None) -> str | None:
    """``NAME`` or the content of the file that ``NAME_FILE`` names; both at once are refused."""
    value, file = place.environment.get(name), place.environment.get(f"{name}_FILE")
    if value and file:
        refuse(f"both {name} and {name}_FILE are set (but are exclusive)")
    if not file:
        return value or default
    try:
        return place.path(file).read_text().strip()
    except OSError as error:
        refuse(f"{name}_FILE: {file}: {error.strerror}")


def missing_numbers(numbers: list[int]) -> dict[str, object]:
    """What ``GET /_lab/rows`` says of the numbers found: none may be missing from 1 to the highest."""
    found = set(numbers)
    highest = max(found, default=0)
    missing = [number for number in range(1, highest + 1) if number not in found]
    return {
        "count": len(numbers),
        "max": highest,
        "min": min(found, default=0),
        "missing": missing[:1000],
        "missing_count": len(missing),
        "duplicates": len(numbers) - len(found),
    }
