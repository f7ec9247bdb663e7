"""Starts stand-ins in a test's own folder and stops them at its end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .standin_process import BY_NAME, Running, Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a stand-in in ``tmp_path``; all are stopped at the end."""
    started: list[Running] = []

    def _start(name: str, wait: bool = True, root: Path = tmp_path, **environment: str) -> Running:
        known = BY_NAME.get(name)
        if name == "vaultwarden" and not (root / "data").exists():
            (root / "data").mkdir()
            (root / "data/rsa_key.pem").write_text("key\n")  # what the first start asks openssl for
        running = Running(name, root, known.arguments if known else (), **environment)
        started.append(running)
        return running.wait() if wait else running

    yield _start
    for running in started:
        running.stop(signal.SIGKILL)
