"""What an apply refuses: before anything on the host has changed."""

from __future__ import annotations

import base64
import os

import pytest

from understudy.agent import apply, mounts
from understudy.agent.errors import AgentError
from understudy.agent.look import fingerprint, record

from .world import STATE, Tree, Want, World, folder, refused, request, to

TREE: Tree = {
    "/etc/app": folder(0o750),
    "/etc/app/app.conf": Want(b"port = 1\n", 0o640, reaction="unit:app.service stack:app"),
    "/etc/app/current": to("app.conf"),
}


class TestRefusals:
    def test_folder_that_holds_data_where_a_file_should_be(self, world: World) -> None:
        world.write("/etc/app/data.db", "rows")
        error = refused(world, {"/etc/ok": Want(b"1"), "/etc/app": Want(b"2")})
        assert "/etc/app should be a file and is a directory that holds data" in error.sentence

    def test_file_where_a_folder_should_be(self, world: World) -> None:
        world.write("/etc/app", "x")
        assert (
            "/etc/app should be a directory and is a file" in refused(world, {"/etc/app": folder()}).sentence
        )
        assert "/etc/app is not a directory" in refused(world, {"/etc/app/x": Want(b"")}).sentence

    def test_link_where_a_folder_should_be(self, world: World) -> None:
        world.at("/srv").mkdir()
        world.at("/etc/app").symlink_to(world.at("/srv"))
        assert "is a symbolic link to" in refused(world, {"/etc/app": folder()}).sentence

    def test_pipe_is_not_replaced(self, world: World) -> None:
        os.mkfifo(world.at("/etc/pipe"))
        assert "device, socket or pipe" in refused(world, {"/etc/pipe": Want(b"")}).sentence

    @pytest.mark.parametrize("path", ["/etc/../x", "etc/x", "/etc//x", "/", "/etc/x\n", "//etc", "/etc/x/"])
    def test_crooked_paths(self, world: World, path: str) -> None:
        assert refused(world, {path: Want(b"")}).kind == "bad-request"

    @pytest.mark.parametrize("name", ["manifest.json", "journal.json", "staging/x", "pending/y", "previous"])
    def test_the_agents_own_records(self, world: World, name: str) -> None:
        assert refused(world, {f"{STATE}/{name}": Want(b"")}).kind == "bad-request"

    @pytest.mark.parametrize("release", ["", "..", "a/b", ".x", None])
    def test_release_that_is_no_plain_name(self, world: World, release: str) -> None:
        assert refused(world, {}, release).kind == "bad-request"

    def test_file_above_another_entry(self, world: World) -> None:
        assert "at once" in refused(world, {"/etc/a": Want(b""), "/etc/a/b": Want(b"")}).sentence

    def test_mount_point(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.write("/etc/resolv.conf", "x")
        monkeypatch.setattr(mounts, "points", lambda root: {"/etc/resolv.conf"})
        assert "mount point of its own" in refused(world, {"/etc/resolv.conf": Want(b"y")}).sentence

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make links of other users")
    def test_another_users_link_on_the_way(self, world: World) -> None:
        world.at("/srv").mkdir()
        os.chown(world.at("/srv"), 1234, 1234)
        world.at("/srv/data").symlink_to(world.at("/etc"))
        os.chown(world.at("/srv/data"), 1234, 1234, follow_symlinks=False)
        assert "link made by user 1234" in refused(world, {"/srv/data/shadow": Want(b"")}).sentence

    def test_own_link_on_the_way_is_walked(self, world: World) -> None:
        world.at("/home").mkdir()
        world.at("/mnt").symlink_to(world.at("/home"))
        world.apply({"/mnt/new/x": Want(b"1")})
        assert world.at("/home/new/x").read_bytes() == b"1"

    def test_unknown_user(self, world: World) -> None:
        bad = request({"/etc/x": Want(b"")})
        bad["entries"][0]["user"] = "nobody-of-this-name"
        if os.geteuid() == 0:
            with pytest.raises(AgentError, match="no user 'nobody-of-this-name'"):
                apply.run(bad, world.root)


class TestDamage:
    def test_wrong_checksum(self, world: World) -> None:
        bad = request({"/etc/x": Want(b"1")})
        bad["archive"] = request({"/etc/x": Want(b"2")})["archive"]
        with pytest.raises(AgentError, match="arrived damaged"):
            apply.run(bad, world.root)
        assert not world.at("/etc/x").exists()

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
    def test_cut_archive(self, world: World, part: float) -> None:
        bad = request({"/etc/x": Want(os.urandom(2000))})
        packed = base64.b64decode(bad["archive"])
        bad["archive"] = base64.b64encode(packed[: int(len(packed) * part)]).decode()
        with pytest.raises(AgentError, match="damaged") as caught:
            apply.run(bad, world.root)
        assert caught.value.kind == "bad-request"

    def test_content_that_is_not_in_the_archive(self, world: World) -> None:
        assert "lacks /etc/x" in refused(world, {"/etc/x": Want(b"1")}, archive="").sentence

    def test_damaged_journal_stops_everything(self, world: World) -> None:
        world.write(f"{STATE}/journal.json", "{")
        with pytest.raises(AgentError, match="damaged") as caught:
            world.apply(TREE)
        assert caught.value.kind == "broken" and not world.at("/etc/app").exists()


class TestStale:
    def test_file_changed_since_it_was_compared(self, world: World) -> None:
        world.write("/etc/x", "what the survey saw")
        expect = {"/etc/x": fingerprint(record(world.root, "/etc/x"))}
        world.write("/etc/x", "an edit made meanwhile")
        assert refused(world, {"/etc/y": Want(b"1"), "/etc/x": Want(b"2")}, expect=expect).kind == "stale"

    def test_file_that_appeared_or_vanished(self, world: World) -> None:
        world.write("/etc/x", "new")
        assert refused(world, {"/etc/x": Want(b"2")}, expect={"/etc/x": "missing"}).kind == "stale"
        assert refused(world, {"/etc/z": Want(b"2")}, expect={"/etc/z": "0" * 64}).kind == "stale"

    def test_edit_during_the_checks(self, world: World) -> None:
        place = world.write("/etc/x", "old")
        edit = [{"name": "edit", "argv": ["sh", "-c", f"echo edited > {place}"]}]
        with pytest.raises(AgentError, match="changed on the host while they were checked"):
            world.apply({"/etc/y": Want(b"1"), "/etc/x": Want(b"2")}, validators=edit)
        assert place.read_text() == "edited\n" and not world.at("/etc/y").exists()

    def test_edit_in_the_middle_of_the_renames_puts_everything_back(self, world: World) -> None:
        world.write("/etc/a", "old a")
        world.write("/etc/b", "old b")

        def edit(done: str) -> None:
            if done == "rename /etc/a":
                world.write("/etc/b", "edited")

        with pytest.raises(AgentError, match="every file was put back") as caught:
            apply.run(request({"/etc/a": Want(b"new a"), "/etc/b": Want(b"new b")}), world.root, edit)
        assert caught.value.kind == "stale"
        assert world.at("/etc/a").read_text() == "old a" and world.at("/etc/b").read_text() == "edited"

    def test_content_that_already_is_as_wanted_is_no_conflict(self, world: World) -> None:
        world.write("/etc/x", "2")
        assert world.apply({"/etc/x": Want(b"2")}, expect={"/etc/x": "missing"})["changed"] == []
        assert world.apply({"/etc/x": Want(b"2", 0o600)}, "r2", expect={"/etc/x": "missing"})["changed"] == [
            "/etc/x"
        ]


def test_full_disk_is_seen_before_anything_is_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def full(path: str) -> os.statvfs_result:
        values = list(real(path)[:10])
        values[4] = 10
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", full)
    error = refused(world, TREE)
    assert error.kind == "space" and "nothing was changed" in error.sentence
