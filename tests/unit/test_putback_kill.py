"""Kills the exchange and its way back with SIGKILL after every single change to the disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from putback_world import STATE, Tree, World, killed_at, service, tree

from understudy.agent import recover
from understudy.agent.data import plan as plans
from understudy.agent.disk import Disk
from understudy.agent.errors import AgentError
from understudy.agent.putback import journal as journals
from understudy.agent.putback import resuming, turn
from understudy.agent.putback.target import Target, meta_of

Job = Callable[[Callable[[str], None]], object]
SNAPSHOT = "0123456789abcdef" * 4
REFUSED = {"name": "gone", "url": "tcp://127.0.0.1:9", "wait": 0}


def old_and_new(world: World, **more: Any) -> None:
    """Live data, and the new content of a restore beside it, as a restic run leaves it."""
    world.plan(app=service(**more))
    for path, content in {
        "a.txt": "old",
        "both": "old",
        "sub/deep/x": "old",
        "lib/media/film": "big",
    }.items():
        world.write(f"/srv/app/data/{path}", content)
    world.at("/srv/app/data").chmod(0o750)
    world.write("/srv/app/settings.ini", "old settings", 0o600)
    new = "/srv/app/.understudy-restore/app.data"
    for path, content in {"both": "new", "other/y": "new", "lib/book": "new"}.items():
        world.write(f"{new}/{path}", content)
    os.symlink("other/y", world.at(f"{new}/link"))
    world.at(new).chmod(0o711)
    world.write("/srv/app/.understudy-restore/app.settings.ini/settings.ini", "new settings", 0o640)


def opened(world: World, checkpoint: Callable[[str], None] | None = None) -> tuple[Disk, Any, Any, Any]:
    """The journal of that restore, as it is before the stop."""
    disk, plan = Disk(world.root, checkpoint), plans.load(world.root)
    app = plan.services["app"]
    journal = turn.begin(disk, app, SNAPSHOT, "near", 30)
    base, old = "/srv/app/.understudy-restore", "/srv/app/.understudy-old-01234567"
    journal.targets = [
        Target("files/data", "/srv/app/data", f"{base}/app.data", f"{old}/data", carry=["lib/media"]),
        Target(
            "files/settings.ini",
            "/srv/app",
            f"{base}/app.settings.ini",
            f"{old}/settings.ini",
            only=["settings.ini"],
        ),
    ]
    journal.targets[0].was = meta_of(str(world.at("/srv/app/data")))
    return disk, plan, app, journal


def restoring(world: World) -> Job:
    """From the first journal to the commit, or back when the service does not serve."""

    def job(checkpoint: Callable[[str], None]) -> None:
        disk, plan, app, journal = opened(world, checkpoint)
        journals.save(disk, journal)
        try:
            turn.stop(disk, app, journal)
            turn.exchange(disk, journal)
            turn.finish(disk, plan, app, journal, turn.Phases())
        except AgentError:
            turn.back(disk, plan, app, journal)

    return job


def live(world: World) -> Tree:
    """What the service has: its folder, its file, and the folder's own rights."""
    found = {f"data/{path}": seen for path, seen in tree(world.at("/srv/app/data")).items()}
    found |= {
        name: seen for name, seen in tree(world.at("/srv/app")).items() if name in ("data", "settings.ini")
    }
    return found


def leftovers(world: World) -> list[str]:
    """What must not survive: folders of new content, journals, torn writes."""
    places = [*world.at("/srv/app").iterdir(), *world.at(f"{STATE}/restore").rglob("*")]
    return [
        p.name for p in places if ".understudy-restore" in p.name or p.name.endswith((".new", "app.json"))
    ]


def copied(world: World, base: Path) -> World:
    shutil.rmtree(base, ignore_errors=True)
    subprocess.run(["cp", "-a", str(world.base), str(base)], check=True)
    return World(base)


def lifted(world: World) -> list[dict[str, Any]]:
    return resuming.resume(world.root)


def booted(world: World) -> None:
    """A boot: first without Docker, then with it."""
    recover.run({}, world.root)
    lifted(world)


@pytest.fixture
def start(tmp_path: Path) -> World:
    world = World(tmp_path / "start")
    world.base.mkdir()
    old_and_new(world)
    return world


def goal_of(start: World, base: Path) -> Tree:
    goal = copied(start, base)
    restoring(goal)(lambda done: None)
    return live(goal)


@pytest.mark.parametrize("next_", [lifted, booted])
def test_killed_anywhere_it_ends_wholly_old_or_wholly_new(
    start: World, tmp_path: Path, next_: Callable[[World], object]
) -> None:
    old, new = live(start), goal_of(start, tmp_path / "goal")
    assert old != new
    assert new["data/both"] != old["data/both"] and new["data/lib/media/film"] == old["data/lib/media/film"]
    ends, point = [], 0
    while done := killed_at(point, restoring(world := copied(start, tmp_path / "w"))):
        next_(world)
        now = live(world)
        assert now in (old, new), f"a mixture after {point} ({done})"
        ends.append(now == new)
        if world.at(f"{STATE}/restore").exists():
            left = leftovers(world)
            # Killed before the journal named them, the folders are taken by the next restore.
            assert not left or point < 5, (point, done, left)
        kept = world.at("/srv/app/.understudy-old-01234567/data/a.txt")
        assert kept.exists() == (now == new), (point, done)
        point += 1
    assert point > 60 and True in ends and False in ends
    assert ends == sorted(ends), "once it is new, a later kill never makes it old again"


def test_recover_alone_leaves_nothing_mixed_that_docker_could_start(start: World, tmp_path: Path) -> None:
    old, new = live(start), goal_of(start, tmp_path / "goal")
    point = 0
    while killed_at(point, restoring(world := copied(start, tmp_path / "w"))):
        recover.run({}, world.root)
        assert live(world) in (old, new), point
        point += 1


@pytest.mark.parametrize("state", ["prepared", "swapping", "swapped", "started", "committed"])
def test_the_way_on_may_be_killed_anywhere_too(start: World, tmp_path: Path, state: str) -> None:
    old, new = live(start), goal_of(start, tmp_path / "goal")
    torn = in_state(start, tmp_path, state)
    point, goal = 0, old if state in ("prepared", "swapping") else new
    while killed_at(point, recovering(world := copied(torn, tmp_path / "w"))):
        booted(world)
        assert live(world) == goal, (state, point)
        assert not leftovers(world)
        point += 1
    assert point > 1


def recovering(world: World) -> Job:
    def job(checkpoint: Callable[[str], None]) -> None:
        disk = Disk(world.root, checkpoint)
        resuming.before_docker(disk)
        resuming.resume(world.root, disk)

    return job


def in_state(start: World, tmp_path: Path, wanted: str) -> World:
    """A host whose restore was killed as late as possible in a state."""
    watched, states = copied(start, tmp_path / "s"), []

    def look(done: str) -> None:
        place = watched.at(f"{STATE}/restore/app.json")
        states.append(json.loads(place.read_text())["state"] if place.exists() else "")

    restoring(watched)(look)
    found = max(point for point, state in enumerate(states) if state == wanted)
    world = copied(start, tmp_path / "torn")
    assert killed_at(found, restoring(world))
    assert json.loads(world.at(f"{STATE}/restore/app.json").read_text())["state"] == wanted
    return world


def test_a_service_that_does_not_serve_goes_back_and_that_may_be_killed_anywhere(tmp_path: Path) -> None:
    start = World(tmp_path / "start")
    start.base.mkdir()
    old_and_new(start, probes=[REFUSED])
    old, point = live(start), 0
    while killed_at(point, restoring(world := copied(start, tmp_path / "w"))):
        booted(world)
        assert live(world) == old, point
        assert not world.at("/srv/app/.understudy-old-01234567").exists()
        point += 1
    assert point > 80
    assert live(world) == old and not leftovers(world)


def test_a_damaged_journal_stops_restores_of_the_service_and_says_where_to_look(start: World) -> None:
    start.write(f"{STATE}/restore/app.json", "{half")
    report = lifted(start)[0]
    assert report["outcome"] == "broken" and "is damaged" in report["error"]
    assert start.at(f"{STATE}/restore/app.json").exists()


def test_recover_leaves_a_restore_that_is_at_work_alone(start: World) -> None:
    from understudy.agent import lock

    disk, _, _, journal = opened(start)
    journals.save(disk, journal)
    with lock.exclusive(start.root, "data", "restore app", 1, lambda line: None):
        assert recover.run({}, start.root)["restores"] == []
    assert start.at("/srv/app/.understudy-restore/app.data").exists() and start.journals() == ["app.json"]
    assert recover.run({}, start.root)["restores"][0]["outcome"] == "undone"
