"""What the host says about its own protection, and what it finds that nobody keeps."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tick_world import Host, box, prepared, repository, service, sqlite_file

from understudy.agent import copies, coverage, lock, status
from understudy.agent.data import ledger
from understudy.agent.data import plan as plans

__all__ = ["box", "prepared"]


def of(reply: dict[str, Any], name: str) -> dict[str, Any]:
    return next(s for s in reply["services"] if s["service"] == name)


def test_before_the_first_tick_everything_is_overdue(box: Host) -> None:
    box.write_plan()
    reply = status.run({}, box.root)
    assert reply["overdue"] == ["a was never backed up", "b was never backed up"] and not reply["ok"]
    assert of(reply, "a")["rpo"] is None and of(reply, "a")["proven"] is None
    [place] = of(reply, "a")["repositories"]
    assert (place["repository"], place["snapshot"], place["age"]) == ("near", None, None)


def test_after_a_tick_the_age_is_that_of_its_dump_and_no_repository_is_asked(box: Host) -> None:
    done = {row["service"]: row for row in box.tick()["services"]}
    ledger.add(box.root, "restore", service="a", seconds=12.5, snapshot="s1")
    ledger.add(box.root, "restore", service="b", seconds=9, ok=False, error="x")
    ledger.add(box.root, "restore", service="b", seconds=0, resumed=True, outcome="undone")
    box.at("/store/near").rename(box.at("/store/gone"))
    reply = status.run({}, box.root)
    a = of(reply, "a")
    [place] = a["repositories"]
    assert reply["ok"] and reply["overdue"] == []
    assert (place["snapshot"], place["seq"], place["files"]) == (done["a"]["snapshot"], 1, done["a"]["files"])
    assert a["rpo"] == place["age"] == pytest.approx(reply["at"] - done["a"]["started"], abs=0.2)
    assert a["objective"] == 7200 and a["next_due"] == pytest.approx(reply["ticks"]["critical"]["at"] + 3600)
    assert a["proven"]["seconds"] == 12.5 and of(reply, "b")["proven"] is None, (
        "a failed restore proves nothing"
    )


def test_old_failed_and_lagging_backups_are_named(box: Host) -> None:
    box.tick()
    box.write("/var/lib/understudy/clock-offset", str(3 * 3600))
    reply = status.run({}, box.root)
    assert reply["overdue"][0].startswith("a: its last good backup began 3.0 h ago; 2.0 h are promised")
    box.at("/srv/a/data").rename(box.at("/srv/a/gone"))
    box.tick()
    reply = status.run({}, box.root)
    assert "/srv/a/data is missing" in of(reply, "a")["error"] and not reply["ok"]
    assert (
        of(reply, "a")["repositories"][0]["pinned"]["snapshot"]
        == of(reply, "a")["repositories"][0]["snapshot"]
    )
    assert of(reply, "b")["overdue"] is None
    box.repositories["far"] = repository("rest:http://127.0.0.1:9/")
    box.tick()
    reply = status.run({}, box.root)
    assert of(reply, "b")["overdue"] == "b: far got it never; 2.0 h are promised"


def test_copies_locks_and_debts_are_shown(box: Host) -> None:
    box.repositories["drawer"] = repository("/store/drawer", tiers=[], copy_from="near")
    box.at("/store/drawer").mkdir(parents=True)
    box.prepare()
    box.tick()
    copies.run({}, box.root)
    box.write("/var/lib/understudy/stopped/a.json", json.dumps({"service": "a"}))
    with lock.exclusive(box.root, "data", "backup critical", 0, lambda line: None):
        reply = status.run({}, box.root)
    assert [(p["repository"], p["copy"], p["seq"]) for p in of(reply, "a")["repositories"]] == [
        ("near", False, 1),
        ("drawer", True, 1),
    ]
    assert "backup critical" in reply["locks"]["data"] and reply["owed"] == ["a"]


def container(name: str, image: str, *mounts: dict[str, Any], project: str = "p") -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "project": project,
        "service": name,
        "oneoff": False,
        "mounts": list(mounts),
    }


def bound(source: str, rw: bool = True) -> dict[str, Any]:
    return {"type": "bind", "source": source, "name": None, "destination": "/x", "rw": rw}


def volume(name: str) -> dict[str, Any]:
    return {"type": "volume", "source": f"/v/{name}", "name": name, "destination": "/x", "rw": True}


def planned(**services: Any) -> plans.Plan:
    return plans.parse({"host": "h", "services": services, "repositories": {}, "tiers": {}})


def test_b12_volumes_and_folders_that_no_service_keeps_are_found() -> None:
    held = {**service("a"), "mounts": [{"key": "volumes/kept", "kind": "volume", "source": "kept"},
                                       {"key": "files/data", "kind": "bind", "source": "/srv/a/data"},
                                       {"key": "files/film", "kind": "bind", "source": "/srv/film", "class": "media"}],
            "config": ["/srv/a/.env"]}  # fmt: skip
    containers = [
        container("a", "app:1", bound("/srv/a/data/sub"), bound("/srv/a/.env", False), bound("/srv/film"), volume("kept"),
                  bound("/etc/localtime", False), bound("/var/run/docker.sock"), bound("/srv/site/index.html", False)),
        container("stopped", "app:2", bound("/srv/secret-cellar"), volume("loose"), volume("f" * 64)),
    ]  # fmt: skip
    volumes = [{"name": "kept"}, {"name": "loose"}, {"name": "orphan"}, {"name": "e" * 64}]
    found = list(coverage.uncovered_mounts(planned(a=held), containers, volumes, {"/srv/site/index.html"}))
    assert {(f["kind"], f["what"]): f["service"] for f in found} == {
        ("path", "/srv/secret-cellar"): "stopped",
        ("volume", "loose"): "stopped",
        ("volume", "f" * 64): "stopped",
        ("volume", "orphan"): "",
    }
    assert "used by no container" in next(f["sentence"] for f in found if f["what"] == "orphan")


def test_b10_database_servers_are_judged_over_all_services() -> None:
    cloud = {
        **service("cloud"),
        "databases": [
            {"name": "c", "kind": "postgres", "project": "p", "container": "db", "database": "cloud"}
        ],
    }
    containers = [container("db", "docker.io/library/postgres:16"), container("maria", "mariadb:11"),
                  container("app", "postgres-exporter:1"),
                  container("cache", "redis:7", volume("scratch")), container("queue", "valkey/valkey:8", volume("jobs"))]  # fmt: skip
    other = {
        **service("x"),
        "mounts": [{"key": "volumes/scratch", "kind": "volume", "source": "scratch", "class": "cache"}],
    }
    plan = planned(cloud=cloud, x=other)
    assert [f["what"] for f in coverage.servers(plan, containers)] == ["maria", "queue"]
    held = {("p", "db"): ["postgres", "cloud", "paperless", "cloud__old"]}
    assert [f["what"] for f in coverage.unnamed_databases(plan, held)] == ["p/db/paperless"]
    whole = {**cloud, "databases": [{**cloud["databases"][0], "database": ""}]}
    assert coverage.unnamed_databases(planned(cloud=whole), held) == []


@pytest.mark.parametrize(("image", "kind"), [
    ("postgres:16", "postgres"), ("ghcr.io/immich-app/postgres:14-vector@sha256:ab", "postgres"), ("registry:5000/x/mysql", "mariadb"),
    ("pgadmin4:8", None), ("mongo:7", "mongo"), ("nginx", None)])  # fmt: skip
def test_servers_are_known_by_their_image(image: str, kind: str | None) -> None:
    assert coverage.server_kind(image) == kind


def test_sqlite_files_nobody_names_are_found_by_their_header(
    box: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # a host without Docker
    box.services["a"]["mounts"][0]["rules"] = [{"path": "old", "class": "none"}]
    box.services["a"]["databases"] = [{"name": "n", "kind": "sqlite", "mount": "files/data", "path": "*.db"}]
    for path in ("notes.db", "deep/er/hidden", "old/kept-out"):
        sqlite_file(box.at(f"/srv/a/data/{path}"), 3)
    box.write("/srv/a/data/not-one.sqlite", b"\0" * 4096)
    box.write_plan()
    reply = coverage.run({}, box.root)
    assert [(f["kind"], f["what"]) for f in reply["uncovered"]] == [("sqlite", "/srv/a/data/deep/er/hidden")]
    assert reply["complete"] and status.run({}, box.root)["uncovered"] == reply["uncovered"]
    with sqlite3.connect(box.at("/srv/a/data/deep/er/hidden")) as database:
        assert database.execute("select count(*) from notes").fetchone() == (3,)


def test_each_tick_looks_around_at_most_hourly(box: Host) -> None:
    box.tick()
    first = status.run({}, box.root)["coverage_at"]
    assert first
    box.tick()
    assert status.run({}, box.root)["coverage_at"] == first
    box.write("/var/lib/understudy/clock-offset", "3700")
    box.tick()
    assert status.run({}, box.root)["coverage_at"] > first


def test_a_declared_repository_that_was_never_made_is_named_and_one_we_made_is_not_asked(box: Host) -> None:
    box.repositories["far"] = repository("/store/far")
    box.at("/store/far").mkdir()
    box.write_plan()
    [missing] = coverage.run({}, box.root)["unmade"]
    assert (missing["repository"], missing["group"]) == ("far", "rest")
    assert "does not exist yet" in missing["sentence"] and "understudy repo init" in missing["sentence"]
    assert "error" not in box.prepare()
    box.at("/store").rename(box.at("/store-unplugged"))
    assert coverage.run({}, box.root)["unmade"] == [], "known from the ledger: no store is asked"


def test_a_repository_that_is_never_read_back_or_is_damaged_is_overdue(box: Host) -> None:
    ledger.add(box.root, "backup", key="near", group="rest", service="a")
    box.write("/var/lib/understudy/clock-offset", str(16 * 86400))
    box.write_plan()

    def said() -> list[str]:
        return [line for line in status.run({}, box.root)["overdue"] if "backed up" not in line]

    assert said()[0].startswith("near/rest was not read back ever")
    ledger.add(box.root, "verify", key="near", group="rest", packs=[])
    assert said() == []
    ledger.add(box.root, "verify", key="near", group="rest", ok=False, packs=["p"], error="near is damaged")
    assert said() == ["near is damaged"]
