"""The seam to restic: what it is given, what it says, and that nothing secret is left or shown."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from quick_key import quicken

from understudy.repository import identity, listing, restic, view
from understudy.repository.restic import AdminRepository, ResticError, opened

SECRET = "correct horse"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to be copied: making one costs seconds."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        with opened(AdminRepository("usb", "critical", str(folder / "repo"), SECRET)) as session:
            session.run(["init", "--json"], 60, lock=True)
    quicken(folder / "repo", SECRET)
    return folder / "repo"


@pytest.fixture
def repository(empty: Path, tmp_path: Path) -> AdminRepository:
    shutil.copytree(empty, tmp_path / "repo")
    return AdminRepository(
        "usb", "critical", str(tmp_path / "repo"), SECRET, cache_dir=str(tmp_path / "cache")
    )


FULL = AdminRepository(
    "b2",
    "critical",
    "sftp:user@box:/repo",
    SECRET,
    aws="[default]\naws_secret_access_key = topsecret\n",
    ssh_key="KEY",
    known_hosts="box ssh-ed25519 AAAA",
    options=("s3.region=eu",),
    cache_dir="/cache",
)


def test_argv_is_exact_and_holds_nothing_secret() -> None:
    session = restic.Session(FULL, "/run/x", "/bin/restic", 3)
    ssh = (
        "sftp.args=-F none -o BatchMode=yes -i /run/x/ssh_key -o IdentitiesOnly=yes"
        " -o UserKnownHostsFile=/run/x/known_hosts -o StrictHostKeyChecking=yes"
    )
    assert session.argv(["snapshots", "--json"]) == [
        "/bin/restic", "-o", "s3.region=eu", "-o", ssh, "snapshots", "--no-lock", "--json",
    ]  # fmt: skip
    assert session.argv(["prune"], lock=True)[-6:] == [
        "/bin/restic",
        "-o",
        "s3.region=eu",
        "-o",
        ssh,
        "prune",
    ]


def test_environment_is_exact_and_holds_nothing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the login")
    monkeypatch.setenv("PATH", "/bin")
    assert restic.environment(FULL, "/run/x") == {
        "PATH": "/bin",
        "LC_ALL": "C.UTF-8",
        "RESTIC_REPOSITORY_FILE": "/run/x/repository",
        "RESTIC_PASSWORD_FILE": "/run/x/password",
        "RESTIC_PROGRESS_FPS": "5",
        "AWS_SHARED_CREDENTIALS_FILE": "/run/x/aws",
        "RESTIC_CACHE_DIR": "/cache",
    }


def test_files_hold_what_is_secret() -> None:
    assert restic.files(FULL) == {
        "repository": "sftp:user@box:/repo",
        "password": SECRET,
        "aws": FULL.aws,
        "ssh_key": "KEY\n",
        "known_hosts": "box ssh-ed25519 AAAA",
    }
    rest = AdminRepository("r", "g", "rest:https://old@box:8000/repo", SECRET, rest="me:pw\n")
    assert restic.files(rest)["repository"] == "rest:https://me:pw@box:8000/repo"
    assert SECRET not in repr(FULL) and "topsecret" not in repr(FULL) and "me:pw" not in repr(rest)


def test_the_folder_is_private_and_removed_even_after_an_error(repository: AdminRepository) -> None:
    with pytest.raises(ZeroDivisionError), opened(repository) as session:
        folder = Path(session.folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}
        _ = 1 // 0
    assert not folder.exists()


def test_what_a_killed_run_left_is_removed_at_the_next_start_and_a_living_one_is_not(
    repository: AdminRepository, tmp_path: Path
) -> None:
    code = (
        "import os,sys\nfrom understudy.repository.restic import *\n"
        f"with opened(AdminRepository('a','b',{repository.url!r},'{SECRET}')) as s:\n"
        "    print(s.folder, flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert other.stdout is not None
    folder = Path(other.stdout.readline().strip())
    assert folder.parent == tmp_path / "run"
    with opened(repository):
        assert folder.exists(), "it is in use"
    other.kill()
    other.wait()
    assert (folder / "password").exists(), "a kill leaves it"
    with opened(repository):
        assert not folder.exists()


def test_a_folder_that_another_start_swept_before_it_was_locked_is_made_again(
    repository: AdminRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, starts = fcntl.flock, [2]

    def late(descriptor: int, how: int) -> None:
        if how == fcntl.LOCK_EX and starts[0]:
            starts[0] -= 1
            restic._sweep(str(tmp_path / "run"))
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with opened(repository) as session:
        assert session.run(["cat", "config"], 60).code == 0
    assert starts == [0] and list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "kind", "word"),
    [
        ({"password": "wrong"}, "password", "does not open"),
        ({"url": "/nowhere/x"}, "no-repository", "no repository"),
    ],
)
def test_failures_have_a_kind_and_a_sentence(
    repository: AdminRepository, change: dict[str, str], kind: str, word: str
) -> None:
    broken = AdminRepository(**{**repository.__dict__, **change})
    with opened(broken) as session, pytest.raises(ResticError) as error:
        session.json(["snapshots"], 60)
    assert error.value.kind == kind and word in str(error.value) and "usb/critical" in str(error.value)
    assert SECRET not in str(error.value) and "wrong" not in str(error.value)


def test_an_unknown_failure_gives_restics_words(repository: AdminRepository) -> None:
    with opened(repository) as session, pytest.raises(ResticError) as error:
        session.run(["cat", "snapshot", "0123456789"], 60)
    assert error.value.kind == "failed" and "0123456789" in str(error.value)


def test_progress_is_heard_and_a_summary_kept(repository: AdminRepository, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(os.urandom(60_000_000))
    heard: list[str] = []
    with opened(repository) as session:
        result = session.run(
            ["backup", "--json", "data"],
            60,
            lock=True,
            cwd=str(tmp_path),
            on_message=lambda m: heard.append(m["message_type"]),
        )
    assert result.summary["total_bytes_processed"] == 60_000_000 and "status" in heard
    assert all(message["message_type"] != "status" for message in result.messages)


def test_what_takes_too_long_is_interrupted(repository: AdminRepository) -> None:
    started = time.monotonic()
    with opened(repository) as session, pytest.raises(ResticError) as error:
        session.run(["backup", "--json", "/usr"], 1.5, lock=True)
    assert error.value.kind == "interrupted" and error.value.code == 124 and time.monotonic() - started < 25
    assert not list(Path(repository.url, "locks").iterdir()), "it removed its lock"


def test_an_old_or_missing_restic_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "restic"
    old.write_text("#!/bin/sh\necho restic 0.14.0 compiled with go1.19\n")
    old.chmod(0o755)
    with pytest.raises(ResticError, match=r"restic 0\.14\.0 is too old: install restic 0\.17"):
        restic.usable(str(old))
    with pytest.raises(ResticError, match="not installed"):
        restic.usable("restic-that-is-not-there")


def test_strangers_and_marks_are_told_apart(repository: AdminRepository, tmp_path: Path) -> None:
    tags = ["understudy", "group:critical", "tier:critical", "epoch:1", "seq:5", "service:vault"]
    with opened(repository) as session:
        assert not listing.ours(listing.listed(session)), "empty and without a mark"
        listing.adopt(session)
        listing.adopt(session)
        for given in (tags, ["mine"], []):
            more = [part for tag in given for part in ("--tag", tag)]
            session.run(["backup", "--json", "--stdin", *more], 60, lock=True, feed=b"x")
        found = listing.listed(session)
        rows = view.rows(found.snapshots, time.time() + 3700)
    assert [one.seq for one in found.snapshots] == [5] and len(found.strangers) == 2
    assert len(found.created) == 1 and found.last_prune is None and listing.ours(found)
    assert rows[0]["services"] == "vault" and rows[0]["age"] == "1.0 h" and rows[0]["seq"] == "1.5"


def test_a_repository_of_others_is_not_adopted(repository: AdminRepository) -> None:
    with opened(repository) as session:
        session.run(["backup", "--json", "--stdin"], 60, lock=True, feed=b"x")
        with pytest.raises(listing.Refused, match="did not make this repository"):
            listing.adopt(session)


def test_mount_without_fuse_is_a_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "fuse" in view.why_no_mount(str(tmp_path))
    full = tmp_path / "full"
    (full / "x").mkdir(parents=True)
    for name in ("fusermount", "fusermount3"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert "not an empty folder" in view.why_no_mount(str(full)) or "fuse" in view.why_no_mount(str(full))


def test_this_machine_has_one_name_also_when_several_runs_give_it_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "admin-id").touch()  # what a run leaves that is killed between making and writing it
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: identity._name(folder), range(40)))
    assert len(names) == 1 and len(names.pop().removeprefix("understudy-admin-")) == 12
