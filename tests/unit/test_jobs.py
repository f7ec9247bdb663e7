"""Copies by the real rclone to a real S3 server, and what must never happen to the destination."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs_world import JobsWorld, store

from understudy.agent import jobs, lock
from understudy.agent.copying import memory, work
from understudy.agent.data import clock
from understudy.agent.errors import AgentError
from understudy.agent.root import RUN

DAY = 86400
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("store")
    with store(folder) as address:
        yield folder, address


@pytest.fixture
def world(served: tuple[Path, str], tmp_path: Path) -> JobsWorld:
    """A host whose bucket is empty."""
    folder, address = served
    name = tmp_path.name.replace("_", "-").lower()[-40:].strip("-") + "-b"
    (folder / name).mkdir()
    host = JobsWorld(tmp_path / "host", folder / name, address)
    host.jobs.clear()
    host.declare("old-backups", to=f"b2:{name}/files")
    return host


def stamps(world: JobsWorld) -> list[str]:
    folder = world.bucket / ".history/old-backups"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def at(world: JobsWorld, offset: float) -> None:
    """Set the host's clock this many seconds off."""
    path = Path(world.root.at(clock.OFFSET))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(offset))


def test_a_first_run_copies_everything_and_is_recorded(world: JobsWorld) -> None:
    world.fill(a="one", b="two two")
    (world.source / "deep/er").mkdir(parents=True)
    (world.source / "deep/er/ü #;x").write_text("three")
    (world.source / "link").symlink_to("a")
    row = world.good()
    assert (row["files"], row["changed"], row["deleted"]) == (4, 4, 0)
    assert row["sent"] == row["bytes"] == 3 + 7 + 5 + 1
    assert world.there() == {"a": "one", "b": "two two", "deep/er/ü #;x": "three", "link.rclonelink": "a"}
    record = world.records()[0]
    assert record["ok"] and record["job"] == "old-backups" and record["files"] == 4 and record["seconds"] > 0


def test_a_second_run_sends_nothing(world: JobsWorld) -> None:
    world.fill_many(5)
    world.good()
    row = world.good()
    assert (row["files"], row["changed"], row["sent"], row["deleted"]) == (5, 0, 0, 0)
    assert stamps(world) == []


def test_b2_what_is_deleted_or_overwritten_here_stays_there_for_weeks(world: JobsWorld) -> None:
    """The mirror of old carried a deletion, or an encryption by a thief, to the only other copy at 03:00."""
    world.fill_many(10)
    world.good()
    world.fill_many(8, "encrypted by a thief")
    (world.source / "f009").unlink()
    row = world.good()
    assert (row["changed"], row["deleted"]) == (8, 1)
    assert len(world.there()) == 9 and world.there()["f000"].startswith("encrypted")
    assert world.kept() == {**{f"f{n:03}": f"v1 {n}" for n in range(8)}, "f009": "v1 9"}
    at(world, 59 * DAY)
    assert world.good()["forgotten"] == 0 and len(world.kept()) == 9


def test_b2_more_deletions_than_allowed_delete_nothing_at_all(world: JobsWorld) -> None:
    world.declare("old-backups", to=world.jobs["old-backups"]["to"], max_delete=3)
    world.fill_many(40)
    world.good()
    for number in range(4):
        (world.source / f"f{number:03}").unlink()
    world.fill(new="new")
    before = world.there()
    said = world.bad()
    assert "4 entries have gone" in said and "max_delete (3)" in said and "--confirm" in said
    assert world.there() == before and world.kept() == {}
    assert world.records()[0]["ok"] is False and world.records()[0]["error"] == said
    row = world.good(confirm=True)
    assert row["deleted"] == 4 and "new" in world.there() and len(world.kept()) == 4


def test_replaced_files_do_not_count_as_deletions_on_an_object_store(world: JobsWorld) -> None:
    """`rclone sync --backup-dir --max-delete 3` fails here: on S3 it counts what it replaces."""
    world.declare("old-backups", to=world.jobs["old-backups"]["to"], max_delete=3)
    world.fill_many(20)
    world.good()
    world.fill_many(20, "second version")
    assert world.good()["changed"] == 20 and len(world.kept()) == 20


def test_emptiness_is_never_mirrored(world: JobsWorld) -> None:
    world.fill_many(3)
    world.good()
    shutil.rmtree(world.source)
    world.source.mkdir()
    said = world.bad()
    assert "/mnt/ssd/backups is empty" in said and len(world.there()) == 3
    assert "is empty" in world.bad(confirm=True) and len(world.there()) == 3
    world.source.rmdir()
    assert "cannot be opened: no such file or directory" in world.bad()


def test_an_unmounted_source_is_never_mirrored(world: JobsWorld) -> None:
    world.fill_many(3)
    world.declare("old-backups", to=world.jobs["old-backups"]["to"], mounted="/mnt/ssd")
    said = world.bad(confirm=True)
    assert said == (
        "old-backups: nothing is mounted at /mnt/ssd; nothing was copied and nothing deleted: mount the disk"
    )
    assert not world.files.exists()


def test_a_source_that_shrank_waits_for_the_owners_word(world: JobsWorld) -> None:
    world.fill_many(20)
    world.good()
    for number in range(5):
        (world.source / f"f{number:03}").unlink()
    said = world.bad()
    assert "has 15 files, 20 at the last good run" in said and len(world.there()) == 20
    assert "15 files, 20" in world.bad(), "a refused run is no new measure"
    world.good(confirm=True)
    assert len(world.there()) == 15 and len(world.kept()) == 5
    assert world.good()["deleted"] == 0


def test_copy_never_deletes_and_keeps_what_it_replaces(world: JobsWorld) -> None:
    world.declare("old-backups", to=world.jobs["old-backups"]["to"], mode="copy", shrink_percent=99)
    world.fill_many(3)
    world.good()
    (world.source / "f001").unlink()
    world.fill(f000="new content")
    assert world.good()["deleted"] == 0
    assert set(world.there()) == {"f000", "f001", "f002"} and world.kept() == {"f000": "v1 0"}


def test_excluded_files_are_neither_sent_nor_taken_away(world: JobsWorld) -> None:
    world.declare("old-backups", to=world.jobs["old-backups"]["to"], exclude=["/cache/**", "*.tmp"])
    world.fill(a="1", **{"x.tmp": "t"})
    (world.source / "cache").mkdir()
    (world.source / "cache/c").write_text("c")
    world.files.mkdir()
    (world.files / "y.tmp").write_text("theirs")
    assert world.good()["files"] == 1
    assert world.there() == {"a": "1", "y.tmp": "theirs"}


def test_expired_histories_go_after_a_good_run_only(world: JobsWorld) -> None:
    world.declare("old-backups", to=world.jobs["old-backups"]["to"], keep_days=30)
    world.fill_many(10)
    world.good()
    (world.source / "f000").unlink()
    world.good()
    (world.bucket / ".history/old-backups/note").mkdir()
    (world.bucket / ".history/old-backups/note/mine").write_text("the owner's")
    at(world, 31 * DAY)
    (world.source / "f001").unlink()
    (world.base / "mnt/ssd/backups").rename(world.base / "mnt/ssd/away")
    world.bad()
    assert "f000" in world.kept()
    (world.base / "mnt/ssd/away").rename(world.base / "mnt/ssd/backups")
    assert world.good()["forgotten"] == 1
    assert world.kept() == {"f001": "v1 1", "mine": "the owner's"}


def test_a_clock_that_jumped_takes_a_few_histories_and_not_all() -> None:
    names = [work.stamp(day * DAY) for day in range(100)]
    assert work.expired([*names, "note"], 1000 * DAY, 60) == names[:10]
    assert work.expired(names, 99 * DAY, 60) == names[:10]
    assert work.expired(names, 65 * DAY, 60) == names[:5]


def test_b13_a_job_that_fails_does_not_stop_the_next_one(world: JobsWorld) -> None:
    """`set -e` once ended the chain at the first failure, and old backups were thinned even so."""
    bucket = world.jobs["old-backups"]["to"].partition("/")[0]
    world.declare("missing", to=f"{bucket}/missing", source="/mnt/nowhere")
    world.jobs = {name: world.jobs[name] for name in ("missing", "old-backups")}
    world.declare("old-backups", to=f"{bucket}/files")
    world.fill(a="1")
    reply = world.run()
    assert [(row["job"], row["ok"]) for row in reply["jobs"]] == [("missing", False), ("old-backups", True)]
    assert (
        reply["error"] == reply["reasons"][0] and "missing: /mnt/nowhere cannot be opened" in reply["error"]
    )
    assert world.there() == {"a": "1"} and [r["ok"] for r in world.records()] == [True, False]


def test_b13_two_runs_of_a_job_at_once_are_impossible(world: JobsWorld) -> None:
    world.fill(a="1")
    with lock.exclusive(world.root, "job-old-backups", "job old-backups", 0, lambda line: None):
        said = world.bad()
    assert "this host is busy: job old-backups" in said and not world.files.exists()
    world.good()


def test_b13_nothing_is_left_in_temporary_folders(world: JobsWorld) -> None:
    world.fill_many(10)
    world.good()
    (world.source / "f001").unlink()
    world.good()
    assert [name for name in os.listdir(world.root.at(RUN)) if not name.endswith(".lock")] == []


def test_b14_a_copy_on_the_disk_of_its_original_is_refused(world: JobsWorld) -> None:
    """Local backups once lay on the very NVMe they were made from."""
    world.fill(a="1")
    target = world.base / "mnt/other/files"
    world.declare("old-backups", to=f"usb:{target}", local=True, fast_list=False)
    assert "is on the same disk as /mnt/ssd/backups" in world.bad()
    assert not target.exists()


@pytest.fixture
def disk(world: JobsWorld) -> Iterator[Path]:
    """A folder on another disk than the world's."""
    others = (
        place for place in ("/dev/shm", "/var/tmp") if os.stat(place).st_dev != world.base.stat().st_dev
    )
    folder = Path(tempfile.mkdtemp(dir=next(others), prefix="understudy-"))
    yield folder
    shutil.rmtree(folder)


def test_a_disk_without_its_marker_is_never_written(world: JobsWorld, disk: Path) -> None:
    """An unplugged disk leaves an empty folder on the root partition."""
    world.fill_many(10)
    world.declare("old-backups", to=f"usb:{disk}/copies", local=True, fast_list=False, marker=True)
    assert "has no .understudy-mount" in world.bad() and list(disk.iterdir()) == []
    (disk / "copies").mkdir()
    (disk / "copies/.understudy-mount").touch()
    world.good()
    (world.source / "f000").unlink()
    assert world.good()["deleted"] == 1
    assert (disk / "copies/.understudy-mount").exists() and len(list((disk / "copies").iterdir())) == 10
    assert len(list((disk / ".history/old-backups").rglob("f000"))) == 1


def test_a_file_may_become_a_folder_and_back(world: JobsWorld, disk: Path) -> None:
    world.fill(a="file", b="file")
    world.declare("old-backups", to=f"usb:{disk}/copies", local=True, fast_list=False)
    world.good()
    (world.source / "a").unlink()
    (world.source / "a").mkdir()
    (world.source / "a/b").write_text("below")
    assert world.good()["deleted"] == 1
    assert (disk / "copies/a/b").read_text() == "below"


def test_b15_what_cannot_be_read_fails_by_name_and_nothing_is_deleted(served: tuple[Path, str]) -> None:
    """Unreadable folders were once excluded from the copy, and failure was called a warning."""
    folder, address = served
    base = Path(tempfile.mkdtemp(prefix="understudy-"))
    try:
        bucket = folder / "b15-bucket"
        bucket.mkdir()
        world = JobsWorld(base / "host", bucket, address)
        world.declare("old-backups", to="b2:b15-bucket/files")
        world.fill_many(10)
        world.good()
        (world.source / "f009").unlink()
        (world.source / "f003").write_text("changed")
        (world.source / "f003").chmod(0)
        said = as_nobody(base)
        assert "f003" in said and "permission denied" in said and "nothing was deleted" in said
        assert world.there()["f009"] == "v1 9"
        # rclone moves the old version aside before it reads the new one: it is in the history until a good run.
        assert {**world.kept(), **world.there()}["f003"] == "v1 3"
        (world.source / "f003").chmod(0o644)
        (world.source / "closed").mkdir(mode=0o000)
        said = as_nobody(base)
        assert "could not list /mnt/ssd/backups" in said and "closed" in said and "permission denied" in said
        assert world.there()["f009"] == "v1 9"
    finally:
        shutil.rmtree(base)


def as_nobody(base: Path) -> str:
    """The verb's error when a user without rights runs it (root can read everything)."""
    program = (
        "import json; from agent import jobs; from agent.root import Root;"
        f"print(json.dumps(jobs.run({{'words': ['old-backups']}}, Root({str(base / 'host')!r}))))"
    )
    user = {}
    if os.geteuid() == 0:
        user = {"user": 65534, "group": 65534, "extra_groups": []}
        base.chmod(0o755)
        for path in [base / "host", *(base / "host").rglob("*")]:
            os.chown(path, 65534, 65534)
    copy = base / "agent"
    if not copy.exists():  # a project's own folder may be closed to others
        shutil.copytree(REPO / "agent", copy, ignore=shutil.ignore_patterns("__pycache__"))
    program_folder = base / "bin"
    program_folder.mkdir(exist_ok=True)
    rclone = shutil.which("rclone")
    assert rclone
    if not (program_folder / "rclone").exists():
        shutil.copy2(rclone, program_folder / "rclone")
    environment = {"PATH": f"{program_folder}:/usr/bin:/bin", "HOME": str(base)}
    ended = subprocess.run(
        [
            sys.executable if os.geteuid() else "/usr/bin/python3",
            "-IBc",
            f"import sys; sys.path.insert(0, {str(base)!r}); {program}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=base,
        **user,
    )
    assert ended.returncode == 0, ended.stderr
    reply = json.loads(ended.stdout.splitlines()[-1])
    assert reply["jobs"][0]["ok"] is False and reply["kind"] == "failed"
    return str(reply["error"])


def test_b15_the_program_of_the_timer_ends_with_status_1(world: JobsWorld) -> None:
    script = "import sys; sys.argv[1:] = ['jobs', 'old-backups']; from agent.entry import answer, finish;"
    script += f"from agent.root import Root; r = answer('jobs', {{'words': ['old-backups']}}, Root({str(world.base)!r}));"
    script += "finish(r, 1 if 'error' in r else 0)"
    run = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and "is empty" in run.stdout
    world.fill(a="1")
    run = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_a_store_that_refuses_is_a_failure_with_its_words(world: JobsWorld) -> None:
    path = world.base / "etc/understudy/secrets/backup/rclone.conf"
    path.write_text(path.read_text().replace("secret-key-of-test", "wrong"))
    world.fill(a="1")
    said = world.bad()
    assert said.startswith("old-backups: rclone could not list b2:") and "Signature" in said
    assert "wrong" not in json.dumps(world.records())


def test_the_key_is_in_no_command_line_and_no_environment(world: JobsWorld, tmp_path: Path) -> None:
    """A stand-in for rclone notes what it was started with and hands over to the real one."""
    real = shutil.which("rclone")
    notes = tmp_path / "notes"
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "rclone").write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >>{notes}\nexec {real} "$@"\n')
    (folder / "rclone").chmod(0o755)
    world.fill_many(6)
    world.good()
    (world.source / "f000").unlink()
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{before}"
    try:
        world.good()
    finally:
        os.environ["PATH"] = before
    told = notes.read_text()
    assert "lsjson" in told and " move " in told and "--config=" in told
    assert "secret-key-of-test" not in told and "KEY-ID-OF-TEST" not in told


def test_a_dry_run_changes_nothing_and_says_what_would_happen(world: JobsWorld) -> None:
    world.fill_many(10)
    row = world.good(dry_run=True)
    assert (row["files"], row["changed"], row["deleted"], row["refused"]) == (10, 10, 0, None)
    assert not world.files.exists() and world.records() == []
    world.good()
    (world.source / "f000").unlink()
    row = world.good(dry_run=True)
    assert (row["changed"], row["deleted"]) == (0, 1) and len(world.there()) == 10


def test_an_unknown_job_is_named_with_those_that_exist(world: JobsWorld) -> None:
    with pytest.raises(AgentError, match="there is no job 'media'; known: old-backups"):
        jobs.run({"words": ["media"]}, world.root)


def test_a_run_that_takes_too_long_ends_and_says_so(world: JobsWorld) -> None:
    world.declare("old-backups", to=world.jobs["old-backups"]["to"], timeout=3, limit="1M")
    (world.source / "big").write_bytes(os.urandom(30 << 20))
    began = time.monotonic()
    said = world.bad()
    assert "took longer than 3 s and was stopped" in said and time.monotonic() - began < 20
    world.declare("old-backups", to=world.jobs["old-backups"]["to"])
    world.good()
    assert (world.files / "big").read_bytes() == (world.source / "big").read_bytes()


@pytest.mark.parametrize("moved", [0, 1, 60, 101, 107])
def test_killed_at_any_moment_and_run_again_is_whole(world: JobsWorld, moved: int) -> None:
    """Killed once so many files were in the history: each old version is at the destination or there, and a run heals."""
    world.declare("old-backups", to=world.jobs["old-backups"]["to"], max_delete=500)
    world.fill_many(120)
    world.good()
    world.fill_many(100, "a second and longer version")
    for number in range(100, 110):
        (world.source / f"f{number:03}").unlink()
    program = (
        "from agent import jobs; from agent.root import Root;"
        f"jobs.run({{'words': ['old-backups']}}, Root({str(world.base)!r}))"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPO, start_new_session=True, stderr=subprocess.DEVNULL
    )
    while (
        run.poll() is None and sum(len(names) for _, _, names in os.walk(world.bucket / ".history")) < moved
    ):
        time.sleep(0.002)
    kill_tree(run.pid)
    run.wait(10)
    now, history = world.there(), world.kept()
    for number in range(120):
        old, name = f"v1 {number}", f"f{number:03}"
        assert old in (now.get(name), history.get(name)), name
    world.good()
    assert world.there() == {path.name: path.read_text() for path in world.source.iterdir()}
    assert all(world.kept()[f"f{number:03}"] == f"v1 {number}" for number in range(110))


def kill_tree(pid: int) -> None:
    """What the end of a unit does: the program and all that it started, at once."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    for each in [pid, *map(int, children.split())]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def test_a_damaged_memory_is_named(world: JobsWorld) -> None:
    world.fill(a="1")
    world.good()
    path = Path(world.root.at(f"{memory.FOLDER}/old-backups.json"))
    assert json.loads(path.read_text())["files"] == 1 and path.stat().st_mode & 0o777 == 0o600
    path.write_text("{")
    assert "/var/lib/understudy/jobs/old-backups.json is damaged" in world.bad()


def test_two_jobs_run_side_by_side(world: JobsWorld) -> None:
    bucket = world.jobs["old-backups"]["to"].partition("/")[0]
    world.declare("media", to=f"{bucket}/media", source="/mnt/ssd/media")
    (world.base / "mnt/ssd/media").mkdir()
    (world.base / "mnt/ssd/media/song").write_text("la")
    world.fill(a="1")
    threads = [threading.Thread(target=world.run, args=(name,)) for name in ("old-backups", "media")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [record["ok"] for record in world.records()] == [True, True]
