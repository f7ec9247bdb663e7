"""Data of a service onto this machine, from a real repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from quick_key import quicken

from understudy.agent.data.plan import Mount, Service
from understudy.errors import BadInput, Refused
from understudy.repository import bring, listing
from understudy.repository.restic import AdminRepository, opened


def service() -> Service:
    made = Service.__new__(Service)
    object.__setattr__(made, "name", "vault")
    mount = Mount.__new__(Mount)
    for name, value in {"key": "vault/data", "targets": ("vault:/data",)}.items():
        object.__setattr__(mount, name, value)
    object.__setattr__(made, "mounts", (mount,))
    return made


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> AdminRepository:
    """Two snapshots of vault: the newer by sequence number is the older by its clock."""
    folder = tmp_path_factory.mktemp("bring")
    repository = AdminRepository(
        "usb", "critical", str(folder / "repo"), "pw", cache_dir=str(folder / "cache")
    )
    data = folder / "live" / "vault" / "data" / "vault" / "data"
    data.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, opened(repository) as session:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        session.run(["init", "--json"], 60, lock=True)
        quicken(folder / "repo", "pw")
        for seq, when in ((1, "2026-11-20 12:00:00"), (2, "2026-11-10 12:00:00")):
            (data / "db").write_text(f"rows of {seq}")
            (data / "odd name [1]").write_text("x")
            tags = ["understudy", "group:critical", "tier:critical", "epoch:1", f"seq:{seq}", "service:vault"]
            words = [word for tag in tags for word in ("--tag", tag)]
            argv = ["backup", "--json", "--host", "home", "--time", when, *words, "."]
            session.run(argv, 60, lock=True, cwd=str(folder / "live"))
    return repository


def test_all_of_the_newest_by_sequence_comes(repository: AdminRepository, tmp_path: Path) -> None:
    row = bring.bring(repository, service(), tmp_path / "out")
    assert (tmp_path / "out" / "vault" / "data" / "vault" / "data" / "db").read_text() == "rows of 2"
    assert (row["files"], row["host"], row["folder"]) == (2, "home", str(tmp_path / "out" / "vault"))


def test_single_files_come_by_their_path_in_the_container(
    repository: AdminRepository, tmp_path: Path
) -> None:
    row = bring.bring(repository, service(), tmp_path / "out", ["vault:/data/d*"])
    assert row["files"] == 1 and (tmp_path / "out" / "vault" / "data" / "vault" / "data" / "db").is_file()


def test_an_older_one_comes_by_its_id(repository: AdminRepository, tmp_path: Path) -> None:
    with opened(repository) as session:
        first = next(one for one in listing.listed(session).snapshots if one.seq == 1)
    bring.bring(repository, service(), tmp_path / "out", wanted=first.id[:8])
    assert (tmp_path / "out" / "vault" / "data" / "vault" / "data" / "db").read_text() == "rows of 1"


def test_nothing_is_written_over(repository: AdminRepository, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Refused, match="not empty: name a new folder; nothing was written"):
        bring.bring(repository, service(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"paths": ["vault:/data/nothing*"]}, "nothing of vault in snapshot .* matches vault:/data/nothing"),
        ({"paths": ["vault:/elsewhere/x"]}, "no mount of vault holds vault:/elsewhere/x"),
        ({"wanted": "ffff"}, "no snapshot ffff holds vault"),
        ({"until": 1.0}, "no snapshot that is old enough holds vault"),
    ],
)
def test_what_is_not_there_is_said(
    repository: AdminRepository, tmp_path: Path, words: dict[str, object], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        bring.bring(repository, service(), tmp_path / "out", **words)  # type: ignore[arg-type]
