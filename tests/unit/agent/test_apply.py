"""What one apply does and refuses."""

from __future__ import annotations

import base64
import os
import stat
import threading
from pathlib import Path

import pytest

from understudy.agent import apply, lock, mounts, settle
from understudy.agent.errors import AgentError
from understudy.agent.look import fingerprint, look, record

from .world import STATE, Tree, Want, World, folder, request, to

TREE: Tree = {
    "/etc/app": folder(0o750),
    "/etc/app/app.conf": Want(b"port = 1\n", 0o640, reaction="unit:app.service stack:app"),
    "/etc/app/current": to("app.conf"),
}


def refused(world: World, *arguments: object, **more: object) -> AgentError:
    """Apply something that must be refused without changing anything."""
    before = world.live()
    with pytest.raises(AgentError) as caught:
        world.apply(*arguments, **more)  # type: ignore[arg-type]
    assert world.live() == before
    assert not world.at(f"{STATE}/journal.json").exists()
    assert not world.at(f"{STATE}/staging").exists()
    return caught.value


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


class TestRefusals:
    def test_folder_that_holds_data_where_a_file_should_be(self, world: World) -> None:
        world.write("/etc/app/data.db", "rows")
        error = refused(world, {"/etc/ok": Want(b"1"), "/etc/app": Want(b"2")})
        assert "/etc/app should be a file and is a directory that holds data" in error.sentence

    def test_file_where_a_folder_should_be(self, world: World) -> None:
        world.write("/etc/app", "x")
        assert "/etc/app should be a directory and is a file" in refused(world, {"/etc/app": folder()}).sentence
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

    @pytest.mark.parametrize("cut", [10, 60])
    def test_cut_archive(self, world: World, cut: int) -> None:
        bad = request({"/etc/x": Want(os.urandom(200))})
        bad["archive"] = base64.b64encode(base64.b64decode(bad["archive"])[:-cut]).decode()
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


def test_failure_in_the_middle_puts_everything_back(world: World) -> None:
    world.write("/etc/a", "old a")
    world.write("/etc/b", "old b")
    before = world.live()

    def fail(done: str) -> None:
        if done == "rename /etc/a":
            raise OSError(30, "Read-only file system")

    with pytest.raises(AgentError, match="every file was put back"):
        apply.run(request({"/etc/a": Want(b"1"), "/etc/n/c": Want(b"2"), "/etc/b": Want(b"3")}), world.root, fail)
    assert world.live() == before and not world.at(f"{STATE}/journal.json").exists()


def test_full_disk_is_seen_before_anything_is_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def full(path: str) -> os.statvfs_result:
        values = list(real(path)[:10])
        values[4] = 10
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", full)
    error = refused(world, TREE)
    assert error.kind == "space" and "nothing was changed" in error.sentence


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


def test_order_on_disk_survives_a_power_cut(world: World) -> None:
    """Content, journal and markers are durable before the first rename; names before the manifest; it before the end."""
    world.write("/etc/app.conf", "old")
    done: list[str] = []
    apply.run(request({"/etc/app.conf": Want(b"new", reaction="r")}), world.root, done.append)
    journal = f"{STATE}/journal.json"
    renamed = done.index("rename /etc/app.conf")
    committing = [i for i, line in enumerate(done) if line == f"rename {journal}"][-1]
    manifest = done.index(f"rename {STATE}/manifest.json")
    assert f"syncdir {STATE}" in done[committing:renamed]
    assert f"syncdir {STATE}/pending" in done[: done.index(f"fsync {STATE}/.journal.json.new", committing - 3)]
    temps = [i for i, line in enumerate(done) if line.startswith("fsync /etc/.understudy-")]
    assert temps and temps[-1] < done.index("syncdir /etc") < committing
    assert f"syncdir {STATE}/previous/r1" in done[: done.index(f"rename {journal}")]
    assert "syncdir /etc" in done[renamed:manifest]
    assert f"syncdir {STATE}" in done[manifest : done.index(f"unlink {journal}")]


class TestLock:
    def test_waits_for_the_holder_and_names_it(self, world: World, capfd: pytest.CaptureFixture[str]) -> None:
        release, taken = threading.Event(), threading.Event()

        def hold() -> None:
            with lock.exclusive(world.root, "apply", "apply other", 1, print):
                taken.set()
                release.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        taken.wait(10)
        with pytest.raises(AgentError, match=r"apply other \(pid \d+.*still runs after 0.2 s") as caught:
            world.apply(TREE, lock_wait=0.2)
        assert caught.value.kind == "busy" and not world.at("/etc/app").exists()
        assert "apply other" in (lock.holder(world.root, "apply") or "")
        threading.Timer(0.3, release.set).start()
        assert world.apply(TREE, lock_wait=10)["changed"]
        thread.join()
        assert "waiting for apply other" in capfd.readouterr().err
        assert lock.holder(world.root, "apply") is None


class TestSettle:
    def test_forgets_what_happened_and_keeps_the_rest(self, world: World) -> None:
        world.apply(TREE)
        reply = settle.run({"done": ["stack:app", "never:pending"]}, world.root)
        assert reply == {"cleared": ["stack:app"], "pending": ["unit:app.service"]}

    def test_a_reaction_that_a_newer_apply_asks_for_again_stays(self, world: World) -> None:
        first = world.apply({"/etc/x": Want(b"1", reaction="r")})["markers"]
        second = world.apply({"/etc/x": Want(b"2", reaction="r")}, "r2")["markers"]
        assert settle.run({"done": first}, world.root) == {"cleared": [], "pending": ["r"]}
        assert settle.run({"done": second}, world.root) == {"cleared": ["r"], "pending": []}

    def test_reactions_are_due_again_after_a_change_of_rights(self, world: World) -> None:
        world.apply({"/etc/x": Want(b"1", 0o600, reaction="r")})
        settle.run({"done": ["r"]}, world.root)
        world.apply({"/etc/x": Want(b"1", 0o644, reaction="r")}, "r2")
        assert world.pending() == {"r"}


def test_look_never_reads_through_a_link(world: World, tmp_path: Path) -> None:
    world.at("/etc/x").symlink_to(tmp_path)
    assert look(world.root, "/etc/x").kind == "link"
