"""Damage in a real repository is named for the services it hits, and for no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_key import quicken

from understudy.agent.repo import checkup
from understudy.agent.repo.restic import Repo

SERVICES = ("bread", "milk", "wine")
pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed here")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    """A repository with a snapshot of three services, each in packs of its own; and service to {"data", "tree"}: pack."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "password").write_text("pw")
    run(folder, "init")
    quicken(folder / "r", "pw")
    packs: dict[str, dict[str, str]] = {}
    for number, name in enumerate(SERVICES, 1):
        (folder / name / "data").mkdir(parents=True)
        (folder / name / "data" / "file").write_bytes(os.urandom(200_000))
        run(folder, "backup", *tags(number, name), name)
        packs[name] = {}
        for pack in indexed(folder):
            if not any(pack["id"] in known.values() for known in packs.values()):
                packs[name][pack["blobs"][0]["type"]] = pack["id"]
    run(folder, "backup", *tags(9, *SERVICES), *SERVICES)
    (packs["root"],) = [{"tree": p["id"]} for p in indexed(folder) if not known_of(packs, p["id"])]
    return folder, packs


def known_of(packs: dict[str, dict[str, str]], pack: str) -> bool:
    return any(pack in known.values() for known in packs.values())


def tags(seq: int, *names: str) -> list[str]:
    words = [
        "understudy",
        "group:g",
        "tier:critical",
        "epoch:1",
        f"seq:{seq}",
        *(f"service:{n}" for n in names),
    ]
    return [part for word in words for part in ("--tag", word)]


def run(folder: Path, *words: str) -> str:
    env = {
        **os.environ,
        "RESTIC_REPOSITORY": str(folder / "r"),
        "RESTIC_PASSWORD_FILE": str(folder / "password"),
    }
    argv = ["restic", "-q", "--no-cache", *words]
    return subprocess.run(argv, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout


def indexed(folder: Path) -> list[dict[str, object]]:
    indexes = run(folder, "list", "index").split()
    return [pack for index in indexes for pack in json.loads(run(folder, "cat", "index", index))["packs"]]


@pytest.fixture
def damaged(good: tuple[Path, dict[str, dict[str, str]]], tmp_path: Path) -> Iterator[tuple[Repo, Path]]:
    """A copy that a test may damage."""
    shutil.copytree(good[0], tmp_path / "copy")
    env = {
        "RESTIC_REPOSITORY": str(tmp_path / "copy/r"),
        "RESTIC_PASSWORD_FILE": str(tmp_path / "copy/password"),
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }
    program = shutil.which("restic")
    assert program
    yield Repo("offsite", "g", program, (), env, str(tmp_path / "copy/r"), "offsite"), tmp_path / "copy/r"


def ruin(repository: Path, pack: str, how: str) -> None:
    file = repository / "data" / pack[:2] / pack
    size = file.stat().st_size
    file.chmod(0o600)
    if how == "gone":
        file.unlink()
    elif how == "short":
        file.write_bytes(b"ransom")
    elif how == "one bit":
        content = bytearray(file.read_bytes())
        content[10] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(os.urandom(size))


@pytest.mark.parametrize("how", ["noise", "one bit", "short", "gone"])
def test_a_damaged_pack_of_files_hits_its_service_alone(
    good: tuple[Path, dict[str, dict[str, str]]], damaged: tuple[Repo, Path], how: str
) -> None:
    repo, repository = damaged
    pack = good[1]["milk"]["data"]
    ruin(repository, pack, how)
    found = checkup.check(repo, 1, 1, 60)
    assert not found.ok and found.packs == [pack]
    assert found.services == {"milk": ["/milk/data/file"]}


def test_a_damaged_pack_of_folders_hits_its_service_alone(
    good: tuple[Path, dict[str, dict[str, str]]], damaged: tuple[Repo, Path]
) -> None:
    repo, repository = damaged
    ruin(repository, good[1]["wine"]["tree"], "noise")
    assert checkup.check(repo, 1, 1, 60).services == {"wine": [checkup.FOLDERS]}


def test_the_folder_above_all_of_them_hits_them_all(
    good: tuple[Path, dict[str, dict[str, str]]], damaged: tuple[Repo, Path]
) -> None:
    repo, repository = damaged
    ruin(repository, good[1]["root"]["tree"], "noise")
    assert set(checkup.check(repo, 1, 1, 60).services) == set(SERVICES)
