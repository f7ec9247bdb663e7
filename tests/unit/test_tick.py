"""The backup tick on a scratch host: the real restic, real private mounts, real SQLite."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tick_world import Host, box, mounts_below, prepared, repository, service, sqlite_file

from understudy.agent import backup, entry, lock
from understudy.agent.data import guards, stage
from understudy.agent.data import state as states
from understudy.agent.disk import Disk
from understudy.agent.errors import AgentError
from understudy.agent.repo import commands, lock_name, restic
from understudy.agent.repo import locks as repo_locks
from understudy.agent.repo import repository as opened

__all__ = ["box", "prepared"]


def rows(reply: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["service"]: row for row in reply["services"]}


def with_database(box: Host, name: str = "a", count: int = 100) -> Path:
    box.services[name]["databases"] = [
        {"name": "notes", "kind": "sqlite", "mount": "files/data", "path": "notes.db"}
    ]
    return sqlite_file(box.at(f"/srv/{name}/data/notes.db"), count)


def test_a_tick_stores_whole_services_under_host_independent_names(box: Host) -> None:
    with_database(box)
    box.write("/srv/a/compose.yaml", "services: {}\n", 0o640)
    box.services["a"]["config"] = ["/srv/a/compose.yaml"]
    reply = box.tick()
    assert "error" not in reply
    assert [(row["service"], row["ok"], row["seq"], row["epoch"]) for row in reply["services"]] == [
        ("a", True, 1, 1),
        ("b", True, 1, 1),
    ]
    [snapshot] = box.snapshots()
    assert snapshot["hostname"] == "box"
    assert snapshot["tags"] == [
        "understudy",
        "group:rest",
        "tier:critical",
        "epoch:1",
        "seq:1",
        "service:a",
        "service:b",
    ]
    out = box.restored(snapshot["id"])
    assert sorted(os.listdir(out)) == ["a", "b"]
    assert sorted(os.listdir(out / "a")) == ["config", "data", "dumps", "manifest.json"]
    assert (out / "a/config/srv/a/compose.yaml").read_text() == "services: {}\n"
    assert (out / "a/config/srv/a/compose.yaml").stat().st_mode & 0o777 == 0o640
    assert (out / "b/data/files/data/f7").read_text() == box.at("/srv/b/data/f7").read_text()
    assert not (out / "a/data/files/data/notes.db").exists(), (
        "a live database file must not be in the file walk"
    )
    [dump] = (out / "a/dumps").iterdir()
    assert sqlite3.connect(dump).execute("select count(*) from notes").fetchone() == (100,)
    manifest = json.loads((out / "a/manifest.json").read_text())
    assert manifest["databases"]["notes"]["rows"] == {"notes": 100}
    assert manifest["plan"] == box.services["a"], "a manifest keeps the plan word for word"
    assert manifest["mounts"]["files/data"] == {
        "kind": "bind",
        "source": "/srv/a/data",
        "owner": [0, 0, 0o755],
        "class": "keep",
    }
    assert rows(reply)["a"]["rows"] == 100 and rows(reply)["a"]["files"] == 23
    assert mounts_below(box.base) == []


def test_the_snapshot_carries_the_moment_its_first_dump_began(box: Host) -> None:
    before = time.time()
    reply = box.tick()
    [snapshot] = box.snapshots()
    stamp = time.mktime(time.strptime(snapshot["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert before - 1 <= stamp <= min(row["started"] for row in reply["services"])


def test_an_idle_tick_uploads_nothing_but_its_snapshot(box: Host) -> None:
    with_database(box)
    box.tick()
    packs = sorted(p.name for p in box.at("/store/near/rest/data").rglob("*") if p.is_file())
    manifest = box.stage("a/manifest.json").stat()
    reply = box.tick()
    second = max(box.snapshots(), key=lambda s: s["tags"].index("seq:2") if "seq:2" in s["tags"] else -1)
    assert second["summary"]["data_added"] == 0 and second["summary"]["tree_blobs"] == 0
    assert second["summary"]["files_new"] == second["summary"]["files_changed"] == 0
    assert sorted(p.name for p in box.at("/store/near/rest/data").rglob("*") if p.is_file()) == packs
    assert box.stage("a/manifest.json").stat().st_mtime_ns == manifest.st_mtime_ns
    assert [row["added"] for row in reply["services"]] == [0, 0]
    assert second["parent"] in {snapshot["id"] for snapshot in box.snapshots()} - {second["id"]}


def test_one_run_for_each_group_and_repository(box: Host) -> None:
    box.services["c"] = {**service("c"), "group": "other"}
    box.write("/srv/c/data/x", "c")
    box.repositories["far"] = repository("/store/far")
    box.at("/store/far").mkdir(parents=True)
    box.prepare()
    reply = box.tick()
    assert len({row["snapshot"] for row in reply["services"]}) == 4
    assert {(row["service"], row["repository"]) for row in reply["services"]} == {
        (s, r) for s in "abc" for r in ("near", "far")
    }
    assert len(box.snapshots()) == len(box.snapshots("/store/far/other")) == 1


@pytest.mark.parametrize("damage", ["missing", "unmounted", "database"])
def test_b13_one_failing_service_does_not_stop_the_others(box: Host, damage: str) -> None:
    database = with_database(box)
    box.tick()
    good = box.state().last("near", "a")
    if damage == "missing":
        box.at("/srv/a/data").rename(box.at("/srv/a/gone"))
    elif damage == "unmounted":
        box.services["a"]["mounts"][0]["mounted_at"] = "/srv/a"
    else:
        database.write_bytes(b"SQLite format 3\0" + b"\xff" * 8176)
    reply = box.tick()
    assert rows(reply)["b"]["ok"] and not rows(reply)["a"]["ok"]
    assert "1 of 2 services failed" in reply["error"] and "a" in rows(reply)["a"]["error"]
    tags = next(s["tags"] for s in box.snapshots() if "seq:2" in s["tags"])
    assert "service:b" in tags and "failed:a" in tags and "service:a" not in tags
    state = box.state()
    assert good and state.last("near", "a") == good and state.pinned["near"]["a"]["snapshot"] == good.snapshot
    record = next(r for r in box.records("backup") if r["service"] == "a")
    assert record["ok"] is False and record["error"]
    # The verb's exit status is 1 whenever the reply has an error: the timer's unit fails and its alarm goes off.
    assert "error" in entry.answer("backup", {"words": ["critical"]}, box.root)


def test_b15_a_service_with_something_unreadable_is_in_no_whole_snapshot(box: Host) -> None:
    """Also on a store that lets nobody change a snapshot's tags: a second run says that the first is torn."""
    box.tick()
    good = box.state().last("near", "a")
    box.services["a"]["mounts"].append({"key": "files/broken", "kind": "bind", "source": "/srv/a/broken"})
    box.at("/srv/a/broken").symlink_to(f"/proc/{os.getpid()}/mem")  # reading its first byte is an I/O error
    reply = box.tick()
    assert rows(reply)["b"]["ok"] and "a: data/files/broken cannot be read" in rows(reply)["a"]["error"]
    assert sorted(len(s["tags"]) for s in box.snapshots() if "seq:2" in s["tags"]) == [7, 7]
    from understudy.agent.repo import repository as repositories
    from understudy.agent.repo import snapshots

    found = snapshots.listed(repositories.open(box.root, box.plan, "near", "rest"))
    assert good and snapshots.choose(found, "a").id == good.snapshot
    assert snapshots.choose(found, "b").id == rows(reply)["b"]["snapshot"]
    assert box.state().pinned["near"]["a"]["snapshot"] == good.snapshot


def test_b13_an_unreachable_repository_does_not_stop_the_other(box: Host) -> None:
    box.repositories["far"] = repository("rest:http://127.0.0.1:9/")
    reply = box.tick()
    found = {(row["service"], row["repository"]): row for row in reply["services"]}
    assert found["a", "near"]["ok"] and not found["a", "far"]["ok"]
    assert "127.0.0.1 does not answer: connection refused" in found["a", "far"]["error"]
    assert reply["seconds"] < 10, "restic itself would go on trying for a quarter of an hour"


def test_a_recovered_service_loses_its_pin_and_its_snapshot_is_the_parent_again(box: Host) -> None:
    box.tick()
    box.at("/srv/a/data").rename(box.at("/srv/a/gone"))
    box.tick()
    box.at("/srv/a/gone").rename(box.at("/srv/a/data"))
    reply = box.tick()
    assert "error" not in reply and box.state().pinned["near"] == {}
    last = next(s for s in box.snapshots() if "seq:3" in s["tags"])
    first = next(s for s in box.snapshots() if "seq:1" in s["tags"])
    assert last["parent"] == first["id"], "the snapshot that holds all of them spares reading a again"


def test_b4_b15_a_tick_that_cannot_run_is_in_the_ledger(box: Host) -> None:
    box.write_plan()
    with (
        lock.exclusive(box.root, "data", "a restore", 0, lambda line: None),
        pytest.raises(AgentError) as caught,
    ):
        backup.run({"words": ["critical"], "lock_wait": 0.2}, box.root)
    assert caught.value.kind == "busy" and "a restore" in caught.value.sentence
    assert box.records("tick")[0]["ok"] is False and "a restore" in box.records("tick")[0]["error"]


def test_two_ticks_at_once_the_second_waits_and_then_runs(box: Host) -> None:
    box.write_plan()
    child = subprocess.Popen([sys.executable, "-c", _TICK, str(box.base)], cwd=Path(__file__).parents[2])
    while lock.holder(box.root, "data") is None:
        time.sleep(0.01)
        assert child.poll() is None
    reply = box.tick(services=["a", "b"], tier="critical", lock_wait=30)
    assert child.wait(30) == 0 and "error" not in reply
    assert sorted(tag for s in box.snapshots() for tag in s["tags"] if tag.startswith("seq")) == [
        "seq:1",
        "seq:2",
    ]


_TICK = """
import sys
from understudy.agent import backup
from understudy.agent.root import Root
sys.exit("error" in backup.run({"words": ["critical"]}, Root(sys.argv[1])))
"""


def test_wrong_password_and_vanished_repository_are_said_and_nothing_is_made_anew(box: Host) -> None:
    box.tick()
    box.write("/etc/understudy/secrets/backup/restic", "wrong")
    reply = box.tick()
    assert "the password of repository near does not open" in reply[
        "error"
    ] and "correct horse" not in json.dumps(reply)
    box.write("/etc/understudy/secrets/backup/restic", "correct horse")
    box.at("/store/near/rest").rename(box.at("/store/near/away"))
    reply = box.tick()
    assert "there is no repository near/rest" in reply["error"]
    assert not box.at("/store/near/rest").exists(), "a tick must never make a repository"
    refused = box.prepare()
    assert "is gone, though this host stored snapshots there" in refused["error"]
    assert not box.at("/store/near/rest").exists()


def test_an_emptied_store_never_looks_like_a_first_day(box: Host) -> None:
    """Somebody makes a new repository in the old one's place: the next tick must not quietly begin anew."""
    box.tick()
    box.at("/store/near/rest").rename(box.at("/store/near/away"))
    box.restic("init")
    box.quicken()
    for _ in range(2):
        reply = box.tick()
        assert "has lost every snapshot of this host" in reply["error"]
    assert box.snapshots() == []
    # Nor without our memory: the ledger knows.
    box.at("/var/lib/understudy/backup/state.json").unlink()
    assert "has lost every snapshot of this host" in box.tick()["error"]
    box.at("/store/near/rest").rename(box.at("/store/near/empty"))
    from understudy.agent import prepare

    assert prepare.run({"again": True}, box.root)["repositories"][0]["state"] == "made"
    box.quicken()
    assert "error" not in box.tick()


def test_a_lost_state_is_learnt_from_the_repository(box: Host) -> None:
    box.tick()
    box.tick()
    newest = box.state().last("near", "a")
    box.at("/var/lib/understudy/backup/state.json").unlink()
    reply = box.tick()
    assert reply["seq"] == 3 and newest
    assert next(s for s in box.snapshots() if "seq:3" in s["tags"])["parent"] == newest.snapshot


def test_a_forgotten_parent_is_replaced_by_the_newest_that_is_left(box: Host) -> None:
    box.tick()
    box.tick()
    newest = box.state().last("near", "a")
    assert newest
    box.restic("forget", newest.snapshot)
    [left] = box.snapshots()
    reply = box.tick()
    assert "error" not in reply
    assert next(s for s in box.snapshots() if "seq:3" in s["tags"])["parent"] == left["id"]


def test_a_source_that_shrank_is_said_though_restic_is_content(box: Host) -> None:
    box.tick()
    before = box.state().last("near", "a")
    for number in range(15):
        box.at(f"/srv/a/data/f{number}").unlink()
    reply = box.tick()
    assert before and rows(reply)["a"]["ok"] and "a shrank by" in reply["error"]
    assert box.state().pinned["near"]["a"]["snapshot"] == before.snapshot
    assert "error" not in box.tick(), "said once, not every hour"
    assert box.state().pinned["near"]["a"]["snapshot"] == before.snapshot


def test_a_big_file_of_which_little_is_new_has_not_shrunk(box: Host) -> None:
    """restic's size of a changed file is that of its new parts."""
    big = box.write("/srv/a/data/big", os.urandom(24_000_000))
    first = rows(box.tick())["a"]
    with big.open("r+b") as stream:
        stream.seek(-10, os.SEEK_END)
        stream.write(b"0123456789")
    reply = box.tick()
    second = rows(reply)["a"]
    assert second["bytes"] == first["bytes"] > 24_000_000 and second["added"] < 10_000_000
    assert second["shrank"] is None and "error" not in reply


def test_a_big_first_backup_waits_for_a_person(box: Host) -> None:
    box.settings["first_backup_limit_bytes"] = 100_000
    box.write("/srv/a/data/big", os.urandom(200_000))
    reply = box.tick()
    assert rows(reply)["b"]["ok"]
    assert (
        "would be backed up for the first time to near" in rows(reply)["a"]["error"]
        and "--confirm" in reply["error"]
    )
    assert "error" not in box.tick(services=["a"], confirm=True)
    assert "error" not in box.tick()
    box.write("/srv/a/data/more", os.urandom(200_000))
    assert "is new since its last backup" in rows(box.tick())["a"]["error"]


def test_data_put_back_by_a_restore_is_not_taken_for_new(box: Host) -> None:
    """A restored tree has new inodes and old times: it may not stop the next timer."""
    box.settings["first_backup_limit_bytes"] = 100_000
    box.write("/srv/a/data/big", os.urandom(90_000))
    box.write("/srv/a/data/big2", os.urandom(90_000))
    box.tick(services=["a"], confirm=True)
    subprocess.run(["cp", "-a", str(box.at("/srv/a/data")), str(box.at("/srv/a/new"))], check=True)
    box.at("/srv/a/data").rename(box.at("/srv/a/old"))
    box.at("/srv/a/new").rename(box.at("/srv/a/data"))
    assert rows(box.tick())["a"]["ok"]


def test_rules_leave_out_what_they_say_and_caches_are_remembered(box: Host) -> None:
    rules = [
        {"path": "icon_cache", "class": "cache"},
        {"path": "thumbs", "class": "cache", "keep": [".immich"]},
        {"path": "users/*/trash", "class": "none"},
        {"path": "we$ird [x] ", "class": "none"},
    ]
    box.services["a"]["mounts"] = [
        {"key": "files/data", "kind": "bind", "source": "/srv/a/data", "rules": rules},
        {"key": "files/media", "kind": "bind", "source": "/srv/a/media", "class": "media"},
        {"key": "files/data/inner", "kind": "bind", "source": "/srv/a/data/inner", "class": "none"},
        {"key": "files/one.conf", "kind": "bind", "source": "/srv/a/one.conf"},
        {"key": "files/absent", "kind": "bind", "source": "/srv/a/absent", "required": False},
    ]
    rules[3]["path"] = "we$ird \\[x] "
    for path in (
        "icon_cache/x",
        "thumbs/y",
        "thumbs/.immich",
        "users/anna/trash/t",
        "users/anna/kept",
        "we$ird [x] /z",
        "inner/i",
    ):
        box.write(f"/srv/a/data/{path}", path)
    box.write("/srv/a/media/film", "film")
    box.write("/srv/a/one.conf", "one")
    os.chown(box.at("/srv/a/data/icon_cache"), 33, 44)
    assert "error" not in box.tick(services=["a"])
    out = box.restored(box.snapshots()[0]["id"]) / "a"
    names = {
        str(p.relative_to(out / "data"))
        for p in (out / "data").rglob("*")
        if p.is_file() and p.name[0] != "f"
    }
    assert names == {"files/data/thumbs/.immich", "files/data/users/anna/kept", "files/one.conf"}
    caches = json.loads((out / "manifest.json").read_text())["caches"]
    assert {c["path"]: c["owner"] for c in caches} == {
        "data/files/data/icon_cache": [33, 44, 0o755],
        "data/files/data/thumbs": [0, 0, 0o755],
    }


def _acl() -> bytes:
    """user::rw-, user:33:r--, group::r--, mask::r--, other::---"""
    none = 0xFFFFFFFF
    entries = [(1, 6, none), (2, 4, 33), (4, 4, none), (0x10, 4, none), (0x20, 0, none)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


def test_owners_modes_links_holes_attributes_and_odd_names_survive(box: Host) -> None:
    data = box.at("/srv/a/data")
    owned = box.write("/srv/a/data/owned", "x", 0o640)
    os.chown(owned, 12345, 54321)
    box.write("/srv/a/data/setuid", "x").chmod(0o4711)
    (data / "sub").mkdir()
    os.chown(data / "sub", 70, 71)
    (data / "sub").chmod(0o2770)
    os.link(owned, data / "hard")
    os.symlink("/nowhere/at all", data / "link")
    os.mkfifo(data / "pipe")
    with open(data / "sparse", "wb") as stream:
        stream.truncate(5_000_000)
        stream.seek(4_000_000)
        stream.write(b"end")
    odd = [
        b"new\nline",
        b"not \xff\xfe utf8",
        "überall".encode(),
        b" blanks ",
        b"$HOME",
        b"#hash",
        b"!bang",
        b"back\\slash",
        b"-rf",
    ]
    for name in odd:
        with open(os.fsencode(data) + b"/" + name, "wb") as stream:
            stream.write(name)
    os.setxattr(data / "owned", "user.colour", b"blue")
    os.setxattr(data / "f1", "system.posix_acl_access", _acl())
    reply = box.tick()
    assert "error" not in reply and rows(reply)["a"]["files"] == 21 + 4 + len(odd), "regular files"
    out = box.restored(box.snapshots()[0]["id"]) / "a/data/files/data"
    assert {p for p in os.listdir(os.fsencode(out))} == {p for p in os.listdir(os.fsencode(data))}
    for name in os.listdir(os.fsencode(data)):
        a, b = os.lstat(os.fsencode(data) + b"/" + name), os.lstat(os.fsencode(out) + b"/" + name)
        same = (
            ("st_mode", "st_uid", "st_gid", "st_size", "st_nlink")
            if name != b"sub"
            else ("st_mode", "st_uid", "st_gid")
        )
        assert [getattr(a, f) for f in same] == [getattr(b, f) for f in same], name
        assert name == b"sub" or a.st_mtime_ns == b.st_mtime_ns
    for name in odd:
        with open(os.fsencode(out) + b"/" + name, "rb") as stream:
            assert stream.read() == name
    assert os.stat(out / "hard").st_ino == os.stat(out / "owned").st_ino
    assert os.readlink(out / "link") == "/nowhere/at all"
    assert os.getxattr(out / "owned", "user.colour") == b"blue"
    assert os.getxattr(out / "f1", "system.posix_acl_access") == _acl()


def test_the_source_is_shown_read_only_and_stays_untouched(box: Host) -> None:
    place = box.at("/srv/a/data/f1")
    os.utime(place, ns=(1, 2))
    seen: list[str] = []

    def checkpoint(done: str) -> None:
        if done == "show a":
            shown = box.stage("a/data/files/data")
            seen.append((shown / "f1").read_text())
            with pytest.raises(OSError, match="Read-only"):
                (shown / "new").write_text("x")

    box.tick(checkpoint)
    assert seen == [place.read_text()]
    assert list(box.stage("a/data/files/data").iterdir()) == [], "outside a tick the mount point is empty"
    assert place.stat().st_mtime_ns == 2


def _killed_tick(box: Host, point: int) -> bool:
    """A tick in a process of its own that kills itself at its ``point``th step. False when it ended before."""
    box.write_plan()
    child = os.fork()
    if child == 0:
        left = [point]

        def checkpoint(done: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            backup.run({"words": ["critical"]}, box.root, checkpoint)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def assert_whole(box: Host) -> None:
    """No mount, and every dump that is there is a whole database; every snapshot names only services it holds whole."""
    assert mounts_below(box.base) == []
    for name in os.listdir(box.stage("a/dumps")) if box.stage("a/dumps").is_dir() else []:
        if not name.startswith("."):
            with sqlite3.connect(box.stage(f"a/dumps/{name}")) as database:
                assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    assert (
        os.listdir(box.stage("a/data/files/data")) == [] if box.stage("a/data/files/data").is_dir() else True
    )


def test_b9_killed_at_any_step_a_tick_leaves_nothing_half_and_the_next_one_works(box: Host) -> None:
    database = with_database(box)
    box.write("/srv/a/compose.yaml", "services: {}\n")
    box.services["a"]["config"] = ["/srv/a/compose.yaml"]
    # Its steps are the same each time but for the first: from the fourth on only every third is tried, as each runs restic.
    point, kills = 0, 0
    while _killed_tick(box, point):
        kills += 1
        assert_whole(box)
        sqlite_file(database, 1)
        point += 1 if point < 3 else 3
    assert kills >= 8
    reply = box.tick()
    assert "error" not in reply
    seqs = [int(t[4:]) for s in box.snapshots() for t in s["tags"] if t.startswith("seq:")]
    assert len(seqs) == len(set(seqs)) and reply["seq"] == max(seqs), "a number is never given twice"
    made = box.at("/var/lib/understudy/dumps/rest/a/dumps")
    assert [n for n in (*os.listdir(box.stage("a/dumps")), *os.listdir(made)) if n.startswith(".")] == []
    out = box.restored(rows(reply)["a"]["snapshot"])
    [dump] = (out / "a/dumps").iterdir()
    count = sqlite3.connect(dump).execute("select count(*) from notes").fetchone()[0]
    assert count == 100 + kills


@pytest.mark.parametrize("after", [0.05, 0.2, 0.5, 0.8])
def test_b9_killed_by_the_clock_no_restic_goes_on_alone(box: Host, after: float) -> None:
    box.write("/srv/a/data/big", os.urandom(30_000_000))
    box.write_plan()
    child = subprocess.Popen([sys.executable, "-c", _TICK, str(box.base)], cwd=Path(__file__).parents[2])
    while lock.holder(box.root, "data") is None:
        time.sleep(0.01)
    time.sleep(after)
    child.kill()
    child.wait()
    until = time.monotonic() + 8
    while time.monotonic() < until and (left := _processes_naming(str(box.base))):
        time.sleep(0.05)
    assert not left, left
    assert mounts_below(box.base) == []
    assert "error" not in box.tick()


def _locked(box: Host) -> tuple[subprocess.Popen[bytes], Path]:
    """A tick whose restic holds its lock now; and the folder of the locks."""
    box.write("/srv/a/data/big", os.urandom(60_000_000))
    locks = box.at("/store/near/rest/locks")
    child = subprocess.Popen([sys.executable, "-c", _TICK, str(box.base)], cwd=Path(__file__).parents[2])
    while not os.listdir(locks):
        assert child.poll() is None
        time.sleep(0.002)
    return child, locks


def _cut_off(box: Host) -> Path:
    """A tick whose every process is killed while restic holds its lock; gives the folder of the locks."""
    child, locks = _locked(box)
    running = _processes_naming(str(box.base))
    for pid in map(int, running):
        os.kill(pid, signal.SIGKILL)
    child.wait()
    while any(Path("/proc", pid).exists() for pid in running):  # init takes its time with orphans
        time.sleep(0.05)
    assert os.listdir(locks) and box.state().writing
    return locks


def test_b9_a_power_cut_leaves_no_lock_that_a_prune_would_wait_for(box: Host) -> None:
    box.tick()
    locks = _cut_off(box)
    assert "error" not in box.tick()
    assert (os.listdir(locks), box.state().writing) == ([], [])


def test_a_new_machine_without_a_guard_goes_on_after_the_newest_that_anybody_made(box: Host) -> None:
    """Its owner once had a replica, which wrote last; restored from that, its own snapshots are the newer ones."""
    box.tick()
    tags = [arg for tag in ("understudy", "group:rest", "tier:critical", "epoch:4", "seq:90", "service:a")
            for arg in ("--tag", tag)]  # fmt: skip
    box.restic("backup", "--host", "replica", *tags, "--", str(box.at("/srv/a/data")))
    box.at("/var/lib/understudy/backup/state.json").unlink()
    for order in (91, 92):
        reply = box.tick()
        assert "error" not in reply
        (made,) = {row["snapshot"] for row in reply["services"]}
        (snapshot,) = [one for one in box.snapshots() if one["id"] == made]
        assert snapshot["hostname"] == "box"
        assert {"epoch:4", f"seq:{order}"} <= set(snapshot["tags"])


def test_a_lock_that_a_failed_run_left_goes_with_the_next_tick(box: Host) -> None:
    """The store fell silent, restic was ended and could not take its lock back; the tick itself came to its end."""
    box.tick()
    child, locks = _locked(box)
    for pid in _processes_naming(str(box.base)):
        if Path("/proc", pid, "comm").read_text().startswith("restic"):
            os.kill(int(pid), signal.SIGKILL)
    assert child.wait() == 1, "it says so"
    assert len(os.listdir(locks)) == 1 and box.state().writing == ["near/rest"]
    assert "error" not in box.tick()
    assert (os.listdir(locks), box.state().writing) == ([], [])


def test_a_new_host_takes_the_lock_away_only_when_nobody_renews_it(
    box: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its predecessor may be alive, out of reach for us but not for the store. It is asked again at each tick."""
    box.services["b"] = service("b", group="late", tier="optional")
    box.repositories["near"]["tiers"] = ["critical", "optional"]
    box.write("/srv/b/data/note", "b")
    box.prepare()
    box.tick()
    locks = _cut_off(box)
    box.at("/var/lib/understudy/backup/state.json").unlink()
    assert "error" not in box.tick(words=["optional"]), "the first tick is of another group"
    for _ in range(2):
        reply = box.tick()
        assert "error" not in reply and "may still be backing up" in str(reply["warnings"])
        assert len(os.listdir(locks)) == 1
    monkeypatch.setattr(repo_locks, "LIVING", 0.0)
    assert "error" not in box.tick()
    assert (os.listdir(locks), box.state().heir) == ([], [])


def test_the_number_in_a_dead_lock_may_be_anybodys_by_now(box: Host) -> None:
    """After a power cut numbers begin anew: restic would send SIGHUP to whoever has this one, and keep the lock.

    And whoever else backs up from this machine keeps his.
    """
    box.tick()
    repo, locks = opened.open(box.root, box.plan, "near", "rest"), box.at("/store/near/rest/locks")
    with _restic(repo, lock_name.tick("box")) as stranger, _restic(repo, "") as another:
        while len(os.listdir(locks)) < 2:
            assert stranger.poll() is None and another.poll() is None
            time.sleep(0.01)
        state = states.load(box.root)
        state.writing = ["near/rest"]
        state.save(Disk(box.root))
        assert "error" not in box.tick()
        assert stranger.poll() is None, "nobody was signalled"
        left = [
            repo_locks._parsed(restic.run(repo, commands.lock(name), 60).lines) for name in os.listdir(locks)
        ]
    assert [lock["pid"] for lock in left] == [another.pid]


@contextlib.contextmanager
def _restic(repo: restic.Repo, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A backup that waits for its input, and its process number is restic's own."""
    wrapper = lock_name.wrapper(name) if name else []
    child = subprocess.Popen(
        [*wrapper, repo.program, *repo.options, "backup", "--stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **repo.env},
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _processes_naming(word: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            content = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if word.encode() in content and int(pid) != os.getpid():
            found.append(pid)
    return found


def test_a_signal_ends_a_tick_in_order(box: Host) -> None:
    def checkpoint(done: str) -> None:
        if done == "show b":
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(AgentError) as caught:
        box.tick(checkpoint)
    assert caught.value.kind == "interrupted" and signal.getsignal(signal.SIGTERM) == before
    assert mounts_below(box.base) == [] and box.records("tick")[0]["ok"] is False
    assert "error" not in box.tick()


def test_the_epoch_of_the_group_is_in_the_tags_and_a_damaged_one_stops_it(box: Host) -> None:
    box.write(
        "/var/lib/understudy/owner/rest.json",
        json.dumps({"format": 1, "group": "rest", "epoch": 7, "owner": "box"}),
    )
    assert rows(box.tick())["a"]["epoch"] == 7
    box.write("/var/lib/understudy/owner/rest.json", "x")
    assert "owner/rest.json is damaged" in box.tick()["error"]


def test_a_host_with_a_wrong_clock_of_its_own_dates_by_what_it_believes(box: Host) -> None:
    box.write("/var/lib/understudy/clock-offset", "-86400")
    box.tick()
    [snapshot] = box.snapshots()
    assert snapshot["time"][:10] == time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))


def test_no_room_for_dumps_fails_the_service_before_it_is_touched(
    box: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_database(box)
    box.tick()
    free = os.statvfs(box.base).f_bavail * os.statvfs(box.base).f_frsize
    state = box.state()
    state.dumps["a"] = free
    from understudy.agent.disk import Disk

    state.save(Disk(box.root))
    reply = box.tick()
    assert "a: no room for its dumps" in rows(reply)["a"]["error"] and rows(reply)["b"]["ok"]


def test_a_dead_mans_switch_hears_only_of_good_ones(box: Host) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    heard: list[str] = []

    class Switch(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Switch)
    Thread(target=server.serve_forever, daemon=True).start()
    box.write("/etc/understudy/secrets/backup/ping", f"http://127.0.0.1:{server.server_port}/uuid\n")
    box.settings["ping"] = {"critical": "ping"}
    assert box.tick()["ping"] is True and heard == ["/uuid"]
    box.tick(services=["a"])
    box.at("/srv/a/data").rename(box.at("/srv/a/gone"))
    assert box.tick()["ping"] is None
    assert heard == ["/uuid"]
    server.shutdown()
    server.server_close()
    box.at("/srv/a/gone").rename(box.at("/srv/a/data"))
    reply = box.tick()
    assert "error" not in reply and reply["ping"] is False and "refused" in reply["warnings"][0].lower()


def test_b3_b14_what_the_stage_holds_is_for_root_alone(box: Host) -> None:
    with_database(box)
    box.tick()
    for place in (box.at("/var/lib/understudy/stage"), box.stage(), box.stage("a"), box.stage("a/dumps")):
        assert place.stat().st_mode & 0o077 == 0
    files = [p for p in box.at("/run/understudy").rglob("*") if p.is_file()]
    assert files and all(p.stat().st_mode & 0o077 == 0 for p in files)


def test_a_half_restored_service_never_becomes_the_newest_snapshot(box: Host) -> None:
    box.write("/var/lib/understudy/restore/a.json", "{}")
    reply = box.tick()
    assert "its restore was interrupted" in rows(reply)["a"]["error"] and rows(reply)["b"]["ok"]


def test_what_the_plan_no_longer_names_leaves_the_stage(box: Host) -> None:
    with_database(box)
    box.write("/srv/a/.env", "KEY=1\n", 0o600)
    box.services["a"]["config"] = ["/srv/a/.env"]
    box.tick()
    box.services["a"]["config"] = []
    box.services["a"]["databases"] = []
    box.services["a"]["mounts"] = [{"key": "files/other", "kind": "bind", "source": "/srv/a/data"}]
    assert "error" not in box.tick(services=["a"])
    out = box.restored(max(box.snapshots(), key=lambda s: s["time"] + str(s["tags"]))["id"]) / "a"
    assert sorted(str(p.relative_to(out)) for p in out.iterdir()) == [
        "config",
        "data",
        "dumps",
        "manifest.json",
    ]
    assert list((out / "config").iterdir()) == [] and os.listdir(out / "data/files") == ["other"]
    assert (out / "data/files/other/notes.db").exists()


def test_unknown_names_are_refused_before_anything_happens(box: Host) -> None:
    for request, word in (
        ({"services": ["nope"]}, "nope"), ({"words": ["hourly"]}, "hourly"), ({"repositories": ["tape"]}, "tape"),
    ):  # fmt: skip
        with pytest.raises(AgentError, match=word) as caught:
            box.tick(**request)
        assert caught.value.kind == "bad-request"
    assert box.snapshots() == [] and box.records("backup") == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [((100, 10**6, 500), (85, 10**6, 500), False), ((100, 10**6, 500), (75, 10**6, 500), True),
     ((100, 10**6, 500), (100, 7 * 10**5, 500), True), ((100, 10**6, 500), (100, 10**6, 300), True),
     ((3, 1000, 4), (1, 100, 1), False), ((0, 0, None), (5, 5, 5), False), ((100, 10**6, None), (100, 10**6, None), False)],
)  # fmt: skip
def test_what_counts_as_shrinking(before: tuple[Any, ...], after: tuple[Any, ...], said: bool) -> None:
    from understudy.agent.data.state import Good

    good = Good("0" * 64, "rest", "critical", 1, 1, ["a"], 0, 0, 0, *before)
    assert (guards.shrank("a", good, *after, {}) is not None) is said


def test_mounts_of_databases_and_media_are_not_bound() -> None:
    from understudy.agent.data import plan as plans

    raw = {"host": "h", "repositories": {}, "tiers": {}, "services": {"s": {"group": "g", "tier": "t", "mounts": [
        {"key": "files/app", "kind": "bind", "source": "/home/s/app"},
        {"key": "files/db", "kind": "bind", "source": "/home/s/app/db"},
        {"key": "volumes/m", "kind": "volume", "source": "m", "class": "media"},
        {"key": "volumes/x", "kind": "volume", "source": "x", "class": "shared"}],
        "databases": [{"name": "d", "kind": "postgres", "project": "s", "container": "db", "data_mount": "files/db"},
                      {"name": "l", "kind": "sqlite", "mount": "files/app", "path": "*.db"}]}}}  # fmt: skip
    found = plans.parse(raw).services["s"]
    assert [mount.key for mount in stage.bound(found)] == ["files/app", "volumes/x"]
    assert stage.excluded(found) == [
        "files/app/db",
        "files/app/*.db",
        "files/app/*.db-wal",
        "files/app/*.db-shm",
        "files/app/*.db-journal",
    ]
