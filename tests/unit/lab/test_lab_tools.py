"""The real programs the lab needs: found where they are good enough, fetched and kept where not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lab import tools
from lab.shell import LabError


def test_versions() -> None:
    assert tools.version_of("restic 0.18.0 compiled with go1.24.4 on linux/amd64\n") == (0, 18)
    assert tools.version_of("restic 0.9.6 (v0.9.6) compiled with go1.13") == (0, 9)
    assert tools.version_of("rclone v1.75.2") is None
    assert (0, 9) < tools.OLDEST_RESTIC <= (0, 17)


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)
    return path


def test_this_environment_has_all_three() -> None:
    for path, word in ((tools.restic(), "version"), (tools.rclone(), "version"), (tools.weed(), "version")):
        done = subprocess.run([path, word], capture_output=True, text=True, timeout=30, check=True)
        assert "version" in done.stdout or done.stdout.startswith(("restic", "rclone"))
    assert tools.new_enough(Path(shutil.which("restic") or ""))


def test_what_cannot_run_is_not_new_enough(tmp_path: Path) -> None:
    assert not tools.new_enough(tmp_path / "missing")
    assert not tools.new_enough(program(tmp_path / "old", "restic 0.14.0 compiled with go1.19"))
    assert tools.new_enough(program(tmp_path / "new", "restic 0.19.1 compiled with go1.25"))
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF of another machine")
    broken.chmod(0o755)
    assert not tools.new_enough(broken)


def test_an_old_one_on_path_gives_way_to_the_kept_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = program(tmp_path / "bin/restic", "restic 0.14.0 compiled with go1.19")
    program(tmp_path / "cache/understudy-lab/restic", "restic 0.18.0 compiled with go1.24")
    own = tmp_path / "venv"
    own.mkdir()
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tools, "program_folder", lambda: own)
    assert tools.restic() == own / "restic"
    tools.put_on_path()
    assert shutil.which("restic") == str(own / "restic")
    assert sorted(path.name for path in own.iterdir()) == ["restic"]


def test_without_any_way_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tools, "program_folder", lambda: tmp_path)
    with pytest.raises(LabError, match=r"restic 0.17 or newer is needed: install it"):
        tools.restic(may_build=False)
    with pytest.raises(LabError, match="bootstrap"):
        tools.weed()


def test_the_package_is_unpacked_never_installed() -> None:
    assert tools.mmdebstrap_command(Path("/x")) == [
        "mmdebstrap", "--quiet", "--variant=extract", "--include=restic", "trixie", "/x",
    ]  # fmt: skip
