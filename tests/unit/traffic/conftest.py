"""One emulated Cloudflare a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .world import Cloud, cloud


@pytest.fixture
def lab_cloud(tmp_path: Path) -> Iterator[Cloud]:
    with cloud(tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are not what these tests are about."""
    monkeypatch.setattr("understudy.cloudflare.PAUSE", 0.01)
    monkeypatch.setattr("understudy.traffic.flip.READ_BACK", (0.0, 0.05, 0.1))
