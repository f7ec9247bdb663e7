"""Who may write now, and which restarts are still due."""

from __future__ import annotations

import threading

import pytest

from understudy.agent import lock, settle
from understudy.agent.errors import AgentError

from .world import Tree, Want, World, folder, to

TREE: Tree = {
    "/etc/app": folder(0o750),
    "/etc/app/app.conf": Want(b"port = 1\n", 0o640, reaction="unit:app.service stack:app"),
    "/etc/app/current": to("app.conf"),
}


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
