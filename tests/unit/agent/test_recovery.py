"""What becomes of an apply that fails or dies in the middle, and what is on disk by then."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from understudy.agent import apply, journal, recover
from understudy.agent.errors import AgentError

from .world import STATE, Snapshot, Tree, Want, World, killed_at, request


class TestFailureInTheMiddle:
    """The disk turns read-only (or worse) after the first rename."""

    tree: Tree = {"/etc/a": Want(b"1"), "/etc/n/c": Want(b"2"), "/etc/b": Want(b"3")}

    @pytest.fixture
    def before(self, world: World) -> Snapshot:
        world.write("/etc/a", "old a")
        world.write("/etc/b", "old b")
        return world.live()

    def failing(self, times: int) -> Callable[[str], None]:
        left = [times]

        def fail(done: str) -> None:
            if done == "rename /etc/a" and left[0]:
                left[0] -= 1
                raise OSError(30, "Read-only file system")

        return fail

    def test_everything_is_put_back(self, world: World, before: Snapshot) -> None:
        with pytest.raises(AgentError, match="read-only file system; every file was put back") as caught:
            apply.run(request(self.tree), world.root, self.failing(1))
        assert caught.value.kind == "io"
        assert world.live() == before and not world.at(f"{STATE}/journal.json").exists()

    def test_once_on_the_way_back_it_goes_back_even_when_killed(self, world: World, before: Snapshot) -> None:
        def job(kill: Callable[[str], None]) -> None:
            fail = self.failing(1)
            failed: list[bool] = []

            def checkpoint(done: str) -> None:
                if failed and done == f"syncdir {STATE}":
                    kill(done)
                failed.extend([True] if done == "rename /etc/a" else [])
                fail(done)

            apply.run(request(self.tree), world.root, checkpoint)

        assert killed_at(0, job)
        assert list(world.base.rglob(".understudy-*~")), "it could still go forward"
        report = recover.run({}, world.root)["recovered"]
        assert report["outcome"] == "undone" and world.live() == before

    def test_what_cannot_be_put_back_now_is_put_back_by_recover(self, world: World, before: Snapshot) -> None:
        with pytest.raises(AgentError, match="could neither be finished nor undone") as caught:
            apply.run(request(self.tree), world.root, self.failing(2))
        assert caught.value.kind == "broken" and journal.summary(world.root)
        report = recover.run({}, world.root)["recovered"]
        assert report["outcome"] == "undone" and world.live() == before


class TestRecovery:
    def torn(self, world: World) -> None:
        """Kill an apply right after its first rename."""
        for path in ("/etc/a", "/etc/b"):
            world.write(path, f"old {path}")
        values = request({"/etc/a": Want(b"new a", reaction="r"), "/etc/b": Want(b"new b")})
        done: list[str] = []
        copy = World(world.base.parent / "trial")
        shutil.copytree(world.base, copy.base, dirs_exist_ok=True)
        apply.run(values, copy.root, done.append)
        assert killed_at(
            done.index("rename /etc/a"), lambda checkpoint: apply.run(values, world.root, checkpoint)
        )
        assert world.at("/etc/a").read_text() == "new a" and world.at("/etc/b").read_text() == "old /etc/b"

    def test_the_next_apply_closes_it_and_asks_for_a_new_comparison(self, world: World) -> None:
        self.torn(world)
        with pytest.raises(
            AgentError, match=r"an interrupted run .r1. was finished first: compare again"
        ) as caught:
            world.apply({"/etc/c": Want(b"1")}, "r2")
        assert caught.value.kind == "stale" and caught.value.details["recovered"]["outcome"] == "finished"
        assert world.at("/etc/b").read_text() == "new b" and not world.at("/etc/c").exists()
        assert world.apply({"/etc/c": Want(b"1")}, "r2")["changed"] == ["/etc/c"]

    def test_an_edit_made_after_the_kill_is_never_overwritten(self, world: World) -> None:
        self.torn(world)
        world.write("/etc/b", "edited by hand")
        report = recover.run({}, world.root)["recovered"]
        assert report == {"release": "r1", "outcome": "finished", "kept": ["/etc/b"]}
        assert world.at("/etc/b").read_text() == "edited by hand"
        assert not list(world.base.rglob(".understudy-*"))

    def test_an_edit_made_after_the_kill_survives_an_undo_too(self, world: World) -> None:
        self.torn(world)
        world.write("/etc/a", "edited by hand")
        for temp in world.base.rglob(".understudy-*~"):
            temp.unlink()
        report = recover.run({}, world.root)["recovered"]
        assert report == {"release": "r1", "outcome": "undone", "kept": ["/etc/a"]}
        assert world.at("/etc/a").read_text() == "edited by hand"
        assert world.pending() == {"r"}, "something may have read the new file: its restart stays due"

    def test_a_new_file_that_a_power_cut_left_short_is_never_renamed(self, world: World) -> None:
        self.torn(world)
        (temp,) = world.at("/etc").glob(".understudy-*~")
        temp.write_bytes(b"new")
        assert recover.run({}, world.root)["recovered"]["outcome"] == "undone"
        assert world.at("/etc/a").read_text() == "old /etc/a"
        assert world.at("/etc/b").read_text() == "old /etc/b" and not temp.exists()

    def test_damaged_saved_copy_stops_the_undo(self, world: World) -> None:
        self.torn(world)
        for temp in world.base.rglob(".understudy-*~"):
            temp.unlink()
        world.write(f"{STATE}/previous/r1/0000", "damaged")
        with pytest.raises(AgentError, match=r"its saved copy in .* is damaged") as caught:
            recover.run({}, world.root)
        assert caught.value.kind == "broken" and world.at("/etc/a").read_text() == "new a"

    def test_what_was_due_before_stays_due_when_an_apply_is_undone(self, world: World) -> None:
        world.apply({"/etc/x": Want(b"1", reaction="r")})

        def fail(done: str) -> None:
            if done.startswith("rename /var/lib/understudy/pending/new"):
                raise OSError(28, "No space left on device")

        with pytest.raises(AgentError, match="no space left on device; every file was put back"):
            apply.run(request({"/etc/x": Want(b"2", reaction="r new")}, "r2"), world.root, fail)
        assert world.pending() == {"r"} and world.at("/etc/x").read_bytes() == b"1"

    def test_staged_secrets_of_a_killed_run_are_removed(self, world: World) -> None:
        world.write(f"{STATE}/staging/r1/etc/secret", "hunter2", 0o600)
        recover.run({}, world.root)
        assert not world.at(f"{STATE}/staging").exists()

    def test_nothing_to_recover(self, world: World) -> None:
        assert recover.run({}, world.root) == {"recovered": None, "restores": []}


def test_order_on_disk_survives_a_power_cut(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each step relies on has reached the disk (a real fsync) before it happens."""
    world.write("/etc/app.conf", "old")
    done: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        done.append("synced " + os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(world.base)))

    monkeypatch.setattr(os, "fsync", fsync)
    apply.run(request({"/etc/app.conf": Want(b"new", reaction="r")}), world.root, done.append)

    def at(line: str, after: int = 0) -> int:
        return done.index(line, after)

    (temp,) = {line.partition(" ")[2] for line in done if line.startswith("create /etc/.understudy-")}
    state, record = f"synced {STATE}", f"{STATE}/journal.json"
    prepared = at(f"rename {record}")
    committing = at(f"rename {record}", prepared + 1)
    renamed = at("rename /etc/app.conf")
    manifest = at(f"rename {STATE}/manifest.json")
    assert at(f"synced {STATE}/previous/r1/0000") < at(f"synced {STATE}/previous/r1") < prepared
    assert at(f"synced {STATE}/.journal.json.new") < prepared < at(state, prepared) < at(f"create {temp}")
    assert at(f"write {temp}") < at(f"synced {temp}") < at("synced /etc") < committing
    assert at(f"synced {STATE}/pending/.r.new") < at(f"synced {STATE}/pending") < committing
    assert at(f"synced {STATE}/.journal.json.new", prepared) < committing < at(state, committing) < renamed
    assert renamed < at("synced /etc", renamed) < manifest
    assert manifest < at(state, manifest) < at(f"unlink {record}")
