"""Whole restores with real ticks and a real repository: what comes back, what is refused, what is undone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from putback_world import STATE, World, database, killed_at, rows, service, settle, tree

from understudy.agent import restore
from understudy.agent.errors import AgentError

DATA = "/srv/app/data"
OWNER = (4242, 4343)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A host with one snapshot of a service that has every odd kind of file, and then newer data."""
    found = shutil.which("restic")
    assert found, "restic 0.17 or newer must be on PATH"
    world = World(tmp_path_factory.mktemp("template"))
    world.plan(app=app_service(), other=other_service())
    database(world.at(f"{DATA}/app.db"), 100)
    world.at(f"{DATA}/app.db").chmod(0o640)
    odd_files(world)
    world.write("/srv/app/settings.ini", "then", 0o600)
    world.write("/srv/other/file", "other then")
    world.init()
    world.backup()
    settle()
    change(world)
    return world


def app_service(**more: Any) -> dict[str, Any]:
    raw = service(**more)
    raw["mounts"] = [
        *raw["mounts"],
        {"key": "files/settings.ini", "kind": "bind", "source": "/srv/app/settings.ini", "class": "keep"},
    ]
    return raw


def other_service() -> dict[str, Any]:
    mount = {"key": "files/all", "kind": "bind", "source": "/srv/other", "class": "keep"}
    return {"group": "rest", "tier": "important", "mounts": [mount], "needs": ["app"]}


def odd_files(world: World) -> None:
    world.write(f"{DATA}/a.txt", "then", 0o604)
    os.link(world.at(f"{DATA}/a.txt"), world.at(f"{DATA}/hard"))
    os.symlink("a.txt", world.at(f"{DATA}/soft"))
    os.mkfifo(world.at(f"{DATA}/pipe"))
    for name in ("with blank", "new\nline", "[a]*?", "ünï", "$HOME"):
        world.write(f"{DATA}/{name}", name)
    with open(os.fsencode(str(world.at(DATA))) + b"/not\xffutf8", "w") as stream:
        stream.write("bytes")
    with open(world.write(f"{DATA}/sparse", ""), "r+b") as stream:
        stream.truncate(64 << 20)
        stream.seek(32 << 20)
        stream.write(b"middle")
    os.setxattr(world.write(f"{DATA}/attr"), "user.colour", b"green")
    os.chown(world.write(f"{DATA}/owned"), *OWNER)
    world.at(f"{DATA}/empty").mkdir(mode=0o711)
    world.write(f"{DATA}/cache/thumb", "thumb")
    world.at(f"{DATA}/cache").chmod(0o2775)
    os.chown(world.at(f"{DATA}/cache"), *OWNER)
    world.at(f"{DATA}/cache").chmod(0o2775)
    world.write(f"{DATA}/lib/media/film", "film")
    os.chown(world.at(DATA), *OWNER)
    world.at(DATA).chmod(0o750)


def change(world: World) -> None:
    database(world.at(f"{DATA}/app.db"), 130)
    world.write(f"{DATA}/a.txt", "now")
    world.write(f"{DATA}/added", "now")
    world.at(f"{DATA}/soft").unlink()
    world.write(f"{DATA}/lib/media/second", "film")
    world.at(DATA).chmod(0o700)
    world.write("/srv/app/settings.ini", "now", 0o644)


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    base = tmp_path / "w"
    subprocess.run(["cp", "-a", str(template.base), str(base)], check=True)
    return World(base)


def live(world: World) -> dict[str, Any]:
    return tree(world.at("/srv/app"))


class TestOntoTheHost:
    def test_everything_comes_back_as_it_was_and_the_newer_state_is_kept_beside(self, world: World) -> None:
        before = tree(world.at(DATA))
        row = world.row("app", confirm_loss=True)
        assert row["ok"], row["error"]
        data = world.at(DATA)
        assert rows(data / "app.db") == 100 and row["rows"] == {"db": {"notes": 100}}
        assert (data / "a.txt").read_text() == "then" and not (data / "added").exists()
        assert (data / "a.txt").stat().st_ino == (data / "hard").stat().st_ino
        assert os.readlink(data / "soft") == "a.txt"
        assert {"with blank", "new\nline", "[a]*?", "ünï", "$HOME"} <= set(os.listdir(data))
        assert b"not\xffutf8" in os.listdir(os.fsencode(str(data)))
        sparse = (data / "sparse").stat()
        assert sparse.st_size == 64 << 20 and sparse.st_blocks * 512 < 8 << 20
        assert os.getxattr(data / "attr", "user.colour") == b"green"
        assert (data / "owned").stat().st_uid == OWNER[0] and (data / "owned").stat().st_gid == OWNER[1]
        assert (data / "empty").stat().st_mode & 0o7777 == 0o711 and (data / "pipe").is_fifo()
        assert (data.stat().st_mode & 0o7777, data.stat().st_uid) == (0o750, OWNER[0])
        assert (data / "app.db").stat().st_mode & 0o7777 == 0o640
        settings = world.at("/srv/app/settings.ini")
        assert settings.read_text() == "then" and settings.stat().st_mode & 0o7777 == 0o600
        self.assert_kept(world, row, before)

    def assert_kept(self, world: World, row: dict[str, Any], before: dict[str, Any]) -> None:
        old = tree(world.at(row["old"][0]))
        assert old["app.db"] == before["app.db"] and old["added"] == before["added"]
        assert world.journals() == [] and not world.at("/srv/app/.understudy-restore").exists()
        record = world.ledger()[-1]
        assert record["ok"] and record["service"] == "app" and record["files"] == row["files"] > 5
        assert record["rows"] == {"db": {"notes": 100}} and "swap" in record["phases"]
        assert not list(world.at(f"{STATE}/restore/work").iterdir())

    def test_caches_are_empty_with_owner_and_mode_and_media_stays(self, world: World) -> None:
        row = world.row("app", confirm_loss=True)
        assert row["ok"], row["error"]
        cache = world.at(f"{DATA}/cache")
        assert list(cache.iterdir()) == []
        assert (cache.stat().st_mode & 0o7777, cache.stat().st_uid) == (0o2775, OWNER[0])
        assert sorted(os.listdir(world.at(f"{DATA}/lib/media"))) == ["film", "second"]

    def test_a_second_restore_keeps_the_first_old_copy(self, world: World) -> None:
        first = world.row("app", confirm_loss=True)
        second = world.row("app", confirm_loss=True)
        assert first["ok"] and second["ok"] and set(first["old"]).isdisjoint(second["old"])
        assert world.at(f"{first['old'][0]}/added").read_text() == "now"

    def test_old_copies_go_when_their_time_is_over(self, world: World) -> None:
        first = world.row("app", confirm_loss=True, keep_old_days=0)
        assert world.at(f"{first['old'][0]}/added").exists()
        second = world.row("app", confirm_loss=True)
        assert second["ok"] and not list(world.at("/srv/app").glob(".understudy-old-*/data/added"))
        assert len(list(world.at("/srv/app").glob(".understudy-old-*/data"))) == 1

    def test_a_stale_wal_beside_the_database_does_not_survive(self, world: World) -> None:
        place = world.at(f"{DATA}/app.db")
        database(place, 40, wal=True)
        holder = sqlite3.connect(place)
        holder.execute("INSERT INTO notes (text) VALUES ('only in the log')")
        holder.commit()
        assert Path(f"{place}-wal").stat().st_size > 0
        row = world.row("app", confirm_loss=True)
        holder.close()
        assert row["ok"] and rows(place) == 100
        assert not Path(f"{place}-wal").exists() and not Path(f"{place}-shm").exists()

    def test_several_services_come_by_one_run_in_the_order_they_need(self, world: World) -> None:
        world.write("/srv/other/file", "other now")
        reply = world.restore(confirm_loss=True)
        assert [(row["service"], row["ok"]) for row in reply["services"]] == [("app", True), ("other", True)]
        assert (
            world.at("/srv/other/file").read_text() == "other then"
            and rows(world.at(f"{DATA}/app.db")) == 100
        )
        assert reply["services"][0]["phases"]["files"] == reply["services"][1]["phases"]["files"]

    def test_a_host_that_lost_the_data_gets_it_all(self, world: World) -> None:
        shutil.rmtree(world.at(DATA))
        world.at("/srv/app/settings.ini").unlink()
        row = world.row("app")
        assert row["ok"], row["error"]
        assert (
            rows(world.at(f"{DATA}/app.db")) == 100
            and world.at("/srv/app/settings.ini").read_text() == "then"
        )
        assert row["old"] == [] and not list(world.at("/srv/app").glob(".understudy-*"))

    def test_the_container_may_hold_the_folder_open(self, world: World) -> None:
        held = os.open(world.at(DATA), os.O_RDONLY | os.O_DIRECTORY)
        row = world.row("app", confirm_loss=True)
        assert row["ok"], row["error"]
        assert "soft" in os.listdir(held), "the folder itself stays, only its content is exchanged"
        os.close(held)


class TestMountPoints:
    @pytest.fixture
    def bound(self, world: World) -> Iterator[World]:
        """The data folder is a mount point: the content of another folder is bound there."""
        real = world.at("/mnt/disk")
        real.parent.mkdir()
        world.at(DATA).rename(real)
        world.at(DATA).mkdir()
        subprocess.run(["mount", "--bind", str(real), str(world.at(DATA))], check=True)
        yield world
        subprocess.run(["umount", str(world.at(DATA))], check=True)

    def test_the_content_of_a_mount_point_is_exchanged_inside_it(self, bound: World) -> None:
        row = bound.row("app", confirm_loss=True)
        assert row["ok"], row["error"]
        assert rows(bound.at("/mnt/disk/app.db")) == 100
        assert row["old"][0].startswith(f"{DATA}/.understudy-old-")
        assert not bound.at(f"{DATA}/.understudy-restore").exists()
        again = bound.row("app", dry_run=True)
        assert again["newer"]["rows"] == {} and not [
            p for p in again["newer"]["examples"] if ".understudy" in p
        ]

    def test_what_is_mounted_inside_stays_mounted(self, world: World, tmp_path: Path) -> None:
        (tmp_path / "usb").mkdir()
        (tmp_path / "usb/file").write_text("on the disk")
        world.at(f"{DATA}/empty").chmod(0o700)
        subprocess.run(["mount", "--bind", str(tmp_path / "usb"), str(world.at(f"{DATA}/empty"))], check=True)
        try:
            row = world.row("app", confirm_loss=True)
            assert row["ok"], row["error"]
            assert world.at(f"{DATA}/empty/file").read_text() == "on the disk"
            assert rows(world.at(f"{DATA}/app.db")) == 100
        finally:
            subprocess.run(["umount", str(world.at(f"{DATA}/empty"))], check=True)

    def test_a_link_as_source_leads_to_the_data(self, world: World) -> None:
        world.at("/srv/real").mkdir()
        world.at(DATA).rename(world.at("/srv/real/data"))
        os.symlink("../real/data", world.at(DATA))
        row = world.row("app", confirm_loss=True)
        assert row["ok"], row["error"]
        assert world.at(DATA).is_symlink() and rows(world.at("/srv/real/data/app.db")) == 100


class TestRefusals:
    def untouched(self, world: World, **more: Any) -> dict[str, Any]:
        before = tree(world.at("/srv"), times=True)
        row = world.row("app", **more)
        assert not row["ok"] and tree(world.at("/srv"), times=True) == before
        assert world.journals() == [] and not list(world.at("/srv/app").glob(".understudy-*"))
        return row

    def test_newer_data_is_shown_and_asked_for(self, world: World) -> None:
        row = self.untouched(world)
        assert row["kind"] == "refused" and "+30 rows in db.notes" in row["error"]
        assert f"{DATA}/added" in row["newer"]["examples"] and row["newer"]["files"] == 4
        assert row["newer"]["rows"] == {"db": {"notes": 30}}

    def test_a_dry_run_changes_nothing_and_says_what_would_be(self, world: World) -> None:
        before = tree(world.at("/srv/app"), times=True)
        row = world.row("app", dry_run=True)
        assert tree(world.at("/srv/app"), times=True) == before
        assert row["ok"] and row["fits"] and row["mode"] == "swap" and row["age"] > 0
        assert row["would"]["rows"] == {"db": {"notes": 100}} and row["space"][0]["free"] > 0
        assert row["newer"]["files"] == 4 and world.ledger() == []
        assert not list(world.at(f"{STATE}/restore/work").iterdir())

    def test_a_newer_version_is_refused_until_allowed(self, template: World, tmp_path: Path) -> None:
        world = manifest_changed(
            template,
            tmp_path,
            lambda m: m.update(images={"web": {"image": "shop/app:2.1", "digest": "", "id": ""}}),
        )
        world.plan(app=app_service(images={"web": "shop/app:2.0.9"}), other=other_service())
        row = self.untouched(world, confirm_loss=True)
        assert row["kind"] == "version" and "Declare 2.1 and converge" in row["error"]
        assert world.row("app", confirm_loss=True, allow_version=True)["ok"]

    def test_a_dump_that_is_not_the_one_of_its_manifest_is_found(
        self, template: World, tmp_path: Path
    ) -> None:
        def spoil(manifest: dict[str, Any]) -> None:
            manifest["databases"]["db"]["sha256"] = "0" * 64

        row = self.refused_but_clean(manifest_changed(template, tmp_path, spoil))
        assert row["kind"] == "mismatch" and "take another snapshot" in row["error"]

    def test_rows_that_differ_from_the_manifest_are_found(self, template: World, tmp_path: Path) -> None:
        def spoil(manifest: dict[str, Any]) -> None:
            manifest["databases"]["db"]["rows"] = {"notes": 101}

        row = self.refused_but_clean(manifest_changed(template, tmp_path, spoil))
        assert row["kind"] == "mismatch" and "notes: 101 dumped, 100 loaded" in row["error"]

    def test_a_full_disk_offers_in_place(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        from understudy.agent.putback import room

        monkeypatch.setattr(room, "_RESERVE", 1 << 60)
        row = self.untouched(world, confirm_loss=True)
        assert row["kind"] == "space" and "restore with in_place" in row["error"]

    @pytest.mark.parametrize("kind", ["setuid", "link"])
    def test_what_an_intruder_could_plant_is_refused_and_what_the_owner_has_is_not(
        self, template: World, tmp_path: Path, kind: str
    ) -> None:
        world = World(tmp_path / "w")
        subprocess.run(["cp", "-a", str(template.base), str(world.base)], check=True)
        place = world.at(f"{DATA}/planted")
        if kind == "link":
            os.symlink("/etc/shadow", place)
        else:
            shutil.copy("/bin/true", place)
            place.chmod(0o4755)
        world.backup("app")
        assert world.row("app", dry_run=False, confirm_loss=True)["ok"], (
            "it is there live, so it is the owner's"
        )
        place.unlink()
        row = self.refused_but_clean(world)
        assert "planted" in row["error"] and row["kind"] == "refused"
        assert world.row("app", confirm_loss=True, allow_special=True)["ok"] and os.path.lexists(place)

    def refused_but_clean(self, world: World) -> dict[str, Any]:
        before = tree(world.at("/srv/app"), times=False)
        row = world.row("app", confirm_loss=True)
        assert not row["ok"] and tree(world.at("/srv/app")) == before and world.journals() == []
        return row

    def test_device_nodes_are_never_restored(self, world: World) -> None:
        os.mknod(world.at(f"{DATA}/null"), 0o20666, os.makedev(1, 3))
        world.backup("app")
        row = self.untouched(world, confirm_loss=True, allow_special=True)
        assert "device node data/files/data/null" in row["error"]

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"services": ["nobody"]}, "nobody is not in this host's plan"),
            ({"paths": ["x"]}, "give 'to' as well"),
            ({"in_place": True, "to": "/x"}, "contradict"),
            ({"confirm": True}, "knows no 'confirm'"),
            ({"to": "relative"}, "not an absolute path"),
            ({"snapshot": "ab", "time": 1}, "not both"),
            ({"dry_run": "yes"}, "does not fit"),
        ],
    )
    def test_wrong_requests(self, world: World, values: dict[str, Any], words: str) -> None:
        with pytest.raises(AgentError, match=words) as caught:
            restore.run(values, world.root)
        assert caught.value.kind == "bad-request"


def manifest_changed(template: World, tmp_path: Path, change: Any) -> World:
    """A host whose newest snapshot has another manifest, made with restic itself."""
    world = World(tmp_path / "changed")
    subprocess.run(["cp", "-a", str(template.base), str(world.base)], check=True)
    place = world.at(f"{STATE}/stage/rest/app/manifest.json")
    manifest = json.loads(place.read_text())
    change(manifest)
    place.write_text(json.dumps(manifest))
    env = {
        **os.environ,
        "RESTIC_PASSWORD": "correct horse",
        "RESTIC_REPOSITORY": str(world.at("/srv/repo/rest")),
        "RESTIC_CACHE_DIR": str(world.at("/var/cache/understudy/restic")),
    }
    tags = ["understudy", "group:rest", "tier:important", "epoch:1", "seq:99", "service:app"]
    argv = [
        "restic",
        "backup",
        "-q",
        "--host",
        "scratch",
        *(w for tag in tags for w in ("--tag", tag)),
        "app",
    ]
    subprocess.run(argv, env=env, cwd=world.at(f"{STATE}/stage/rest"), check=True)
    return world


class TestUndo:
    def test_a_service_that_does_not_serve_gets_its_old_data_back(self, world: World) -> None:
        probe = {"name": "app", "url": "tcp://127.0.0.1:9", "wait": 0}
        world.plan(app=app_service(probes=[probe]), other=other_service())
        before = live(world)
        row = world.row("app", confirm_loss=True)
        assert not row["ok"] and row["kind"] == "probe"
        assert "does not serve the restored data" in row["error"] and row["error"].endswith(
            "serves as before"
        )
        assert live(world) == before and world.journals() == []
        assert world.ledger()[-1]["ok"] is False

    def test_a_service_that_serves_is_probed_from_the_address_the_fence_lets_through(
        self, world: World
    ) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            probe = {"name": "app", "url": f"tcp://127.0.0.1:{server.getsockname()[1]}", "wait": 0}
            world.plan(app=app_service(probes=[probe]), other=other_service())
            row = world.row("app", confirm_loss=True)
            assert row["ok"], row["error"]
            assert server.accept()[1][0] == "127.0.0.254"

    def test_a_hook_that_fails_before_the_start_undoes_it_and_one_after_the_commit_is_reported(
        self, world: World
    ) -> None:
        hook = {"service": "", "run": ["sh", "-c", "echo no way >&2; exit 3"]}
        world.plan(app=app_service(hooks={"after_load": [hook]}), other=other_service())
        before = live(world)
        row = world.row("app", confirm_loss=True)
        assert not row["ok"] and "no way" in row["error"] and live(world) == before
        world.plan(app=app_service(hooks={"after_rollback": [hook]}), other=other_service())
        row = world.row("app", confirm_loss=True)
        assert row["ok"] and "no way" in row["hooks_failed"][0] and rows(world.at(f"{DATA}/app.db")) == 100

    @pytest.mark.parametrize(
        "done", ["mkdir /srv/app/.understudy-restore/app.data", "rename /srv/app/data/app.db", "start app"]
    )
    def test_killed_in_a_whole_restore_the_next_one_works(self, world: World, done: str) -> None:
        before = live(world)
        assert killed_at(done, lambda kill: world.restore("app", confirm_loss=True, checkpoint=kill)) == done
        assert world.journals() == ["app.json"]
        reply = world.restore("app", confirm_loss=True)
        assert [r["outcome"] for r in reply["resumed"]] == ["finished" if done == "start app" else "undone"]
        assert reply["services"][0]["ok"] and rows(world.at(f"{DATA}/app.db")) == 100
        assert live(world) != before and not list(world.at(f"{STATE}/restore/work").iterdir())


class TestToAFolder:
    def test_no_service_is_touched_and_the_tree_is_whole(self, world: World) -> None:
        before = tree(world.at("/srv/app"), times=True)
        row = world.row("app", to="/scratch/out")
        assert row["ok"], row["error"]
        assert tree(world.at("/srv/app"), times=True) == before
        out = world.at("/scratch/out/app")
        assert rows(out / "data/files/data/app.db") == 100 and (out / "manifest.json").exists()
        assert (out / "data/files/data/cache").is_dir() and (
            out / "data/files/settings.ini"
        ).read_text() == "then"
        assert sorted(os.listdir(world.at("/scratch/out"))) == ["app"]

    def test_never_over_something(self, world: World) -> None:
        world.write("/scratch/out/mine", "mine")
        with pytest.raises(AgentError, match="is not empty"):
            world.restore("app", to="/scratch/out")
        assert world.at("/scratch/out/mine").read_text() == "mine"

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("files/data/with*", {"with blank"}),
            ("web:/data/a.txt", {"a.txt"}),
            ("files/data/**/a.*", {"a.txt"}),
            ("web:/data/lib", set()),
        ],
    )
    def test_single_files_by_key_or_by_the_path_in_the_container(
        self, world: World, pattern: str, found: set[str]
    ) -> None:
        row = world.row("app", to="/scratch/out", paths=[pattern])
        base = world.at("/scratch/out/app/data/files/data")
        names = {p.name for p in base.rglob("*") if p.is_file()} if base.exists() else set()
        assert names == found
        assert row["ok"] == bool(found), row["error"]
        if not found:
            assert row["kind"] == "no-match"


class TestWhichSnapshot:
    def test_by_order_by_time_and_by_id(self, world: World) -> None:
        first = world.row("app", dry_run=True)["snapshot"]
        between = time.time()
        time.sleep(1.1)
        second = world.backup("app")["services"][0]["snapshot"]
        assert world.row("app", dry_run=True)["snapshot"] == second
        assert world.row("app", dry_run=True, time=between)["snapshot"] == first
        assert world.row("app", dry_run=True, snapshot=first[:10])["snapshot"] == first
        # All services of the plan, by id: those that are in the snapshot are meant.
        reply = world.restore(dry_run=True, snapshot=second)
        assert [row["service"] for row in reply["services"]] == ["app"]
        assert world.row("app", dry_run=True, time=5)["kind"] == "no-snapshot"

    def test_a_newest_one_that_is_the_loss_itself_is_refused_with_both_ways_on(self, world: World) -> None:
        for number in range(60):
            world.write(f"{DATA}/photos/{number}", os.urandom(4000))
        whole = world.backup("app")["services"][0]["snapshot"]
        subprocess.run(["rm", "-r", str(world.at(f"{DATA}/photos"))], check=True)
        with pytest.raises(AssertionError, match="app shrank by"):
            world.backup("app")
        lost = world.backup("app")["services"][0][
            "snapshot"
        ]  # an unremarkable tick, after the one that alarmed
        before = tree(world.at("/srv/app"))
        for asked in ({}, {"dry_run": True}, {"in_place": True}):
            row = world.row("app", confirm_loss=True, **asked)
            assert (row["ok"], row["kind"]) == (False, "refused")
            said = row["error"]
            assert (
                f"--snapshot {whole[:8]}" in said and f"--snapshot {lost[:8]}" in said and "shrank by" in said
            )
        assert tree(world.at("/srv/app")) == before
        assert world.row("app", to="/elsewhere")["snapshot"] == lost, "a folder of its own loses nothing"
        assert world.row("app", dry_run=True, snapshot=lost[:8])["ok"]
        assert world.row("app", confirm_loss=True, snapshot=whole[:8])["ok"]
        world.backup("app")
        assert world.row("app", dry_run=True)["ok"], "what grew back is no loss any more"


class TestInPlace:
    def test_the_live_folder_becomes_the_snapshot_after_a_fresh_one_was_made(self, world: World) -> None:
        first = world.row("app", dry_run=True)["snapshot"]
        # The newest of before the fresh one: that is no state to go back to.
        row = world.row("app", in_place=True, confirm_loss=True)
        assert row["ok"] and row["snapshot"] == first, row["error"]
        assert rows(world.at(f"{DATA}/app.db")) == 100 and not world.at(f"{DATA}/added").exists()
        assert sorted(os.listdir(world.at(f"{DATA}/lib/media"))) == ["film", "second"], "media is not deleted"
        assert (
            world.at(f"{DATA}/soft").is_symlink() and world.at("/srv/app/settings.ini").read_text() == "then"
        )
        assert len([r for r in world.ledger("backup") if r["service"] == "app"]) == 2

    def test_when_it_does_not_serve_the_fresh_snapshot_is_put_back(self, world: World) -> None:
        first = world.row("app", dry_run=True)["snapshot"]
        probe = {"name": "app", "url": "tcp://127.0.0.1:9", "wait": 0}
        world.plan(app=app_service(probes=[probe]), other=other_service())
        row = world.row("app", in_place=True, confirm_loss=True, snapshot=first)
        assert not row["ok"] and row["kind"] == "probe", row["error"]
        assert rows(world.at(f"{DATA}/app.db")) == 130 and world.at(f"{DATA}/added").read_text() == "now"
        assert world.at("/srv/app/settings.ini").read_text() == "now" and world.journals() == []

    def test_killed_with_mixed_files_the_fresh_snapshot_is_put_back(self, world: World) -> None:
        first = world.row("app", dry_run=True)["snapshot"]
        asked = {"in_place": True, "confirm_loss": True, "snapshot": first}
        assert killed_at("place db", lambda kill: world.restore("app", checkpoint=kill, **asked))
        assert rows(world.at(f"{DATA}/app.db")) == 100
        from understudy.agent import recover
        from understudy.agent.putback import journal

        assert recover.run({}, world.root)["restores"][0]["outcome"] == "fenced"
        assert journal.resume(world.root)[0]["outcome"] == "undone"
        assert rows(world.at(f"{DATA}/app.db")) == 130 and world.at(f"{DATA}/added").read_text() == "now"
