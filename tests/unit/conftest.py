"""A small project on disk for tests of the catalogue, and helpers to change one thing in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import hypothesis
import pytest
from samples import NOTES, NOTES_BLOCK, VARIABLES, Write

from lab import tools
from understudy.catalog import Catalog, Source, load_catalog

SHM, ENOUGH = "/dev/shm", 2 << 30


def in_memory() -> bool:
    """Whether scratch hosts can live in memory: nothing here waits for a disk then, and the kill tests flush often."""
    try:
        found = os.statvfs(SHM)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize > ENOUGH and not found.f_flag & os.ST_NOEXEC


if "TMPDIR" not in os.environ and in_memory():
    os.environ["TMPDIR"] = tempfile.tempdir = SHM

# A landing is judged on the same examples each time; `make unit` on a developer's machine goes on looking for new ones.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def real_programs() -> None:
    """restic, rclone and the object store are real ones, also where this machine has none or an old one."""
    tools.put_on_path()


@pytest.fixture
def empty_engine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Docker engine that runs and holds nothing, whatever this machine has: unit tests start none."""
    program = tmp_path_factory.mktemp("engine") / "docker"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


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


@pytest.fixture
def notes(write: Write) -> Write:
    """A correct service called ``notes``."""
    write("notes/compose.yaml", NOTES)
    write("notes/understudy.yaml", NOTES_BLOCK)
    write("notes/notes.conf", "colour = green\n")
    return write
