"""Writes the Packages and Release files of a folder of .deb files, so that apt can install from it.

Runs inside the host image with nothing but Python and dpkg-deb: `index_pool.py FOLDER`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stanza(deb: Path) -> str:
    """The control fields of one package plus where it lies and what it must hash to."""
    fields = subprocess.run(["dpkg-deb", "-f", str(deb)], check=True, capture_output=True, text=True).stdout
    return f"{fields.rstrip()}\nFilename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {sha256(deb)}\n"


def main(folder: Path) -> None:
    packages = folder / "Packages"
    packages.write_text("\n".join(stanza(deb) for deb in sorted(folder.glob("*.deb"))))
    head = (
        f"Origin: Understudy lab\nLabel: Understudy lab\nCodename: trixie\nDate: {formatdate(usegmt=True)}\n"
    )
    (folder / "Release").write_text(
        f"{head}SHA256:\n {sha256(packages)} {packages.stat().st_size} Packages\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
