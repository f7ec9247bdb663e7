"""A moment rebuilt from the versions of a real store, and the tamper test."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lab import tools
from understudy.errors import BadInput, Refused
from understudy.repository.objects import Bucket
from understudy.repository.restic import AdminRepository, opened
from understudy.repository.tamper import append_only, tamper
from understudy.repository.unhide import unhide

PACKS = 1200


@dataclass(frozen=True)
class Target:
    """All that these tests need of a store: its endpoint (with http://), a bucket, and (key id, secret) pairs."""

    endpoint: str
    bucket: str
    host: tuple[str, str]
    admin: tuple[str, str]

    def repository(self, group: str, key: tuple[str, str], cache: Path) -> AdminRepository:
        aws = f"[default]\naws_access_key_id = {key[0]}\naws_secret_access_key = {key[1]}\n"
        url = f"s3:{self.endpoint}/{self.bucket}/unhide-test/{group}"
        return AdminRepository("offsite", group, url, "pw", aws=aws, cache_dir=str(cache))


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest) -> Target:
    """The lab's store; or one that runs already, named in the environment."""
    given = os.environ.get("UNDERSTUDY_TEST_STORE")  # endpoint bucket hostkey hostsecret adminkey adminsecret
    if given:
        endpoint, bucket, *keys = given.split()
        return Target(endpoint, bucket, (keys[0], keys[1]), (keys[2], keys[3]))
    store = request.getfixturevalue("lab").store
    store.reset()
    host, admin = store.client("lemongrab"), store.admin
    return Target(
        f"http://{admin.address}",
        "lemongrab-backups",
        (host.key.key_id, host.key.secret),
        (admin.key.key_id, admin.key.secret),
    )


def clear(bucket: Bucket) -> None:
    with ThreadPoolExecutor(16) as pool:
        for entries in bucket.versions().values():
            list(pool.map(bucket.remove, entries))


@dataclass
class World:
    """A repository as its host and as the owner reach it."""

    host: AdminRepository
    admin: AdminRepository
    theirs: Bucket
    ours: Bucket
    folder: Path

    def backup(self, seed: str, session: Any) -> str:
        source = self.folder / seed
        source.mkdir()
        for number in range(8):
            (source / f"file{number}").write_bytes(os.urandom(30_000))
        tags = ["understudy", "group:critical", "tier:critical", "epoch:1", f"seq:{seed}", "service:vault"]
        more = [part for tag in tags for part in ("--tag", tag)]
        argv = ["backup", "--json", "--host", "lemongrab", *more, "."]
        return str(session.run(argv, 120, lock=True, cwd=str(source)).summary["snapshot_id"])

    def same(self, snapshot: str, seed: str) -> bool:
        target = self.folder / f"out-{seed}-{time.monotonic_ns()}"
        with opened(replace(self.admin, cache_dir=str(self.folder / f"c{time.monotonic_ns()}"))) as session:
            session.run(["restore", snapshot, "--target", str(target)], 120)
            session.run(["check", "--read-data"], 300)
        return contents(self.folder / seed) == contents(target)

    def visible(self) -> dict[str, tuple[int, str]]:
        """What a reader sees, locks aside: key to size and ETag."""
        now = {key: entries[0] for key, entries in self.ours.versions().items()}
        return {k: (v.size, v.etag) for k, v in now.items() if not v.marker and "/locks/" not in k}


def contents(folder: Path) -> dict[str, str]:
    files = [one for one in folder.rglob("*") if one.is_file()]
    return {str(one.relative_to(folder)): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


@pytest.fixture
def world(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    host = target.repository("critical", target.host, tmp_path / "cache")
    admin = target.repository("critical", target.admin, tmp_path / "admin-cache")
    made = World(host, admin, Bucket(host), Bucket(admin), tmp_path)
    clear(made.ours)
    yield made
    with contextlib.suppress(Exception):
        clear(made.ours)


def pause() -> float:
    """A moment that no change shares a second with."""
    time.sleep(1.6)
    moment = time.time() // 1
    time.sleep(1.6)
    return moment


def test_a_moment_of_thousands_of_objects_comes_back(world: World) -> None:
    """Hidden, overwritten and added since: afterwards every object is as it was, and a later moment comes back too."""
    with opened(world.host) as session:
        session.run(["init"], 60, lock=True)
        first = world.backup("1", session)
        second = world.backup("2", session)
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(PACKS)]
    keys = [f"{world.ours.place.prefix}data/{name[:2]}/{name}" for name in names]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: world.theirs.put(key, key.encode()), keys))
    then = world.visible()
    moment = pause()
    with opened(world.host) as session:
        world.backup("3", session)
    before_attack, before_attack_at = world.visible(), pause()
    hidden = [key for key in then if int(hashlib.sha256(key.encode()).hexdigest(), 16) % 2]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(world.theirs.hide, hidden))
        list(pool.map(lambda key: world.theirs.put(key, b"ruined"), sorted(then.keys() - set(hidden))))
    dry = unhide(world.admin, moment)
    assert world.visible() != then, "a dry run changes nothing"
    shown = dry["changes"]
    assert sum(shown["show"].values()) == len(hidden)
    assert sum(shown["restore"].values()) == len(then) - len(hidden)
    assert dry["snapshots_hidden"] == 1 and dry["snapshots"] == 2 and dry["newest"]["vault"][:2] == [1, 2]
    done = unhide(world.admin, moment, dry_run=False)
    print(
        f"{done['objects']} objects, changes {done['changes']}: {done['seconds']} s; dry run {dry['seconds']} s"
    )
    assert world.visible() == then
    assert world.same(first, "1") and world.same(second, "2")
    again = unhide(world.admin, moment, dry_run=False)
    assert again["changes"] == {"show": {}, "restore": {}, "hide": {}}, "a second run finds nothing to do"
    unhide(world.admin, before_attack_at, dry_run=False)
    assert world.visible() == before_attack, "and what was added before the attack is not lost either"


def test_a_moment_that_cannot_be_rebuilt_is_refused_before_anything_changes(world: World) -> None:
    early = pause()
    with opened(world.host) as session:
        session.run(["init"], 60, lock=True)
        world.backup("1", session)
    moment = pause()
    pack = max((e[0] for k, e in world.ours.versions("data/").items()), key=lambda one: one.size)
    world.theirs.hide(pack.key)
    world.ours.remove(pack)  # as a lifecycle rule does
    before = world.ours.versions()
    with pytest.raises(Refused, match=r"cannot be rebuilt whole: [1-9][0-9]* pieces"):
        unhide(world.admin, moment, dry_run=False)
    for version in world.ours.versions("data/")[pack.key]:
        world.ours.remove(version)  # the marker too: only the index still knows of the pack
    with pytest.raises(Refused, match=r"cannot be rebuilt whole: [1-9][0-9]* pieces"):
        unhide(world.admin, moment, dry_run=False)
    with pytest.raises(Refused, match=r"there is no repository of .* its first version is of"):
        unhide(world.admin, early, dry_run=False)
    with pytest.raises(BadInput, match=r"in the future"):
        unhide(world.admin, time.time() + 3600)
    assert {k: v for k, v in before.items() if k != pack.key} == world.ours.versions()


def test_a_run_killed_midway_is_finished_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(world.host) as session:
        session.run(["init"], 60, lock=True)
        snapshot = world.backup("1", session)
    then, moment = world.visible(), pause()
    for key in then:
        world.theirs.hide(key)
    left = [len(then) // 2]
    real = Bucket.remove

    def some(bucket: Bucket, version: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(bucket, version)

    monkeypatch.setattr(Bucket, "remove", some)
    with pytest.raises(KeyboardInterrupt):
        unhide(world.admin, moment, dry_run=False)
    monkeypatch.undo()
    assert world.visible() != then
    unhide(world.admin, moment, dry_run=False)
    assert world.visible() == then and world.same(snapshot, "1")


def test_tamper(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    host = target.repository("tamper", target.host, tmp_path / "c1")
    admin = target.repository("tamper", target.admin, tmp_path / "c2")
    record = tamper(host, admin)
    assert record["ok"], record["error"]
    assert (record["hidden"], record["overwritten"], record["noticed"]) == (3, 3, True)
    assert record["refused"] == 13 and record["compared"] == 24
    assert record["unhide"]["show"] == record["unhide"]["restore"] == {"data": 1, "index": 1, "snapshots": 1}


def test_tamper_fails_when_the_hosts_key_may_remove_versions(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The admin key in the host's place is the key that a careless owner gave the host."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    admin = target.repository("tamper", target.admin, tmp_path / "c2")
    record = tamper(admin, admin)
    assert not record["ok"] and "the host's key may remove a version" in record["error"]


@pytest.mark.parametrize("limits", [["--append-only"], []])
def test_tamper_of_an_append_only_server(
    limits: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passed where the server is append-only, failed with a sentence where it only says so. Twice in a row."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
        "serve",
        "restic",
        str(tmp_path / "served"),
        "--addr",
        f"127.0.0.1:{port}",
        "--user",
        "me",
        "--pass",
        "pw",
    ]
    server = subprocess.Popen([str(tools.rclone()), "--config=", *words, *limits], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        host = AdminRepository(
            "nas",
            "tamper",
            f"rest:http://127.0.0.1:{port}/lemongrab/tamper",
            "pw",
            rest="me:pw",
            cache_dir=str(tmp_path / "c"),
        )
        for _ in range(2):
            record = append_only(host)
            if limits:
                assert record["ok"], record["error"]
                assert record["refused"] == 10 and record["compared"] == 24
            else:
                assert not record["ok"] and "is not append-only" in record["error"]
                break
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.1)
    raise AssertionError("rclone does not answer")
