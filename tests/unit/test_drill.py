"""Drills of what needs no Docker, with a real repository; and the places that a scratch copy gets."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from tick_world import Host, repository, require_restic, service, sqlite_file

from understudy.agent import drill, lock
from understudy.agent.data import ledger
from understudy.agent.data import plan as plans
from understudy.agent.errors import AgentError
from understudy.agent.root import Root
from understudy.agent.scratch import cleanup, copies, leftovers
from understudy.agent.scratch.model import Wanted

DATABASE = {"name": "notes.db", "kind": "sqlite", "mount": "files/data", "path": "notes.db"}


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A host with one service, backed up once."""
    require_restic()
    box = Host(tmp_path_factory.mktemp("box") / "host", {"notes": service("notes", databases=[DATABASE])})
    box.repositories = {"near": repository()}
    box.write("/srv/notes/data/a.txt", "one")
    box.write("/srv/notes/data/deep/b.txt", "two" * 1000)
    sqlite_file(box.at("/srv/notes/data/notes.db"), 7)
    box.prepare()
    reply = box.tick()
    assert "error" not in reply, reply
    return box


@pytest.fixture
def host(backed_up: Host, tmp_path: Path) -> Host:
    """A copy of it for one test."""
    shutil.copytree(backed_up.base, tmp_path / "host", symlinks=True)
    box = Host(tmp_path / "host", json.loads(json.dumps(backed_up.services)), backed_up.repositories)
    box.write_plan()
    return box


def tree(folder: Path) -> dict[str, Any]:
    """Content, mode and times of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (info.st_mode, info.st_mtime_ns, info.st_ctime_ns, info.st_size, content)
    return found


def last(host: Host) -> dict[str, Any]:
    return next(record for record in ledger.records(host.root) if record["kind"] == "drill")


def test_a_drill_proves_the_data_and_touches_nothing_live(host: Host) -> None:
    before = tree(host.at("/srv"))
    reply = drill.run({}, host.root)
    assert "error" not in reply and reply["skipped"] is None
    record = last(host)
    assert record["ok"] and record["error"] is None and record["scope"] == "data"
    assert record["rows"] == 7 and record["databases"] == {"notes.db": 7} and record["files"] >= 4
    assert set(record["phases"]) == {"choose", "restore", "check", "remove"}
    assert (record["service"], record["group"], record["tier"]) == ("notes", "rest", "critical")
    assert len(record["snapshot"]) == 64 and record["repository"] == "near"
    assert record["notes"] == ["plain files: the data was restored and compared, nothing was started"]
    assert tree(host.at("/srv")) == before
    assert not host.at(leftovers.DRILLS).exists()


def test_rows_that_differ_from_the_manifest_fail_and_go_to_the_ledger(host: Host) -> None:
    """A snapshot with a dump that is whole, and has fewer rows than were counted when it was made."""
    stage = host.at("/var/lib/understudy/stage/rest/notes")
    with sqlite3.connect(stage / "dumps" / "notes.db.sqlite") as database:
        database.execute("DELETE FROM notes WHERE id = 1")
    database.close()
    manifest = json.loads((stage / "manifest.json").read_text())
    digest = hashlib.sha256((stage / "dumps" / "notes.db.sqlite").read_bytes()).hexdigest()
    manifest["databases"]["notes.db"]["sha256"] = digest
    (stage / "manifest.json").write_text(json.dumps(manifest))
    again(host, stage)
    reply = drill.run({}, host.root)
    assert "notes: 7 dumped, 6 loaded" in reply["error"] and last(host)["ok"] is False
    assert not host.at(leftovers.DRILLS).exists()


def again(host: Host, stage: Path) -> None:
    """A next snapshot from the stage as it is now."""
    tags = ["understudy", "group:rest", "tier:critical", "epoch:1", "seq:99", "service:notes"]
    words = [word for tag in tags for word in ("--tag", tag)]
    host.restic("backup", "--quiet", *words, "notes", cwd=stage.parent)


def test_a_dump_that_is_not_the_manifests_fails(host: Host) -> None:
    stage = host.at("/var/lib/understudy/stage/rest/notes")
    (stage / "dumps" / "notes.db.sqlite").write_bytes(b"something else")
    again(host, stage)
    assert "is not the one its manifest names" in drill.run({}, host.root)["error"]


def test_a_database_that_no_snapshot_holds_fails(host: Host) -> None:
    host.services["notes"]["databases"].append({**DATABASE, "name": "more.db", "path": "more.db"})
    host.write_plan()
    assert drill.run({}, host.root)["error"] == "notes: the snapshot lacks the database more.db"


def test_a_manifest_that_leads_out_of_its_folder_fails(host: Host) -> None:
    stage = host.at("/var/lib/understudy/stage/rest/notes")
    manifest = json.loads((stage / "manifest.json").read_text())
    manifest["caches"] = [{"path": "data/../../../../../../escaped", "owner": [0, 0, 0o755]}]
    (stage / "manifest.json").write_text(json.dumps(manifest))
    again(host, stage)
    assert "leads out of the snapshot's folder" in drill.run({}, host.root)["error"]
    assert not list(host.base.rglob("escaped"))


def test_what_is_too_big_is_refused_before_it_is_fetched(host: Host) -> None:
    host.settings = {"drill_budget_bytes": 4096}
    host.write_plan()
    reply = drill.run({}, host.root)
    assert "a drill may take 0.0 GiB: raise drill_budget_bytes" in reply["error"]
    assert "restore" not in reply["services"][0]["phases"]


def test_one_that_fails_does_not_stop_the_others(host: Host) -> None:
    host.services = {"absent": service("absent"), **host.services}
    host.write_plan()
    reply = drill.run({}, host.root)
    assert [report["ok"] for report in reply["services"]] == [False, True]
    assert "no snapshot holds absent" in reply["error"] and reply["kind"] == "failed"


def test_only_critical_services_are_drilled_by_timer(host: Host) -> None:
    host.services["notes"]["tier"] = "optional"
    host.write_plan()
    assert drill.run({}, host.root)["services"] == []
    assert drill.run({"services": ["notes"]}, host.root)["services"][0]["ok"]


def test_an_unknown_service_is_named(host: Host) -> None:
    with pytest.raises(AgentError, match="nots is not in this host's plan; it holds notes"):
        drill.run({"words": ["nots"]}, host.root)


def test_no_drill_while_a_restore_runs_or_is_unfinished(host: Host) -> None:
    with lock.exclusive(host.root, "data", "restore of notes", 0, print):
        assert "restore of notes" in drill.run({}, host.root)["skipped"]
    host.write("/var/lib/understudy/restore/notes.json", "{}")
    reply = drill.run({}, host.root)
    assert reply["skipped"] == "no drill now: the restore of notes is not finished" and not reply["services"]
    assert all(record["kind"] != "drill" for record in ledger.records(host.root))


def test_a_tick_and_a_drill_do_not_wait_for_each_other(host: Host) -> None:
    with lock.exclusive(host.root, "data", "backup critical", 0, print):
        assert drill.run({}, host.root)["services"][0]["ok"]
    with lock.exclusive(host.root, "drill", "drill", 0, print):
        assert "error" not in host.tick()


def test_leftovers_go_with_the_next_drill_and_with_lift(host: Host) -> None:
    host.write(f"{leftovers.DRILLS}/notes/restored/x/y", "left by a kill")
    assert cleanup(host.root) == ["notes"] and not host.at(leftovers.DRILLS).exists()
    assert cleanup(host.root) == []
    host.write(f"{leftovers.DRILLS}/gone/restored/x/y", "left by a kill")
    assert drill.run({}, host.root)["services"][0]["ok"]
    assert not host.at(leftovers.DRILLS).exists()


def test_leftovers_of_a_drill_that_runs_are_not_touched(host: Host) -> None:
    place = host.write(f"{leftovers.DRILLS}/notes/x")
    with lock.exclusive(host.root, "drill", "drill", 0, print):
        assert cleanup(host.root) == []
    assert place.exists()


def test_what_a_leftover_links_to_stays(host: Host) -> None:
    os.makedirs(host.at(f"{leftovers.DRILLS}/notes/restored"))
    os.symlink(host.at("/srv"), host.at(f"{leftovers.DRILLS}/notes/restored/link"))
    os.symlink(host.at("/srv"), host.at(f"{leftovers.DRILLS}/direct"))
    before = tree(host.at("/srv"))
    assert cleanup(host.root) == ["direct", "notes"]
    assert tree(host.at("/srv")) == before


# Places of a scratch copy.

FOLDER = "/var/lib/understudy/drill/cloud/restored/cloud"


def cloud(*mounts: dict[str, Any]) -> plans.Service:
    raw = {"group": "rest", "tier": "critical", "mounts": list(mounts)}
    return plans.parse({"host": "box", "services": {"cloud": raw}, "repositories": {}, "tiers": {}}).services[
        "cloud"
    ]


def mount(key: str, source: str, class_: str = "keep", kind: str = "bind") -> dict[str, Any]:
    return {"key": key, "source": source, "class": class_, "kind": kind}


def put(root: Root, path: str, content: str = "x", mode: int = 0o644) -> Path:
    place = Path(root.at(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)
    place.chmod(mode)
    return place


def test_restored_data_is_used_where_the_snapshot_holds_it(tmp_path: Path) -> None:
    root, notes = Root(str(tmp_path)), list[str]()
    put(root, f"{FOLDER}/data/files/data/sub/a")
    put(root, f"{FOLDER}/data/volumes/up/a")
    own = cloud(mount("files/data", "/srv/c/data"), mount("volumes/up", "cloud_up", kind="volume"))
    wanted = Wanted(
        {"/srv/c/data": False, "/srv/c/data/sub": False}, {"up": "cloud_up", "other": "cloud_other"}
    )
    found = copies.place(root, own, wanted, {}, FOLDER, notes)
    data = root.at(f"{FOLDER}/data/files/data")
    assert found.binds == {"/srv/c/data": data, "/srv/c/data/sub": f"{data}/sub"}
    assert found.volumes["up"] == root.at(f"{FOLDER}/data/volumes/up")
    assert os.listdir(found.volumes["other"]) == [] and notes == []


def test_what_no_snapshot_holds_is_empty_with_its_owner(tmp_path: Path) -> None:
    """A snapshot shows what a tick leaves out as an empty folder of the agent's own, closed to the service."""
    root = Root(str(tmp_path))
    put(root, "/srv/c/db/PG_VERSION", "16")
    os.makedirs(root.at(f"{FOLDER}/data/files/db"), 0o700)
    manifest = {"mounts": {"files/db": {"owner": [os.getuid(), os.getgid(), 0o750]}}}
    own = cloud(mount("files/db", "/srv/c/db", "none"))
    found = copies.place(root, own, Wanted({"/srv/c/db": False}), manifest, FOLDER, [])
    assert os.listdir(found.binds["/srv/c/db"]) == []
    assert stat.S_IMODE(os.stat(found.binds["/srv/c/db"]).st_mode) == 0o750


def test_what_containers_only_read_is_copied_from_this_host(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    put(root, "/srv/c/conf/a.conf", "a", 0o640)
    os.symlink("/etc/shadow", root.at("/srv/c/conf/link"))
    put(root, "/usr/share/zone", "zone")
    os.makedirs(root.at("/etc"))
    os.symlink(root.at("/usr/share/zone"), root.at("/etc/localtime"))
    put(root, "/srv/media/film", "film")
    wanted = Wanted({"/srv/c/conf": True, "/etc/localtime": True, "/srv/media": True})
    own = cloud(mount("paths/srv/media", "/srv/media", "media"))
    found = copies.place(root, own, wanted, {}, FOLDER, [])
    copied = Path(found.binds["/srv/c/conf"])
    assert (copied / "a.conf").read_text() == "a" and stat.S_IMODE(
        (copied / "a.conf").stat().st_mode
    ) == 0o640
    assert os.readlink(copied / "link") == "/etc/shadow"
    assert Path(found.binds["/etc/localtime"]).read_text() == "zone"
    assert not os.path.islink(found.binds["/etc/localtime"])
    assert os.listdir(found.binds["/srv/media"]) == []


def test_what_is_written_and_in_no_plan_starts_empty(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    put(root, "/srv/c/run/state")
    found = copies.place(root, cloud(), Wanted({"/srv/c/run": False}), {}, FOLDER, [])
    assert os.listdir(found.binds["/srv/c/run"]) == []


def test_a_big_folder_is_not_copied_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, notes = Root(str(tmp_path)), list[str]()
    put(root, "/srv/c/conf/a", "x" * 100)
    monkeypatch.setattr(copies, "MOST_BYTES", 50)
    found = copies.place(root, cloud(), Wanted({"/srv/c/conf": True}), {}, FOLDER, notes)
    assert os.listdir(found.binds["/srv/c/conf"]) == [] and "too big to copy" in notes[0]


def test_secrets_are_copied_for_their_owner_alone(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    source = put(root, "/etc/understudy/secrets/cloud/KEY", "word", 0o400)
    if os.getuid() == 0:
        os.chown(source, 33, 33)
    wanted = Wanted(files={"secrets/key": "/etc/understudy/secrets/cloud/KEY"})
    found = copies.place(root, cloud(), wanted, {}, FOLDER, [])
    info = os.stat(found.files["secrets/key"])
    assert Path(found.files["secrets/key"]).read_text() == "word"
    assert stat.S_IMODE(info.st_mode) == 0o400 and info.st_uid == source.stat().st_uid


def test_a_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    wanted = Wanted(files={"secrets/key": "/etc/understudy/secrets/cloud/KEY"})
    with pytest.raises(
        AgentError, match=r"/etc/understudy/secrets/cloud/KEY cannot be read: .*: converge this host"
    ):
        copies.place(Root(str(tmp_path)), cloud(), wanted, {}, FOLDER, [])
