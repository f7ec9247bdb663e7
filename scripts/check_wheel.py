"""Compares a wheel with the clone: every file of the package, linked folders included, must be in it."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"understudy": "understudy", "understudy/operations": "operations"}
FOLDERS |= {"understudy/agent": "agent", "understudy/templates": "templates"}


def expected() -> set[str]:
    """The wheel paths of all files in the package folders of the clone."""
    found: set[str] = set()
    for inside, outside in FOLDERS.items():
        for path in (ROOT / outside).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(f"{inside}/{path.relative_to(ROOT / outside)}")
    return found


def main(wheel: str) -> int:
    with zipfile.ZipFile(wheel) as archive:
        present = {info.filename for info in archive.infolist() if info.file_size or not info.is_dir()}
    missing = sorted(expected() - present)
    for path in missing:
        print(f"not in the wheel: {path}", file=sys.stderr)
    print(f"{Path(wheel).name}: {len(present)} files, {len(missing)} missing")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
