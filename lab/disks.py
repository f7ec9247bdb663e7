"""Copies a prepared Docker store into the disk of a new host."""

from __future__ import annotations

import os

from lab.engine import docker

# Layer files are linked, not copied: an engine never writes into a layer it has (a container's change goes to
# a layer of its own, and removing an image unlinks), so hosts share them as they share an image. Everything
# else is copied. Where links do not work, layers are copied too. Arguments: source and target folder.
COPY = """
set -eu
cd "$1"
for item in *; do
    if [ "$item" != overlay2 ] && [ -e "$item" ]; then cp -a --reflink=auto "$item" "$2/"; fi
done
if [ -d overlay2 ] && ! cp -al overlay2 "$2/" 2>/dev/null; then
    rm -rf "$2/overlay2"
    cp -a --reflink=auto overlay2 "$2/"
fi
"""


def copy_store(source: str, target: str, image: str) -> None:
    """Copies one volume's Docker store into another, empty volume, with the tools of `image`."""
    where = docker("volume", "inspect", "-f", "{{.Mountpoint}}", source, target).split()
    parent = os.path.commonpath(where)  # one mount for both: files cannot be linked across mounts
    inside = ["/volumes/" + os.path.relpath(path, parent) for path in where]
    mount = ["--volume", f"{parent}:/volumes"]
    docker("run", "--rm", "--network", "none", *mount, image, "sh", "-c", COPY, "copy", *inside)
