"""Writes the digest that runs now behind each floating tag of a Compose file; everything else of the text stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..compose import ComposeModel
from ..images import parse


def pin(model: ComposeModel, images: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Change the files in place; a sentence for every container, whether it could be pinned or not."""
    told = []
    for name, live in images.items():
        container = model.containers.get(name)
        if container is None or not container.image or not parse(container.image).floating:
            continue
        if not live.get("digest"):
            told.append(f"{name} is not pinned: no registry gave its image {container.image} a digest")
            continue
        path, line = model.locate("services", name, "image")
        wanted = f"{container.image}@{live['digest']}"
        if _replace(path, line, container.image, wanted):
            told.append(
                f"{name} is pinned to {live['digest'][:19]}: the next `docker compose up` makes it anew, once"
            )
        else:
            told.append(f"{name} is not pinned: {path.name}:{line} does not name {container.image} itself")
    return told


def _replace(path: Path, line: int, old: str, new: str) -> bool:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if not 0 < line <= len(lines) or old not in lines[line - 1]:
        return False
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("".join(lines), encoding="utf-8")
    return True
