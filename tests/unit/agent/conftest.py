from __future__ import annotations

from pathlib import Path

import pytest

from .world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A host with nothing on it but /etc."""
    host = World(tmp_path / "host")
    host.at("/etc").mkdir()
    return host
