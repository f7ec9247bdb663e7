"""One Compose file with several applications: one stack to bring up, several units to keep."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from samples import VARIABLES, Write

from understudy import render
from understudy.agent.data import plan as agent_plan
from understudy.agent.owner import plan as owner_plan
from understudy.agent.owner.engine import Seen
from understudy.catalog import Catalog
from understudy.desired import Desired
from understudy.errors import BadInput
from understudy.faults import CatalogError
from understudy.operations import session, updates
from understudy.ownership.files import PLAN as OWNERS
from understudy.protection.files import PLAN
from understudy.settings import settings_of

Load = Callable[..., Catalog]
FILE = """
services:
  photos: {image: "photos:1", ports: ["127.0.0.1:8200:80"], depends_on: [db], volumes: ["./photos:/data"]}
  feeds:
    image: "feeds:1"
    ports: ["127.0.0.1:8201:80"]
    depends_on: [db]
    restart: unless-stopped
    volumes: ["feeds:/data"]
    secrets: [feeds]
  db: {image: "postgres:16.3", volumes: ["db:/var/lib/postgresql/data"]}
  tools: {image: "tools:1", environment: {KEY: "${KEY}"}}
volumes: {feeds: {}, db: {}}
secrets: {feeds: {file: /etc/understudy/secrets/all/FEEDS}}
"""
BLOCK = """
tier: optional
group: critical
needs: [pad]
secrets: {KEY: {generate: alnum32}, FEEDS: {generate: alnum32}}
secrets_env: [KEY]
apps:
  photos:
    services: [photos]
    tier: critical
    routes: [{host: photos, to: "photos:80", probe: {path: /, text: Photos}}]
  feeds:
    services: [feeds]
    databases: [{postgres: {service: db, database: feeds}}]
    probe: {to: "feeds:80", text: Feeds}
"""
PAD = "group: critical\nnative: {description: Pad, exec: /usr/bin/pad, writable: [/var/lib/pad], ports: [9100]}\n"
SECRETS = {
    "all": {"KEY": "k", "FEEDS": "f"},
    "backup": {"OFFSITE_PASSWORD": "p", "OFFSITE_KEY_ID": "i", "OFFSITE_KEY": "w"},
}
OFFSITE = {
    "repositories": {"offsite": {"url": "s3:https://s3.example/b", "tamper": "versions"}},
    "host_paths": [],
}


@pytest.fixture
def several(write: Write) -> Write:
    write("all/compose.yaml", FILE)
    write("all/understudy.yaml", BLOCK)
    write("pad/understudy.yaml", PAD)
    return write


def wanted(load: Load, **data: Any) -> Desired:
    values = {"domain": VARIABLES["DOMAIN"], "parts": {"proxy": False}, "backup": OFFSITE, **data}
    return render.desired(load(), settings_of("box", values), SECRETS)


def test_each_application_is_a_unit_with_its_own_containers(several: Write, load: Load) -> None:
    catalog = load()
    found = {unit.name: (sorted(unit.containers), unit.stack, unit.project) for unit in catalog}
    assert found == {
        "all": (["db", "tools"], "all", "all"),
        "feeds": (["feeds"], "all", "all"),
        "pad": ([], "pad", "pad"),
        "photos": (["photos"], "all", "all"),
    }
    tiers = {name: catalog.services[name].block.tier for name in ("all", "photos", "feeds")}
    assert tiers == {"all": "optional", "photos": "critical", "feeds": "optional"}
    assert {catalog.services[name].block.group for name in ("all", "photos", "feeds")} == {"critical"}


def test_what_a_container_depends_on_is_needed_by_its_unit(several: Write, load: Load) -> None:
    several("late/compose.yaml", 'services: {late: {image: "late:1"}}')
    several("late/understudy.yaml", "needs: [photos]\n")
    catalog = load()
    assert catalog.services["photos"].block.needs == ["all"]
    assert catalog.needs_of("late") == ["all"]
    assert catalog.levels(catalog.services) == [["pad"], ["all"], ["late"]]


def test_the_file_is_brought_up_once_and_whole(several: Write, load: Load) -> None:
    desired = wanted(load)
    assert list(desired.stacks) == ["all"]
    assert dict(desired.stacks["all"].images) == {
        "photos": "photos:1", "feeds": "feeds:1", "db": "postgres:16.3", "tools": "tools:1",
    }  # fmt: skip
    assert desired.stack_of("photos") == desired.stacks["all"]
    assert desired.tree.entries["/etc/understudy/secrets/all/FEEDS"].reaction == "recreate:all/feeds"
    names = {path for path in desired.tree.entries if path.startswith("/home/docker-projects/")}
    assert names == {
        "/home/docker-projects/all",
        "/home/docker-projects/all/.env",
        "/home/docker-projects/all/compose.yaml",
    }


def test_each_unit_keeps_its_own_places_and_databases(several: Write, load: Load) -> None:
    plan = agent_plan.parse(json.loads(wanted(load).tree.entries[PLAN].content))
    units = {name: unit for name, unit in plan.services.items() if name != "pad"}
    kept = {
        name: ([m.key for m in unit.mounts if m.class_ == "keep"], unit.containers)
        for name, unit in units.items()
    }
    assert kept == {
        "all": ([], ("db", "tools")),
        "feeds": (["volumes/feeds"], ("feeds",)),
        "photos": (["files/photos"], ("photos",)),
    }
    (feeds,) = plan.services["feeds"].databases
    assert (feeds.project, feeds.container, feeds.database) == ("all", "db", "feeds")
    (server,) = plan.services["all"].databases
    assert (server.container, server.database, server.besides) == ("db", "", ("feeds",))
    assert plan.running("all", "db") is plan.services["all"]
    assert plan.running("all", "photos") is plan.services["photos"]
    assert set(plan.services["photos"].config) == {
        "/home/docker-projects/all/compose.yaml",
        "/home/docker-projects/all/.env",
    }
    assert [p["name"] for p in plan.services["feeds"].probes] == ["feeds"]


def test_a_guard_starts_and_watches_each_unit(several: Write, load: Load) -> None:
    peers = {"box": {"role": "primary"}, "spare": {"role": "replica"}}
    desired = wanted(load, peers=peers)
    override = desired.tree.entries["/etc/understudy/guard/all.yaml"].content.decode()
    assert [line.split('"')[1] for line in override.splitlines()[2:]] == ["photos", "feeds", "db", "tools"]
    raw = json.loads(desired.tree.entries[OWNERS].content)
    plan = owner_plan._parse(raw)
    assert sorted(plan.services) == ["all", "feeds", "pad", "photos"]
    order = [unit.name for unit in plan.of("critical")]
    assert order.index("pad") < order.index("all") < order.index("photos")
    assert plan.services["feeds"].restart == {"feeds": "unless-stopped"}
    seen = [Seen("1", "photos", "running"), Seen("2", "db", "running")]
    assert [one.service for one in plan.services["photos"].own(seen)] == ["photos"]
    assert [one.service for one in plan.services["all"].own(seen)] == ["db"]


def test_where_all_containers_have_an_application_nothing_is_left_to_start(
    several: Write, load: Load
) -> None:
    several("all/compose.yaml", FILE.replace("depends_on: [db], ", "").replace("    depends_on: [db]\n", ""))
    several("all/understudy.yaml", BLOCK + "  rest: {services: [db, tools]}\n")
    peers = {"box": {"role": "primary"}, "spare": {"role": "replica"}}
    desired = wanted(load, peers=peers)
    for path in (PLAN, OWNERS):
        assert "all" not in json.loads(desired.tree.entries[path].content)["services"]
    assert list(desired.stacks) == ["all"]


def test_a_host_names_files_not_applications(several: Write, load: Load) -> None:
    assert wanted(load, services=["all", "pad"]).services == ["all", "photos", "feeds", "pad"]
    with pytest.raises(BadInput, match="no service is called 'photos'; known: all, pad"):
        wanted(load, services=["photos"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("services: [photos]", "services: [photo]", "apps.photos.services: the file has no service 'photo'"),
        ("services: [feeds]", "services: [feeds, photos]", "apps.feeds.services: 'photos' is in photos already"),
        ("  photos:\n", "  all:\n", "apps.all: is the name of the folder's own service"),
        ("  photos:\n", "  pad:\n", "apps.pad: .*pad/understudy.yaml has a service of that name too"),
        ("  photos:\n", "  Photos:\n", "apps: .*lower-case letters"),
        ('to: "photos:80"', 'to: "feeds:80"', "apps.photos.routes.0.to: 'feeds:80' names another unit's container"),
        ("apps:\n", "data: {photos:/data: cache}\napps:\n", "data.photos:/data: 'photos' belongs to another unit"),
        ("tier: critical", "tier: critical\n    group: rest", "apps.photos.group: is not a key"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_named(several: Write, load: Load, old: str, new: str, said: str) -> None:
    assert old in BLOCK
    several("all/understudy.yaml", BLOCK.replace(old, new, 1))
    with pytest.raises(CatalogError, match=said) as caught:
        load()
    assert all(fault.line for fault in caught.value.faults)


def test_units_that_need_each_other_belong_into_one(several: Write, load: Load) -> None:
    several("all/compose.yaml", FILE.replace('image: "tools:1"', 'image: "tools:1", depends_on: [photos]'))
    with pytest.raises(CatalogError, match=r"need each other in a circle: .*put those into one app"):
        load()


def test_a_place_that_two_units_write_is_refused_until_one_says_otherwise(several: Write, load: Load) -> None:
    several("all/compose.yaml", FILE.replace('["feeds:/data"]', '["feeds:/data", "./photos:/photos"]'))
    with pytest.raises(CatalogError, match=r"apps.feeds.services: .*/photos is written by photos too"):
        load()
    several(
        "all/understudy.yaml",
        BLOCK.replace("    services: [feeds]\n", "    services: [feeds]\n    data: {feeds:/photos: media}\n"),
    )
    assert load().services["feeds"].data_rules()["feeds:/photos"].class_ == "media"


def test_a_native_service_cannot_be_split(several: Write, load: Load) -> None:
    several("pad/understudy.yaml", PAD + "apps: {a: {services: [b]}}\n")
    with pytest.raises(CatalogError, match="apps: a native service is one unit"):
        load()


def of(desired: Desired, containers: list[dict[str, Any]] = [], opened: list[str] = []) -> session.Session:  # noqa: B006
    survey = {"containers": containers, "updates": opened}
    fake = SimpleNamespace(desired=desired, survey=lambda: survey)
    return cast(session.Session, fake)


def test_an_update_is_the_units_whose_image_changes(several: Write, load: Load) -> None:
    desired = wanted(load)
    live = [
        {"project": "all", "service": name, "image": image}
        for name, image in (("photos", "photos:0"), ("db", "postgres:16.3"), ("feeds", "feeds:0"))
    ]
    found = updates.image_changes(desired, {"containers": live})
    assert found == {"photos": ["photos: photos:0 → photos:1"], "feeds": ["feeds: feeds:0 → feeds:1"]}
    assert updates.of_file(of(desired), "all", ["photos", "pad", "feeds"]) == ["photos", "feeds"]


def test_one_file_goes_back_as_a_whole(several: Write, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other applications would run what the file no longer says."""
    back: dict[str, str] = {}
    monkeypatch.setattr(updates, "_objection", lambda _, name: "no answer" if name == "photos" else "")
    monkeypatch.setattr(updates, "put_back", lambda _, bad: back.update(bad) or ["put back"])
    committed: list[Any] = []
    monkeypatch.setattr(updates.protecting, "call", lambda *words: committed.append(words[2]["services"]))
    with pytest.raises(Exception, match="put back"):
        updates.judge(of(wanted(load), opened=["feeds", "pad", "photos"]))
    assert back == {"photos": "no answer", "feeds": "photos, in the same file, did not"}
    assert committed == [{"pad": []}]
