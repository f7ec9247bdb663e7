"""What one apply does."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from understudy.agent import apply
from understudy.agent.look import look

from .world import STATE, Tree, Want, World, folder, refused, request, to

TREE: Tree = {
    "/etc/app": folder(0o750),
    "/etc/app/app.conf": Want(b"port = 1\n", 0o640, reaction="unit:app.service stack:app"),
    "/etc/app/current": to("app.conf"),
}


def test_writes_files_folders_and_links_with_their_modes(world: World) -> None:
    reply = world.apply(TREE)
    assert reply["changed"] == list(TREE)
    assert world.at("/etc/app/app.conf").read_bytes() == b"port = 1\n"
    assert stat.S_IMODE(world.at("/etc/app/app.conf").stat().st_mode) == 0o640
    assert stat.S_IMODE(world.at("/etc/app").stat().st_mode) == 0o750
    assert os.readlink(world.at("/etc/app/current")) == "app.conf"
    assert world.manifest()["entries"].keys() == TREE.keys()
    assert set(reply["markers"]) == {"unit:app.service", "stack:app"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_is_set_and_a_change_of_rights_keeps_the_inode(world: World) -> None:
    path = "/etc/app.conf"
    world.apply({path: Want(b"x", 0o400, owner=(1234, 1235))})
    before = world.at(path).stat()
    assert (before.st_uid, before.st_gid) == (1234, 1235)
    world.apply({path: Want(b"x", 0o4755, owner=(1236, 1235), reaction="r")}, "r2")
    after = world.at(path).stat()
    assert (after.st_uid, stat.S_IMODE(after.st_mode), after.st_ino) == (1236, 0o4755, before.st_ino)
    assert world.pending() == {"r"}


def test_a_file_is_never_readable_by_others_before_it_has_its_mode(world: World) -> None:
    seen: list[int] = []

    def watch(done: str) -> None:
        name = done.partition(" ")[2]
        if ".understudy-" in name and world.at(name).is_file():
            seen.append(stat.S_IMODE(world.at(name).stat().st_mode))

    old_mask = os.umask(0)
    try:
        apply.run(request({"/etc/secret": Want(b"s" * 100, 0o400)}), world.root, watch, 10)
    finally:
        os.umask(old_mask)
    assert len(seen) > 5 and not any(mode & 0o077 for mode in seen)


def test_again_changes_nothing_and_touches_nothing(world: World) -> None:
    world.apply(TREE)
    done: list[str] = []
    reply = apply.run(request(TREE, "r2"), world.root, done.append)
    assert reply["changed"] == reply["deleted"] == []
    assert [line for line in done if not line.startswith("sweep")] == []


def test_a_link_is_replaced_not_followed(world: World) -> None:
    outside = world.write("/srv/elsewhere", "precious")
    world.at("/etc/app.conf").symlink_to(outside)
    world.apply({"/etc/app.conf": Want(b"mine")})
    assert outside.read_text() == "precious"
    assert not world.at("/etc/app.conf").is_symlink()


def test_old_content_is_kept_privately_for_five_releases(world: World) -> None:
    for number in range(8):
        world.apply({"/etc/x": Want(f"generation {number}".encode())}, f"r{number}")
    previous = world.at(f"{STATE}/previous")
    assert sorted(os.listdir(previous)) == ["r3", "r4", "r5", "r6", "r7"]
    assert (previous / "r7" / "0000").read_text() == "generation 6"
    assert stat.S_IMODE(previous.stat().st_mode) == 0o700
    assert stat.S_IMODE((previous / "r7" / "0000").stat().st_mode) == 0o600


class TestDeletes:
    def test_only_what_we_wrote_with_the_folders_we_made(self, world: World) -> None:
        world.apply({"/etc/app/conf.d/a": Want(b"1"), "/etc/app/b": Want(b"2")})
        gone = {"/etc/app/conf.d/a": Want(b"1"), "/etc/app/b": Want(b"2")}
        assert world.apply({}, "r2", gone)["deleted"] == list(gone)
        assert not world.at("/etc/app").exists() and world.at("/etc").is_dir()
        assert world.manifest()["created"] == []

    def test_folder_with_something_else_in_it_stays(self, world: World) -> None:
        world.apply({"/etc/app/conf.d/a": Want(b"1")})
        world.write("/etc/app/data.db", "rows")
        world.apply({}, "r2", {"/etc/app/conf.d/a": Want(b"1")})
        assert world.at("/etc/app/data.db").exists() and not world.at("/etc/app/conf.d").exists()
        assert world.manifest()["created"] == ["/etc/app"]

    def test_folder_that_was_there_before_us_or_is_declared_stays(self, world: World) -> None:
        world.at("/etc/old").mkdir()
        tree: Tree = {"/etc/ours": folder(), "/etc/old/a": Want(b"1"), "/etc/ours/b": Want(b"1")}
        world.apply(tree)
        gone = {path: tree.pop(path) for path in ("/etc/old/a", "/etc/ours/b")}
        world.apply(tree, "r2", gone)
        assert world.at("/etc/old").is_dir() and world.at("/etc/ours").is_dir()

    def test_file_that_is_not_ours(self, world: World) -> None:
        world.write("/etc/foreign", "1")
        assert "not a file that we wrote" in refused(world, {}, "r2", {"/etc/foreign": Want(b"1")}).sentence

    def test_our_file_that_was_edited(self, world: World) -> None:
        world.apply({"/etc/x": Want(b"1")})
        world.write("/etc/x", "edited")
        assert refused(world, {}, "r2", {"/etc/x": Want(b"1")}).kind == "stale"
        assert refused(world, {}, "r2", {"/etc/x": Want(b"edited")}).kind == "refused"

    def test_file_that_is_gone_already(self, world: World) -> None:
        world.apply({"/etc/x": Want(b"1")})
        world.at("/etc/x").unlink()
        assert world.apply({}, "r2", {"/etc/x": Want(b"1")})["deleted"] == []
        assert world.manifest()["entries"] == {}


def test_look_never_reads_through_a_link(world: World, tmp_path: Path) -> None:
    world.at("/etc/x").symlink_to(tmp_path)
    assert look(world.root, "/etc/x").kind == "link"
