from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .fake_docker import docker
from .world import World

__all__ = ["docker", "scratch", "world"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A host with nothing on it but /etc."""
    host = World(tmp_path / "host")
    host.at("/etc").mkdir()
    return host


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of fsyncs cost minutes on a disk."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    place = Path(tempfile.mkdtemp(prefix="understudy-", dir=memory))
    yield place
    shutil.rmtree(place, ignore_errors=True)
