"""A project with real SOPS files and real age keys: nothing here is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.secrets import Store, init


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any key, and the place of the key to be made."""
    for name in ("SOPS_AGE_KEY", "SOPS_AGE_KEY_CMD", "XDG_CONFIG_HOME", "SOPS_AGE_SSH_PRIVATE_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "keys" / "keys.txt"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(path))
    return path


@pytest.fixture
def store(tmp_path: Path, key: Path) -> Store:
    """An initialised, empty project."""
    folder = tmp_path / "project" / "secrets"
    init(folder)
    return Store(folder)
