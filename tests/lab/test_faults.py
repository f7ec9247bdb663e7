"""Faults around a backup: each is named to the owner, leaves every service up and every good snapshot good."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Lab, LabHost
from project import LAB, Outcome, Project
from test_backup import COMMIT, backup, call, host, kept, probe_all, project, restore, rows, rows_after_boot

from lab.storage.faults import Faults

__all__ = ["host", "kept", "project"]  # fixtures of test_backup, shared: one converged host for both
pytestmark = pytest.mark.lab

AGENT = "python3 -IB /usr/lib/understudy/agent.pyz"
SECRETS = "/etc/understudy/secrets/backup"
STATE = "/var/lib/understudy"


def ask(host: LabHost, verb: str, **request: Any) -> dict[str, Any]:
    """A verb of the agent by hand, its reply or error."""
    ended = host.run(f"echo '{json.dumps(request)}' | {AGENT} {verb} -", timeout=600)
    line = next(line for line in reversed(ended.stdout.splitlines()) if line.startswith('{"understudy"'))
    reply: dict[str, Any] = json.loads(line)["reply"]
    return reply


def tick(host: LabHost, *services: str) -> dict[str, dict[str, Any]]:
    """Service to its row of a backup of these services."""
    reply = ask(host, "backup", services=list(services), confirm=True)
    return {row["service"]: row for row in reply["services"]}


@contextmanager
def broken(host: LabHost, damage: str, repair: str) -> Iterator[None]:
    """The host with some damage, which is repaired whatever the test finds."""
    host.run(damage, check=True)
    try:
        yield
    finally:
        host.run(repair, check=True)


@pytest.fixture(autouse=True)
def all_is_well_after(host: LabHost, kept: Outcome) -> Iterator[None]:
    """Whatever the fault was: all containers run, and the next tick of the critical tier is good."""
    yield
    probe_all(host)
    after = tick(host, "vaultwarden", "nextcloud")
    assert all(row["ok"] for row in after.values()), after


def test_a_slow_and_failing_store_is_waited_for(lab: Lab, host: LabHost) -> None:
    with lab.store.relay.faulty("offsite", Faults(latency=0.15, fail_status=503, fail_share=0.2)):
        found = tick(host, "vaultwarden")
    assert found["vaultwarden"]["ok"], found


def test_a_wrong_password_is_said(host: LabHost) -> None:
    file = f"{SECRETS}/offsite-password"
    with broken(host, f"cp -a {file} /root/pw && echo other > {file}", f"cp -a /root/pw {file}"):
        found = tick(host, "vaultwarden")
    assert not found["vaultwarden"]["ok"] and "password" in found["vaultwarden"]["error"]


def test_a_clock_a_year_ahead_is_reported_and_does_not_win(host: LabHost) -> None:
    with broken(host, f"echo 31536000 > {STATE}/clock-offset", f"rm {STATE}/clock-offset"):
        reply = ask(host, "backup", services=["vaultwarden"], confirm=True)
    row = reply["services"][0]
    assert row["ok"] and abs(reply["clock_off"] - 31536000) < 60
    later = tick(host, "vaultwarden")["vaultwarden"]
    assert later["seq"] > row["seq"]
    chosen = ask(host, "restore", services=["vaultwarden"], dry_run=True)["services"][0]
    assert chosen["snapshot"] == later["snapshot"] and chosen["age"] < 300


def test_a_full_disk_fails_the_dump_and_keeps_the_last_one(host: LabHost) -> None:
    call(host, "vaultwarden", *COMMIT)
    dumps = f"{STATE}/dumps/critical/vaultwarden"
    before = host.output(f"find {STATE}/stage -name '*.sqlite3*' -path '*dumps*' | xargs sha256sum")
    with broken(host, f"mkdir -p {dumps}; mount -t tmpfs -o size=16k full {dumps}", f"umount {dumps}"):
        found = tick(host, "vaultwarden", "nextcloud")
    assert not found["vaultwarden"]["ok"] and found["nextcloud"]["ok"], found
    assert host.output(f"find {STATE}/stage -name '*.sqlite3*' -path '*dumps*' | xargs sha256sum") == before


def test_a_stopped_database_fails_its_service_alone(host: LabHost) -> None:
    with broken(
        host,
        "docker stop -t 5 nextcloud-db-1",
        "docker start nextcloud-db-1; for i in $(seq 60); do docker exec nextcloud-db-1 pg_isready -q && break; sleep 1; done; sleep 2",
    ):
        found = tick(host, "nextcloud", "vaultwarden")
    assert not found["nextcloud"]["ok"] and "nextcloud" in found["nextcloud"]["error"]
    assert found["vaultwarden"]["ok"]


def test_a_dump_that_comes_to_nothing_is_a_failure(host: LabHost) -> None:
    program = "/usr/lib/postgresql/17/bin/pg_dump"
    inside = "docker exec -u root miniflux-db-1"
    damage = f"{inside} sh -c 'mv {program} {program}.real && ln -s /bin/true {program}'"
    with broken(host, damage, f"{inside} sh -c 'mv {program}.real {program}'"):
        found = tick(host, "miniflux", "vaultwarden")
    assert not found["miniflux"]["ok"] and found["vaultwarden"]["ok"], found


def test_a_missing_source_fails_by_name(host: LabHost) -> None:
    folder = "/home/apps/gokapi-data"
    with broken(
        host,
        f"systemctl stop gokapi; mv {folder} {folder}.away",
        f"mv {folder}.away {folder}; systemctl start gokapi",
    ):
        found = tick(host, "gokapi", "vaultwarden")
    assert not found["gokapi"]["ok"] and folder in found["gokapi"]["error"]
    assert found["vaultwarden"]["ok"]


def test_a_corrupt_database_is_no_backup_and_the_last_good_one_comes_back(
    project: Project, host: LabHost
) -> None:
    call(host, "kitchenowl", *COMMIT)
    good = tick(host, "kitchenowl")["kitchenowl"]
    count = rows(host, "kitchenowl")["count"]
    database = "/home/docker-projects/kitchenowl/data/database.db"
    host.run(
        f"docker stop -t 5 kitchenowl-kitchenowl-1; rm -f {database}-wal {database}-shm; "
        f"dd if=/dev/urandom of={database} bs=4096 seek=1 count=3 conv=notrunc; docker start kitchenowl-kitchenowl-1",
        check=True,
    )
    bad = tick(host, "kitchenowl")["kitchenowl"]
    assert good["ok"] and not bad["ok"] and "database.db" in bad["error"]
    outcome = restore(project, "kitchenowl")
    assert outcome.code == 0, outcome.output
    assert rows(host, "kitchenowl")["count"] == count


def test_two_ticks_at_once_come_one_after_the_other(host: LabHost) -> None:
    found: list[dict[str, dict[str, Any]]] = []
    threads = [threading.Thread(target=lambda: found.append(tick(host, "vaultwarden"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row["vaultwarden"]["ok"] for row in found] == [True, True]
    assert found[0]["vaultwarden"]["seq"] != found[1]["vaultwarden"]["seq"]


def test_a_tick_killed_anywhere_leaves_no_service_down_and_no_mount(host: LabHost) -> None:
    seed = random.randrange(10**6)
    order = random.Random(seed)
    for _ in range(8):
        call(host, "vaultwarden", *COMMIT)
        delay = order.uniform(0.05, 1.8)
        host.run(f"timeout -s KILL {delay:.2f} {AGENT} backup critical >/dev/null 2>&1; true")
        probe_all(host)
        assert host.output("grep -c understudy/stage /proc/self/mounts || true") == "0", f"seed {seed}"
    host.run(f"{AGENT} lift x", check=True)


def test_a_power_cut_during_a_tick_costs_nothing(host: LabHost) -> None:
    call(host, "vaultwarden", *COMMIT)
    count = rows(host, "vaultwarden")["count"]
    host.run(f"setsid {AGENT} backup critical >/dev/null 2>&1 & sleep 0.7; true")
    host.kill()
    host.start()
    assert rows_after_boot(host, "vaultwarden")["count"] == count
    deadline = time.monotonic() + 120
    while "starting" in host.output("docker ps"):
        assert time.monotonic() < deadline
        time.sleep(1)


def test_a_damaged_pack_is_found_named_and_undone(lab: Lab, project: Project, host: LabHost) -> None:
    bucket, client = "lemongrab-backups", lab.store.admin
    time.sleep(1.5)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S")
    time.sleep(1.5)
    packs = [path for path in client.paths(bucket, "critical/data/")]
    for pack in packs:
        lab.store.client("lemongrab").must("PUT", bucket, pack, body=b"ransom")
    found = ask(host, "verify", repositories=["offsite"], groups=["critical"], parts=1)
    assert "error" in found and ("nextcloud" in str(found) or "vaultwarden" in str(found)), found
    back = project.verb(
        "repo", "unhide", "--repo", "offsite", "--group", "critical", "--to", moment, "--yes", "offsite", *LAB
    )
    assert back.code == 0, back.output
    again = ask(host, "verify", repositories=["offsite"], groups=["critical"], parts=1)
    assert "error" not in again, again
    assert all(row["ok"] for row in backup(project, "vaultwarden"))
