"""Kills apply and recover with SIGKILL after every single change to the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.agent import apply, recover
from understudy.agent.disk import Disk
from understudy.agent.errors import AgentError

from .world import STATE, Snapshot, Tree, Want, World, folder, killed_at, request, to

OLD: Tree = {
    "/etc/app": folder(0o750),
    "/etc/app/kept.conf": Want(b"same before and after\n", 0o640, reaction="unit:app"),
    "/etc/app/main.conf": Want(b"old content, longer than the chunk\n", reaction="stack:app"),
    "/etc/app/closed.conf": Want(b"rights will change\n", 0o644),
    "/etc/app/gone/deep/file": Want(b"to be deleted\n"),
    "/etc/app/current": to("main.conf"),
}
NEW: Tree = {
    "/etc/app": folder(0o755),
    "/etc/app/kept.conf": Want(b"same before and after\n", 0o640, reaction="unit:app"),
    "/etc/app/main.conf": Want(b"new content, also longer than the chunk\n", 0o600, reaction="stack:app reload:web"),
    "/etc/app/closed.conf": Want(b"rights will change\n", 0o400, reaction="unit:closed"),
    "/etc/app/current": to("closed.conf", reaction="unit:link"),
    "/srv/app/data": folder(0o700),
    "/srv/app/first.conf": Want(b"the first of its folder\n", reaction="stack:app"),
    "/etc/app/folder-to-file": Want(b"was an empty folder\n"),
}
DELETE: Tree = {path: OLD[path] for path in ("/etc/app/gone/deep/file",)}
CHUNK = 16


def settled(base: Path) -> World:
    """A host that an earlier release has converged, with an empty folder where a file will be."""
    world = World(base)
    world.at("/etc").mkdir()
    world.apply(OLD, "r0")
    shutil.rmtree(world.at(f"{STATE}/pending"))
    world.at("/etc/app/folder-to-file").mkdir(mode=0o755)
    return world


def copied(world: World, base: Path) -> World:
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(world.base, base, symlinks=True)
    return World(base)


Job = Callable[[Callable[[str], None]], object]


def applying(world: World, tree: Tree = NEW, delete: Tree = DELETE) -> Job:
    values = request(tree, "r1", delete)
    return lambda checkpoint: apply.run(values, world.root, checkpoint, CHUNK)


def recovering(world: World) -> Job:
    return lambda checkpoint: recover.recover(Disk(world.root, checkpoint, CHUNK))


def finish(world: World, tree: Tree = NEW, delete: Tree = DELETE) -> None:
    """Run it again as an operator would: once more where an interrupted run had to be closed first."""
    with suppress(AgentError):
        apply.run(request(tree, "r1", delete), world.root)
    apply.run(request(tree, "r1", delete), world.root)


def points(job_of: Callable[[], Job]) -> Iterator[int]:
    """0, 1, 2 ... until the job ends before it is killed."""
    point = 0
    while killed_at(point, job_of()):
        yield point
        point += 1
    assert point > 20, "the job hardly touched the disk: the test would prove nothing"


def assert_whole(world: World, old: Snapshot, new: Snapshot) -> None:
    """Every path that ever was a file is wholly old or wholly new, never missing, short or half-owned."""
    live = world.live()
    for path in {*old, *new}:
        before, after, now = old.get(path), new.get(path), live.get(path)
        if "dir" in (before or ("",))[0:1] or "dir" in (after or ("",))[0:1]:
            continue
        if before and after and before[-1] == after[-1] and before[0] == "file":
            assert now is not None and now[-1] == before[-1], f"{path}: content lost while its rights change"
        else:
            assert now in (before, after), f"{path}: {now} is neither old nor new"


def assert_remembered(world: World, old: Snapshot, new: Snapshot) -> None:
    """Nothing new is live without its reaction being due, and the manifest is never ahead of the files."""
    live = world.live()
    if live.get("/etc/app/main.conf") == new["/etc/app/main.conf"]:
        assert {"stack%3Aapp", "reload%3Aweb"} <= world.pending()
    if "/srv/app/first.conf" in world.manifest()["entries"]:
        assert live == new


def test_killed_anywhere_every_file_is_whole_and_a_second_run_ends_as_if_undisturbed(tmp_path: Path) -> None:
    start = settled(tmp_path / "start")
    old = start.live()
    goal = copied(start, tmp_path / "goal")
    finish(goal)
    new = goal.live()
    world = copied(start, tmp_path / "w")
    outcomes = set()
    for point in points(lambda: applying(world)):
        assert_whole(world, old, new)
        assert_remembered(world, old, new)
        half = copied(world, tmp_path / "half")
        report = recover.recover(Disk(half.root))
        outcomes.add(report["outcome"] if report else "nothing to do")
        assert half.live() in (old, new), f"recovery after point {point} left a mixture"
        assert half.snapshot() == copied_clean(half), "leftovers"
        finish(world)
        assert world.snapshot() == goal.snapshot(), f"killed at point {point}"
        world = copied(start, tmp_path / "w")
    assert outcomes == {"finished", "undone", "nothing to do"}


def copied_clean(world: World) -> Snapshot:
    """The snapshot without anything that must not survive a recovery."""
    left = ("journal.json", "staging", ".understudy-", ".new")
    return {path: seen for path, seen in world.snapshot().items() if not any(word in path for word in left)}


@pytest.mark.parametrize("first", ["early", "late", "without temp files"])
def test_recovery_itself_may_be_killed_anywhere(tmp_path: Path, first: str) -> None:
    start = settled(tmp_path / "start")
    old = start.live()
    goal = copied(start, tmp_path / "goal")
    finish(goal)
    world = copied(start, tmp_path / "w")
    torn = interrupted(world, first, tmp_path)
    for _ in points_of_recovery(torn, tmp_path):
        half = World(tmp_path / "r")
        recover.recover(Disk(half.root))
        assert half.live() in (old, goal.live())
        finish(half)
        assert half.snapshot() == goal.snapshot()


def interrupted(world: World, first: str, tmp_path: Path) -> World:
    """A host whose apply was killed while preparing, while renaming, or whose new files then got lost."""
    wanted = {"early": "prepared", "late": "committing", "without temp files": "committing"}[first]
    found = []
    start = copied(world, tmp_path / "from")
    for point in range(10_000):
        world = copied(start, tmp_path / "torn")
        if not killed_at(point, applying(world)):
            break
        journal = world.at(f"{STATE}/journal.json")
        if journal.exists() and f'"state": "{wanted}"' in journal.read_text():
            found.append(point)
    world = copied(start, tmp_path / "torn")
    # With half of the renames done there is something to finish and something to undo.
    assert killed_at(found[-8] if wanted == "committing" else found[-2], applying(world))
    if first == "without temp files":
        temps = [place for place in world.base.rglob(".understudy-*~")]
        assert temps, "no new file is left to lose"
        for place in temps:
            place.unlink()
    return world


def points_of_recovery(torn: World, tmp_path: Path) -> Iterator[int]:
    point = 0
    while True:
        world = copied(torn, tmp_path / "r")
        if not killed_at(point, recovering(world)):
            break
        yield point
        point += 1
    assert point > 5


paths = st.builds("/".join, st.lists(st.sampled_from("abc"), min_size=1, max_size=3)).map(lambda p: f"/t/{p}")
wants = st.one_of(
    st.builds(Want, st.binary(max_size=40), st.sampled_from([0o600, 0o644, 0o755]), reaction=st.sampled_from(["", "u:1"])),
    st.builds(folder, st.sampled_from([0o700, 0o755])),
    st.builds(to, st.sampled_from(["a", "/t/b", "../nowhere"])),
)


def consistent(tree: Tree) -> Tree:
    """Without paths below a file or link."""
    leaves = {path for path, want in tree.items() if want.kind != "dir"}
    return {p: w for p, w in sorted(tree.items()) if not any(p.startswith(f"{leaf}/") for leaf in leaves)}


trees = st.dictionaries(paths, wants, max_size=6).map(consistent)


def applicable(old: Tree, new: Tree) -> bool:
    """Kinds do not change between folder and file: that is refused, and tested as such."""
    shape: dict[str, bool] = {}
    for tree in (old, new):
        for path, want in tree.items():
            for parent in (path[:cut] for cut in range(1, len(path)) if path[cut] == "/"):
                if shape.setdefault(parent, True) is False:
                    return False
            if shape.setdefault(path, want.kind == "dir") != (want.kind == "dir"):
                return False
    return True


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(old=trees, new=trees, first=st.integers(0, 120), second=st.integers(0, 60))
def test_any_change_killed_twice_ends_as_if_undisturbed(
    tmp_path_factory: pytest.TempPathFactory, old: Tree, new: Tree, first: int, second: int
) -> None:
    if not applicable(old, new):
        return
    base = tmp_path_factory.mktemp("any")
    start = World(base / "start")
    start.apply(old, "r0")
    gone = {path: want for path, want in old.items() if path not in new and want.kind != "dir"}
    goal = copied(start, base / "goal")
    finish(goal, new, gone)
    assert {path: goal.live()[path][0] for path in new} == {path: want.kind for path, want in new.items()}
    killed_at(first, applying(start, new, gone))
    killed_at(second, recovering(start))
    recover.recover(Disk(start.root))
    finish(start, new, gone)
    assert start.snapshot() == goal.snapshot()
    shutil.rmtree(base)


def test_the_kills_are_real() -> None:
    assert killed_at(0, lambda checkpoint: checkpoint("x"))
    assert not killed_at(1, lambda checkpoint: checkpoint("x"))
    assert os.getpid() > 0
