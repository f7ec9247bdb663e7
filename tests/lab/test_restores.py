"""Restores of what the catalogue has not: a database on another unit's server, a Redis with state, hooks, odd files."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Lab, LabHost
from project import ROOT, Project
from test_backup import COMMIT, LAB, START_TIMERS, backup, call, probe_all, restore, rows

from lab import world
from understudy.secrets import Store

pytestmark = pytest.mark.lab

EXTRAS = ("reader", "sessions")
SERVER = "docker exec -i -u postgres nextcloud-db-1 psql -qAt -v ON_ERROR_STOP=1 -U nextcloud"
PASSWORD = "of-the-reader-1"
STACKS = "/home/docker-projects"


@pytest.fixture(scope="module")
def project(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The converged host with two more services: a reader whose database is on Nextcloud's server, a Redis."""
    project = Project.copy(tmp_path_factory.mktemp("project"))
    world.use_lab_key()
    Store(world.SECRETS).add("reader", {"DB_PASSWORD": PASSWORD})
    assert (first := project.converge()).code == 0, first.output
    host = lab.host()
    leave(project, host)
    sql(
        host,
        "postgres",
        f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'",
        "CREATE DATABASE reader OWNER reader",
    )
    for name in EXTRAS:
        shutil.copytree(ROOT / "lab/extras" / name, project.path / "services" / name)
    try:
        assert (second := project.converge()).code == 0, second.output
        assert (made := project.verb("repo", "init", *LAB)).code == 0, made.output
        yield project
    finally:
        leave(project, host)


def leave(project: Project, host: LabHost) -> None:
    """The catalogue's own stack again."""
    for name in EXTRAS if (project.path / "services" / EXTRAS[0]).exists() else ():
        project.verb("retire", name, "-i", "inventory/lab.py", f"--yes={name}", "--limit", "lemongrab")
        host.run(f"rm -rf {STACKS}/{name}")
    drop = [f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in ("reader", "reader__old")]
    sql(host, "postgres", *drop, "DROP ROLE IF EXISTS reader")


@pytest.fixture(scope="module")
def host(lab: Lab, project: Project) -> Iterator[LabHost]:
    """The host, its timers held."""
    host = lab.host()
    host.run("systemctl stop 'understudy-*.timer'", check=True)
    yield host
    host.run(START_TIMERS, check=True)


def sql(host: LabHost, database: str, *statements: str) -> list[str]:
    """What statements print on Nextcloud's server, each in a transaction of its own."""
    words = " ".join(f'-c "{statement}"' for statement in statements)
    return host.output(f"{SERVER} -d {database} {words}").splitlines()


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
    host.run(f"echo before >{STACKS}/reader/notes/n", check=True)
    assert all(row["ok"] for row in backup(project, "reader", "nextcloud"))
    users = sql(host, "reader", "SELECT username FROM users")
    sql(host, "reader", *[insert] * 3, "DELETE FROM users", "DELETE FROM proof WHERE n = 2")
    host.run(f"echo after >{STACKS}/reader/notes/n", check=True)
    call(host, "nextcloud", *COMMIT)  # a row of the neighbour's that is newer than the snapshot, and stays
    old = sql(host, "postgres", "SELECT oid FROM pg_database WHERE datname = 'reader'")
    before = neighbour(host)
    outcome = restore(project, "reader")
    assert outcome.code == 0, outcome.output
    assert neighbour(host) == before
    assert rows(host, "nextcloud")["missing_count"] == 0
    assert sql(host, "reader", "SELECT n FROM proof ORDER BY 1") == list("12345")
    assert sql(host, "reader", "SELECT username FROM users") == users == ["admin"]
    assert host.output(f"cat {STACKS}/reader/notes/n") == "before"
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
