"""Kills apply and recover with SIGKILL after every single change to the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
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
    "/etc/app/main.conf": Want(b"old content, longer than a chunk\n" * 60, reaction="stack:app"),
    "/etc/app/closed.conf": Want(b"rights will change\n", 0o644),
    "/etc/app/gone/deep/file": Want(b"to be deleted\n"),
    "/etc/app/current": to("main.conf"),
}
NEW: Tree = {
    "/etc/app": folder(0o755),
    "/etc/app/kept.conf": Want(b"same before and after\n", 0o640, reaction="unit:app"),
    "/etc/app/main.conf": Want(
        b"new content, longer than a chunk\n" * 60, 0o600, reaction="stack:app reload:web"
    ),
    "/etc/app/closed.conf": Want(b"rights will change\n", 0o400, reaction="unit:closed"),
    "/etc/app/current": to("closed.conf", reaction="unit:link"),
    "/srv/app/data": folder(0o700),
    "/srv/app/first.conf": Want(b"the first of its folder\n", reaction="stack:app"),
    "/etc/app/folder-to-file": Want(b"was an empty folder\n"),
}
DELETE: Tree = {path: OLD[path] for path in ("/etc/app/gone/deep/file",)}
CHUNK = 1500  # splits the big files and the journal, so that kills land inside a write


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


def test_killed_anywhere_every_file_is_whole_and_a_second_run_ends_as_if_undisturbed(scratch: Path) -> None:
    start = settled(scratch / "start")
    old = start.live()
    goal = copied(start, scratch / "goal")
    finish(goal)
    new = goal.live()
    world = copied(start, scratch / "w")
    outcomes = set()
    for point in points(lambda: applying(World(scratch / "w"))):
        assert_whole(world, old, new)
        assert_remembered(world, old, new)
        half = copied(world, scratch / "half")
        report = recover.recover(Disk(half.root))
        outcomes.add(report["outcome"] if report else "nothing to do")
        assert half.live() in (old, new), f"recovery after point {point} left a mixture"
        assert half.snapshot() == copied_clean(half), "leftovers"
        if report and report["outcome"] == "undone":
            assert half.pending() == set(), "nothing was renamed, so nothing is due"
        finish(world)
        assert world.snapshot() == goal.snapshot(), f"killed at point {point}"
        world = copied(start, scratch / "w")
    assert outcomes == {"finished", "undone", "nothing to do"}


def copied_clean(world: World) -> Snapshot:
    """The snapshot without anything that must not survive a recovery."""
    left = ("journal.json", "staging", ".understudy-", ".new")
    return {path: seen for path, seen in world.snapshot().items() if not any(word in path for word in left)}


@pytest.mark.parametrize("first", ["early", "late", "without temp files"])
def test_recovery_itself_may_be_killed_anywhere(scratch: Path, first: str) -> None:
    start = settled(scratch / "start")
    old = start.live()
    goal = copied(start, scratch / "goal")
    finish(goal)
    world = copied(start, scratch / "w")
    torn = interrupted(world, first, scratch)
    for _ in points_of_recovery(torn, scratch):
        half = World(scratch / "r")
        recover.recover(Disk(half.root))
        assert half.live() in (old, goal.live())
        finish(half)
        assert half.snapshot() == goal.snapshot()


def interrupted(world: World, first: str, scratch: Path) -> World:
    """A host whose apply was killed while preparing, while renaming, or whose new files then got lost."""
    wanted = {"early": "prepared", "late": "committing", "without temp files": "committing"}[first]
    found = []
    start = copied(world, scratch / "from")
    for point in range(10_000):
        world = copied(start, scratch / "torn")
        if not killed_at(point, applying(world)):
            break
        journal = world.at(f"{STATE}/journal.json")
        if journal.exists() and f'"state": "{wanted}"' in journal.read_text():
            found.append(point)
    world = copied(start, scratch / "torn")
    # With half of the renames done there is something to finish and something to undo.
    assert killed_at(found[-8] if wanted == "committing" else found[-2], applying(world))
    if first == "without temp files":
        temps = [place for place in world.base.rglob(".understudy-*~")]
        assert temps, "no new file is left to lose"
        for place in temps:
            place.unlink()
    return world


def points_of_recovery(torn: World, scratch: Path) -> Iterator[int]:
    point = 0
    while True:
        world = copied(torn, scratch / "r")
        if not killed_at(point, recovering(world)):
            break
        yield point
        point += 1
    assert point > 5


# Folders are d and e, leaves a, b and c: kinds that change between folder and file are refused, and tested as such.
folders = st.lists(st.sampled_from("de"), max_size=2).map(
    lambda names: "".join(f"/{name}" for name in ("t", *names))
)
leaves = st.builds("{}/{}".format, folders, st.sampled_from("abc"))
modes = st.sampled_from([0o600, 0o644, 0o755])
reactions = st.sampled_from(["", "u:1", "u:1 u:2"])
files = st.builds(Want, st.binary(max_size=40), modes, reaction=reactions)
links = st.builds(to, st.sampled_from(["a", "/t/b", "../nowhere"]))
trees = st.builds(
    lambda dirs, rest: dict(sorted({**dirs, **rest}.items())),
    st.dictionaries(folders, st.builds(folder, st.sampled_from([0o700, 0o755])), max_size=2),
    st.dictionaries(leaves, st.one_of(files, files, links), max_size=5),
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(old=trees, new=trees, first=st.integers(0, 120), second=st.integers(0, 60))
def test_any_change_killed_twice_is_all_or_nothing_and_ends_as_if_undisturbed(
    scratch: Path, old: Tree, new: Tree, first: int, second: int
) -> None:
    base = Path(tempfile.mkdtemp(dir=scratch))
    start = World(base / "start")
    start.apply(old, "r0")
    before = start.live()
    gone = {path: want for path, want in old.items() if path not in new and want.kind != "dir"}
    goal = copied(start, base / "goal")
    finish(goal, new, gone)
    assert {path: goal.live()[path][0] for path in new} == {path: want.kind for path, want in new.items()}
    assert not gone.keys() & goal.live().keys()
    killed_at(first, applying(start, new, gone))
    killed_at(second, recovering(start))
    recover.recover(Disk(start.root))
    assert start.live() in (before, goal.live())
    finish(start, new, gone)
    assert start.snapshot() == goal.snapshot()
    shutil.rmtree(base)


def test_the_kills_are_real() -> None:
    assert killed_at(0, lambda checkpoint: checkpoint("x"))
    assert not killed_at(1, lambda checkpoint: checkpoint("x"))
    assert os.getpid() > 0
