"""The parts of a restore that decide: versions, patterns, links, command lines, places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from putback_world import World, service

from understudy.agent.data import plan as plans
from understudy.agent.data.plan import Hook, Mount, Service
from understudy.agent.errors import AgentError
from understudy.agent.putback import arrive, carry, fetch, listing, running, scratch, versions
from understudy.agent.putback.globs import reaches
from understudy.agent.putback.places import layout
from understudy.agent.putback.safe import leaves


def images(reference: str, digest: str = "") -> dict[str, Any]:
    return {"images": {"web": {"image": reference, "digest": digest, "id": "sha256:1"}}}


@pytest.mark.parametrize(
    ("then", "now", "rule", "verdict"),
    [
        ("shop/app:2.0", "shop/app:2.0", {}, None),
        ("shop/app:2.0@sha256:a", "shop/app:2.0@sha256:a", {}, None),
        ("shop/app:2.0@sha256:a", "shop/app:2.0@sha256:b", {}, "note"),
        ("shop/app:2.0.1", "shop/app:2.0", {}, "refused"),
        ("shop/app:2.0", "shop/app:2.0.0-alpine", {}, "note"),
        ("shop/app:v2.10", "shop/app:v2.9", {}, "refused"),
        ("shop/app:2.1", "shop/app:2.0", {"downgrade": "allowed"}, "note"),
        ("shop/app:28.0.1", "shop/app:29.0.0", {"major_step": 1}, "note"),
        ("shop/app:28.0.1", "shop/app:30.0.0", {"major_step": 1}, "refused"),
        ("shop/app:latest", "shop/app:2.0", {}, "note"),
        ("shop/app:3", "fork/app:2", {}, "note"),
        ("registry:5000/shop/app:3", "registry:5000/shop/app:2", {}, "refused"),
    ],
)
def test_versions(then: str, now: str, rule: dict[str, Any], verdict: str | None) -> None:
    shop = Service("shop", "rest", "important", images={"web": now}, version=rule)
    found = versions.compare(shop, images(then))
    assert [one["verdict"] for one in found] == ([verdict] if verdict else [])
    if verdict == "refused":
        with pytest.raises(AgentError, match="allow_version") as caught:
            versions.check(shop, images(then), allow=False)
        assert caught.value.kind == "version"
    versions.check(shop, images(then), allow=True)


def test_another_major_of_a_database_server_is_fine_as_its_dump_is_logical() -> None:
    shop = Service("shop", "rest", "important", images={"web": "postgres:16.4"}, servers=("web",))
    assert versions.check(shop, images("postgres:17.2"), allow=False)[0]["verdict"] == "note"


@pytest.mark.parametrize(
    ("path", "goal", "out"),
    [
        ("a", "b", False), ("a/b", "../c", False), ("a/b", "../../c", True), ("a", "..", True), ("a", "/etc/passwd", True),
        ("a/b/c", "../../d/../e", False), ("a", "b/../../c", True),
    ],
)  # fmt: skip
def test_links_that_leave_their_mount(path: str, goal: str, out: bool) -> None:
    assert leaves(path, goal) is out


@pytest.mark.parametrize(
    ("pattern", "folder", "enters"),
    [
        ("lib/media", "lib", True), ("lib/media", "other", False), ("lib/media", "lib/media", False),
        ("**/x", "any/where", True), ("a*/b", "abc", True), ("a/**", "a/b/c", True),
    ],
)  # fmt: skip
def test_which_folders_a_pattern_makes_us_enter(pattern: str, folder: str, enters: bool) -> None:
    assert reaches(pattern, folder) is enters


def test_command_lines_to_the_letter() -> None:
    assert fetch.argv("ab12", "/w", ["/other", "/app/data/x"]) == [
        "restore", "ab12", "--json", "--no-lock", "--target", "/w", "--sparse", "--exclude", "/other",
        "--exclude", "/app/data/x",
    ]  # fmt: skip
    assert fetch.argv("ab12", "/w", [], in_place=True) == [
        "restore", "ab12", "--json", "--no-lock", "--target", "/w", "--overwrite", "if-changed", "--delete",
    ]  # fmt: skip
    assert fetch.include_argv("ab12", "/w", ["/app/manifest.json"]) == [
        "restore", "ab12", "--json", "--no-lock", "--target", "/w", "--sparse", "--include", "/app/manifest.json",
    ]  # fmt: skip
    assert listing.argv("ab12", ["app", "web"]) == [
        "ls", "--json", "--no-lock", "--recursive", "ab12", "/app", "/web",
    ]  # fmt: skip


def test_an_offline_hook_gets_a_container_of_its_own_and_a_native_one_its_user() -> None:
    hook = Hook("web", ("php", "occ", "fix"), "www-data")
    stack = Service("shop", "rest", "important", compose=("docker", "compose", "-p", "shop"))
    assert running.offline_argv(stack, hook) == [
        "docker", "compose", "-p", "shop", "run", "--rm", "--no-deps", "-T", "--user", "www-data",
        "--entrypoint", "php", "web", "occ", "fix",
    ]  # fmt: skip
    native = Service("shop", "rest", "important", unit="shop.service")
    assert running.offline_argv(native, hook) == ["runuser", "-u", "www-data", "--", "php", "occ", "fix"]


def test_times_of_restics_list() -> None:
    assert listing.nanoseconds("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert listing.nanoseconds("2026-11-24T11:12:19.744128798Z") % 10**9 == 744128798
    assert listing.nanoseconds("1970-01-01T00:00:02Z") == 2_000_000_000
    assert listing.nanoseconds("") == -1


def test_patterns_of_a_request_become_paths_of_the_snapshot() -> None:
    mounts = (
        Mount("files/data", "bind", "/srv/a/data", targets=("web:/var/www",)),
        Mount("volumes/db[1]", "volume", "db", targets=("web:/var/www/deep", "job:/in")),
    )
    shop = Service("shop", "rest", "important", mounts=mounts)
    asked = (
        "files/data/x/**",
        "web:/var/www/y*",
        "web:/var/www/deep/z",
        "job:/in",
        "dumps/*",
        "job:/nowhere",
    )
    assert scratch.included(shop, asked) == [
        "/shop/data/files/data/x/**",
        "/shop/data/files/data/y*",
        "/shop/data/volumes/db\\[1]/z",
        "/shop/data/volumes/db\\[1]",
        "/shop/dumps/*",
    ]


def bind(key: str, source: str, class_: str = "keep") -> dict[str, Any]:
    return {"key": key, "kind": "bind", "source": source, "class": class_}


class TestPlaces:
    """Where mounts that lie in one another go."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        world = World(tmp_path)
        for path in ("/srv/app/data/in/x", "/srv/app/data/db/pg", "/srv/app/data/films/f"):
            world.write(path)
        return world

    def of(self, world: World, *mounts: dict[str, Any], **more: Any) -> Any:
        world.plan(app=service(mounts=list(mounts), databases=[], **more))
        plan = plans.load(world.root)
        app = plan.services["app"]
        types = {mount.key: "dir" for mount in app.mounts}
        found = layout(world.root, plan, app, "0123456789", types, lambda mount: mount.source)
        return found, carry.carried(world.root, plan, found, found.targets[0])

    def test_beside_the_live_folder(self, world: World) -> None:
        found, _ = self.of(world, bind("files/data", "/srv/app/data"))
        target = found.targets[0]
        assert (target.live, target.new) == ("/srv/app/data", "/srv/app/.understudy-restore/app.data")
        assert target.old == "/srv/app/.understudy-old-01234567/data"
        assert found.binds == {"/app/data/files/data": target.new}

    def test_a_mount_inside_another_is_part_of_its_new_content(self, world: World) -> None:
        found, carried = self.of(
            world, bind("files/data", "/srv/app/data"), bind("files/data/in", "/srv/app/data/in")
        )
        assert len(found.targets) == 1 and len(found.binds) == 1 and carried == []
        assert found.trees["files/data/in"] == "/srv/app/.understudy-restore/app.data/in"

    def test_one_that_lies_elsewhere_in_the_snapshot_is_restored_once(self, world: World) -> None:
        found, _ = self.of(world, bind("files/data", "/srv/app/data"), bind("paths/p", "/srv/app/data/in"))
        assert found.binds["/app/data/paths/p"] == "/srv/app/.understudy-restore/app.data/in"
        assert found.skipped == ["/app/data/files/data/in"]

    def test_media_and_a_servers_files_inside_stay_where_they_are(self, world: World) -> None:
        found, carried = self.of(
            world,
            bind("files/data", "/srv/app/data"),
            bind("files/data/db", "/srv/app/data/db", "none"),
            bind("files/data/films", "/srv/app/data/films", "media"),
        )
        assert len(found.targets) == 1 and carried == ["db", "films"]

    def test_a_kept_old_copy_is_never_in_the_way(self, world: World) -> None:
        world.write("/srv/app/.understudy-old-01234567/data/x")
        found, _ = self.of(world, bind("files/data", "/srv/app/data"))
        assert found.targets[0].old == "/srv/app/.understudy-old-01234567.2/data"

    def test_a_file_where_the_snapshot_has_a_folder_is_refused(self, world: World) -> None:
        with pytest.raises(AgentError, match="is not a folder as in the snapshot"):
            self.of(world, bind("files/x", "/srv/app/data/in/x"))
        assert os.path.exists(world.at("/srv/app/data/in/x"))


def test_a_server_restored_whole_leaves_what_other_services_name() -> None:
    """Also from a snapshot of before they did."""
    server = plans.Database("db", "postgres", project="all", container="db", besides=("feeds",))
    holder = Service("all", "rest", "important", databases=(server,))
    manifest = {"databases": {name: {"kind": "postgres"} for name in ("db/feeds", "db/photos")}}
    found, notes = arrive.served(holder, manifest)
    assert [name for name, _, _ in found] == ["db/photos"]
    assert notes == [
        "the database db/feeds of the snapshot is kept by another service now and stays as it is"
    ]
