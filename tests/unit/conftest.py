"""A small project on disk for tests of the catalogue, and helpers to change one thing in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from understudy.catalog import Catalog, Source, load_catalog

VARIABLES = {"DOMAIN": "example.org", "TZ": "Etc/UTC"}
Write = Callable[[str, str], Path]


@pytest.fixture
def services(tmp_path: Path) -> Path:
    """An empty services folder."""
    folder = tmp_path / "services"
    folder.mkdir()
    return folder


@pytest.fixture
def write(services: Path) -> Write:
    """Write ``NAME/FILE`` below the services folder; the text is dedented."""

    def _write(name: str, text: str) -> Path:
        path = services / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    return _write


@pytest.fixture
def load(services: Path) -> Callable[..., Catalog]:
    """Load the catalogue; keyword arguments go to ``load_catalog``."""

    def _load(strict: bool = False, **source: object) -> Catalog:
        return load_catalog(Source(services, variables=VARIABLES, **source), strict)  # type: ignore[arg-type]

    return _load


NOTES = """
services:
  app:
    image: example/notes:1.2.3
    ports: ["127.0.0.1:8100:80"]
    environment: {BASE: "https://notes.${DOMAIN}"}
    secrets: [key]
    volumes:
      - ./data:/data
      - ./notes.conf:/etc/notes.conf:ro
secrets:
  key: {file: /etc/understudy/secrets/notes/KEY}
"""

NOTES_BLOCK = """
needs: []
routes:
  - {host: notes, to: "app:80", probe: {path: /health, text: alive}}
databases: [{sqlite: "app:/data/notes.db"}]
secrets:
  KEY: {generate: alnum32, uid: 1000}
"""


@pytest.fixture
def notes(write: Write) -> Write:
    """A correct service called ``notes``."""
    write("notes/compose.yaml", NOTES)
    write("notes/understudy.yaml", NOTES_BLOCK)
    write("notes/notes.conf", "colour = green\n")
    return write
