"""Restores of what the catalogue has not: a database on another unit's server, a Redis with state, hooks, odd files."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Lab, LabHost
from extras import DISK, NOTES, STACKS, join, leave, sql
from project import ROOT, Project
from test_backup import COMMIT, backup, call, probe_all, restore, rows
from test_faults import ask

from lab.ssh import on_host

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def project(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The converged host with the two services of extras.py."""
    project = Project.copy(tmp_path_factory.mktemp("project"))
    leave(lab, project)
    assert (first := project.converge()).code == 0, first.output
    try:
        join(lab, project)
        yield project
    finally:
        leave(lab, project)


@pytest.fixture(scope="module")
def host(lab: Lab, project: Project) -> Iterator[LabHost]:
    """The host, its timers held."""
    host = lab.host()
    host.hold_timers()
    yield host
    host.start_timers()


def neighbour(host: LabHost) -> dict[str, Any]:
    """Nextcloud as its server and Docker see it: its OID, rows, roles, and when its containers were started."""
    tables = sql(host, "nextcloud", "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    count = " UNION ALL ".join(f"SELECT '{t}', count(*), max(xmin::text::bigint) FROM {t}" for t in tables)
    return {
        "oid": sql(host, "postgres", "SELECT oid FROM pg_database WHERE datname = 'nextcloud'"),
        "rows": sql(host, "nextcloud", count),
        "roles": sql(host, "postgres", "SELECT rolname, rolpassword FROM pg_authid WHERE rolname <> 'reader' ORDER BY 1"),
        "started": host.output("docker inspect -f '{{.Name}} {{.State.StartedAt}}' nextcloud-db-1 nextcloud-app-1"),
    }  # fmt: skip


def test_a_service_on_a_shared_server_comes_back_alone(project: Project, host: LabHost) -> None:
    insert = "INSERT INTO proof SELECT coalesce(max(n), 0) + 1 FROM proof"
    sql(
        host,
        "reader",
        "CREATE TABLE proof (n int PRIMARY KEY)",
        "ALTER TABLE proof OWNER TO reader",
        *[insert] * 5,
    )
    host.run(f"echo before >{NOTES}/n", check=True)
    assert all(row["ok"] for row in backup(project, "reader", "nextcloud"))
    users = sql(host, "reader", "SELECT username FROM users")
    sql(host, "reader", *[insert] * 3, "DELETE FROM users", "DELETE FROM proof WHERE n = 2")
    host.run(f"echo after >{NOTES}/n", check=True)
    call(host, "nextcloud", *COMMIT)  # a row of the neighbour's that is newer than the snapshot, and stays
    old = sql(host, "postgres", "SELECT oid FROM pg_database WHERE datname = 'reader'")
    before = neighbour(host)
    outcome = restore(project, "reader")
    assert outcome.code == 0, outcome.output
    assert neighbour(host) == before
    assert rows(host, "nextcloud")["missing_count"] == 0
    assert sql(host, "reader", "SELECT n FROM proof ORDER BY 1") == list("12345")
    assert sql(host, "reader", "SELECT username FROM users") == users == ["admin"]
    assert host.output(f"cat {NOTES}/n") == "before"
    names = sql(host, "postgres", "SELECT datname FROM pg_database WHERE datname LIKE '%reader%' ORDER BY 1")
    assert names == ["reader", "reader__old"]
    assert sql(host, "postgres", "SELECT oid FROM pg_database WHERE datname = 'reader__old'") == old
    probe_all(host)


def redis(host: LabHost, words: str) -> str:
    return host.output(f"docker exec sessions-redis-1 redis-cli {words}")


def test_a_redis_with_state_and_every_hook(project: Project, host: LabHost) -> None:
    pairs = " ".join(f"user:{number} value-{number}" for number in range(50))
    redis(host, f"mset {pairs}")
    redis(host, "lpush list c b a")
    redis(host, "set short lived ex 86400")
    redis(
        host, "del hook:before_dump hook:after_dump hook:after_rollback"
    )  # the timer's first ticks had them too
    assert all(row["ok"] for row in backup(project, "sessions"))
    assert redis(host, "get hook:before_dump") == redis(host, "get hook:after_dump") == "1"
    redis(host, "set user:7 overwritten")
    redis(host, "set newer than-the-snapshot")
    redis(host, "del list")
    begun = time.time_ns()
    outcome = restore(project, "sessions")
    assert outcome.code == 0, outcome.output
    values = redis(host, "mget " + " ".join(f"user:{number}" for number in range(50))).splitlines()
    assert values == [f"value-{number}" for number in range(50)]
    assert redis(host, "lrange list 0 -1").splitlines() == ["a", "b", "c"]
    assert redis(host, "exists newer") == "0" and int(redis(host, "ttl short")) > 86000
    # before_dump ran before the dump, after_dump after it; after_load once and offline, after_rollback once it served
    assert redis(host, "mget hook:before_dump hook:after_dump hook:after_rollback").splitlines() == [
        "1",
        "",
        "1",
    ]
    loaded = host.output(f"cat {STACKS}/sessions/data/after_load").splitlines()
    assert len(loaded) == 1 and int(loaded[0]) > begun
    redis(host, "set survives a-restart")
    host.run("docker restart sessions-redis-1 && sleep 1", check=True)
    assert redis(host, "get survives") == "a-restart" and redis(host, "get user:7") == "value-7"
    probe_all(host)


def test_an_after_load_hook_that_fails_brings_the_old_data_back(project: Project, host: LabHost) -> None:
    redis(host, "set kept yes")
    assert all(row["ok"] for row in backup(project, "sessions"))
    redis(host, "set newest state")
    plan = "/etc/understudy/backup.json"
    program = (
        f"import json; p=json.load(open('{plan}')); h=p['services']['sessions']['hooks']['after_load'][0]; "
        f"h['run']=['sh','-c','echo cannot migrate >&2; exit 9']; json.dump(p, open('{plan}','w'))"
    )
    host.run(f'cp -a {plan} /root/plan.json && python3 -c "{program}"', check=True)
    try:
        outcome = restore(project, "sessions")
    finally:
        host.run(f"mv /root/plan.json {plan}", check=True)
    assert outcome.code == 1 and "cannot migrate" in outcome.output, outcome.output
    assert redis(host, "mget kept newest").splitlines() == ["yes", "state"]
    probe_all(host)


# --- disks


def tick(host: LabHost, *services: str) -> dict[str, dict[str, Any]]:
    return {
        row["service"]: row for row in ask(host, "backup", services=list(services), confirm=True)["services"]
    }


def test_an_unmounted_disk_is_neither_backed_up_nor_restored_onto(project: Project, host: LabHost) -> None:
    host.run(f"echo kept >{NOTES}/n", check=True)
    assert tick(host, "reader")["reader"]["ok"]
    host.run(f"umount {DISK}", check=True)
    try:
        found = tick(host, "reader", "vaultwarden")
        refused = restore(project, "reader")
        below = host.output(f"find {DISK} -mindepth 1")
    finally:
        device = host.output("blkid -L LAB-SSD")
        host.run(f"mount {device} {DISK}", check=True)
    assert not found["reader"]["ok"] and f"{DISK} is not mounted" in found["reader"]["error"]
    assert found["vaultwarden"]["ok"]
    assert refused.code == 1 and f"{DISK} is not mounted" in refused.output, refused.output
    assert below == "" and host.output(f"cat {NOTES}/n") == "kept"
    probe_all(host)
    assert tick(host, "reader")["reader"]["ok"]


def test_a_disk_that_fills_up_during_a_restore_leaves_the_old_data(project: Project, host: LabHost) -> None:
    host.run(f"head -c 60000000 /dev/urandom >{NOTES}/big && echo before >{NOTES}/n", check=True)
    assert tick(host, "reader")["reader"]["ok"]
    host.run(f"echo after >{NOTES}/n", check=True)
    beside = f"ls -A {DISK} | grep understudy || true"
    kept = host.output(beside)  # data of before that earlier restores keep
    filling = (
        f"for i in $(seq 1200); do test -e {DISK}/.understudy-restore && break; sleep 0.05; done; "
        f"fallocate -l $(($(stat -f -c '%a * %S' {DISK}) - 2000000)) {DISK}/filler"
    )
    thread = threading.Thread(target=host.run, args=(filling,))
    thread.start()
    try:
        outcome = restore(project, "reader")
    finally:
        thread.join()
        filled = host.run(f"test -s {DISK}/filler && rm {DISK}/filler").returncode
    assert filled == 0, "the disk was not filled in time"
    assert outcome.code == 1 and "no space left" in outcome.output.lower(), outcome.output
    assert host.output(f"cat {NOTES}/n") == "after" and host.output(f"stat -c %s {NOTES}/big") == "60000000"
    assert host.output(beside) == kept
    probe_all(host)
    host.run(f"fallocate -l $(($(stat -f -c '%a * %S' {DISK}) - 90000000)) {DISK}/filler", check=True)
    short = restore(project, "reader")  # no room for two copies: said before anything is touched
    host.run(f"rm {DISK}/filler {NOTES}/big", check=True)
    assert short.code == 1 and "make room, or restore with" in short.output, short.output
    assert restore(project, "reader").code == 0
    assert host.output(f"cat {NOTES}/n") == "before"


def test_files_of_every_kind_come_back_as_they_were(lab: Lab, project: Project, host: LabHost) -> None:
    """Numeric owners, modes, ACLs, extended attributes, hard links, holes, pipes, times and odd names."""
    program = (ROOT / "tests/lab/odd_files.py").read_text()
    on_host(
        host.settings,
        host.ip,
        "cat >/root/odd.py && command -v setfacl >/dev/null || apt-get -qq install acl",
        stdin=program,
    )
    host.run(f"rm -rf {NOTES}/*; python3 /root/odd.py make {NOTES}/odd", check=True)
    before = json.loads(host.output(f"python3 /root/odd.py show {NOTES}"))
    assert len(before) == 28 and sum(bool(row.get("xattrs")) for row in before.values()) >= 6
    assert tick(host, "reader")["reader"]["ok"]
    for way in ([], ["--in-place"]):
        host.run(
            f"cd {NOTES} && chmod -R 700 . && chown -R 0:0 . && rm -rf odd/linked odd/s* odd/n* && echo x >odd/old && setfacl -R -b .",
            check=True,
        )
        outcome = restore(project, "reader", *way)
        assert outcome.code == 0, outcome.output
        after = json.loads(host.output(f"python3 /root/odd.py show {NOTES}"))
        if way:  # onto the live folder restic writes holes out; what is read is the same
            before["./odd/sparse"]["sparse"] = after["./odd/sparse"]["sparse"]
        after["."]["mtime"] = before["."][
            "mtime"
        ]  # the content moves in by renames, which is when the folder changed
        assert after == before, way
