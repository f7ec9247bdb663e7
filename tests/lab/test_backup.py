"""Backups and restores of the whole stack, as an owner types them, against the lab's object store."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab, LabHost
from project import LAB, Outcome, Project

from lab.shell import LabError

pytestmark = pytest.mark.lab

PORTS = {"vaultwarden": 8082, "nextcloud": 8081, "kitchenowl": 8092}
ROWS = "GET", "/_lab/rows"
COMMIT = "POST", "/_lab/commit"


@pytest.fixture(scope="module")
def project(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A converged host with its repositories made."""
    project = Project.copy(tmp_path_factory.mktemp("project"))
    project.keep()
    return project


@pytest.fixture(scope="module")
def host(lab: Lab, project: Project) -> Iterator[LabHost]:
    """The host, its timers held so that a test's ticks are the only ones."""
    host = lab.host()
    host.hold_timers()
    yield host
    host.start_timers()


@pytest.fixture(scope="module")
def kept(project: Project, host: LabHost) -> Outcome:
    """One good backup of everything."""
    for tier in ("critical", "important", "optional"):
        outcome = project.verb("backup", "--tier", tier, "--json", *LAB)
        assert outcome.code == 0, outcome.output
    copied = project.verb("repo", "copy", *LAB)  # the second store has nothing yet, and status would say so
    assert copied.code == 0, copied.output
    return outcome


def call(host: LabHost, service: str, method: str, path: str) -> dict[str, Any]:
    """A request to a stand-in, made on the host, which has no curl."""
    url = f"http://127.0.0.1:{PORTS[service]}{path}"
    program = f"import urllib.request as u; print(u.urlopen(u.Request('{url}', method='{method}'), timeout=20).read().decode())"
    reply: dict[str, Any] = json.loads(host.output(f'python3 -c "{program}"'))
    return reply


def rows(host: LabHost, service: str) -> dict[str, Any]:
    return call(host, service, *ROWS)


def rows_after_boot(host: LabHost, service: str) -> dict[str, Any]:
    """As ``rows``, once the service serves."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return rows(host, service)
        except LabError:
            assert time.monotonic() < deadline, host.run("journalctl -u understudy-lift -n 20 -o cat").stdout
            time.sleep(2)


def backup(project: Project, *services: str) -> list[dict[str, Any]]:
    outcome = project.verb("backup", *services, "--json", *LAB)
    assert outcome.reports and "reply" in outcome.reports[0], outcome.output
    found: list[dict[str, Any]] = outcome.reports[0]["reply"]["services"]
    return found


def restore(project: Project, *words: str) -> Outcome:
    return project.verb(
        "restore", *words, "-i", "inventory/lab.py", "--host", "lemongrab", "--yes", "lemongrab"
    )


def probe_all(host: LabHost) -> None:
    """Every container runs and none is unhealthy."""
    states = host.output("docker ps -a --format '{{.Names}} {{.Status}}'").splitlines()
    wrong = [line for line in states if " Up " not in line or "unhealthy" in line]
    assert wrong == []


def test_every_service_is_backed_up(project: Project, kept: Outcome) -> None:
    outcome = project.verb("status", "--json", *LAB)
    reply = json.loads(outcome.output.split("\n")[0])[0]["reply"]
    assert outcome.code == 0, outcome.output
    services = {row["service"]: row for row in reply["services"]}
    assert {"vaultwarden", "nextcloud", "wordpress", "miniflux", "gokapi", "host"} <= set(services)
    assert all(row["rpo"] is not None and row["overdue"] is None for row in services.values())
    assert reply["uncovered"] == []


def test_a_restored_service_has_what_was_acknowledged_before_the_snapshot_and_nothing_newer(
    project: Project, host: LabHost, kept: Outcome
) -> None:
    for service in PORTS:
        for _ in range(3):
            call(host, service, *COMMIT)
    before = {service: rows(host, service)["count"] for service in PORTS}
    assert all(row["ok"] for row in backup(project, *PORTS))
    for service in PORTS:
        call(host, service, *COMMIT)
    outcome = restore(project, *PORTS)
    assert outcome.code == 0, outcome.output
    assert "newer than the snapshot" in outcome.output
    for service in PORTS:
        found = rows(host, service)
        assert (found["count"], found["missing_count"], found["duplicates"]) == (before[service], 0, 0), (
            service
        )
    probe_all(host)


def test_a_restore_needs_the_hosts_name(project: Project, host: LabHost, kept: Outcome) -> None:
    before = rows(host, "vaultwarden")
    without = project.verb("restore", "vaultwarden", "-i", "inventory/lab.py", "--host", "lemongrab")
    wrong = project.verb(
        "restore", "vaultwarden", "-i", "inventory/lab.py", "--host", "lemongrab", "--yes", "other"
    )
    assert (without.code, wrong.code) == (3, 3)
    assert "--yes=lemongrab" in without.output
    assert rows(host, "vaultwarden") == before


def test_a_dry_run_changes_nothing(project: Project, host: LabHost, kept: Outcome) -> None:
    """Looked at where the restore would work: other applications write when they like."""
    shown = "-printf '%p %i %T@ %s %m %U\\n' | grep -v -e '-wal' -e '-shm' | sort"
    look = f"find /home/docker-projects/vaultwarden -xdev {shown}; docker ps --format '{{{{.ID}}}} {{{{.Names}}}}' | sort"
    call(host, "vaultwarden", *COMMIT)
    before = host.output(look).splitlines()
    words = ("restore", "vaultwarden", "--dry-run", "-i", "inventory/lab.py", "--host", "lemongrab")
    outcome = project.verb(*words)
    assert outcome.code == 0 and "would be restored" in outcome.output, outcome.output
    assert host.output(look).splitlines() == before


def test_single_files_come_back_beside_the_service(project: Project, host: LabHost, kept: Outcome) -> None:
    call(host, "nextcloud", *COMMIT)
    assert all(row["ok"] for row in backup(project, "nextcloud"))
    host.run("rm -rf /srv/out", check=True)
    outcome = restore(
        project, "nextcloud", "--path", "app:/var/www/html/data/admin/files/**", "--to", "/srv/out"
    )
    assert outcome.code == 0, outcome.output
    found = host.output("cd /srv/out && find . -type f | grep -c lab-")
    assert int(found) == rows(host, "nextcloud")["count"]


def test_data_comes_onto_this_machine_without_any_host(
    project: Project, host: LabHost, kept: Outcome, tmp_path: Path
) -> None:
    call(host, "vaultwarden", *COMMIT)
    assert all(row["ok"] for row in backup(project, "vaultwarden"))
    expected = rows(host, "vaultwarden")["count"]
    words = ("restore", "vaultwarden", "--here", str(tmp_path / "out"), "-i", "inventory/lab.py")
    outcome = project.verb(*words, "--host", "lemongrab")
    assert outcome.code == 0, outcome.output
    (found,) = (tmp_path / "out" / "vaultwarden").rglob("db.sqlite3.sqlite")
    query = "SELECT count(*) FROM ciphers WHERE name LIKE 'lab-%'"
    assert sqlite3.connect(found).execute(query).fetchone() == (expected,)
    assert project.verb(*words, "--host", "lemongrab").code == 3


def test_a_plan_after_a_restore_says_no_changes(project: Project, host: LabHost, kept: Outcome) -> None:
    host.start_timers()
    outcome = project.verb("plan", *LAB, "--json", "--exit-code")
    host.hold_timers()
    assert outcome.code == 0, outcome.output


def test_b4_a_dead_job_is_seen_from_the_repository_alone(
    lab: Lab, project: Project, host: LabHost, kept: Outcome
) -> None:
    """17 days without a backup went unnoticed: here the control machine judges freshness without asking the host."""
    ahead = {"UNDERSTUDY_CLOCK_OFFSET": str(17 * 86400)}
    host.disconnect()
    try:
        outcome = project.verb(
            "repo", "check", "-i", "inventory/lab.py", "--repo", "offsite", environment=ahead
        )
    finally:
        host.connect()
    assert outcome.code == 1
    assert "vaultwarden was last backed up 17" in outcome.output


def test_b2_b3_the_store_sees_no_clear_text_and_the_hosts_key_cannot_delete(
    lab: Lab, host: LabHost, kept: Outcome
) -> None:
    names = lab.store.admin.paths("lemongrab-backups")
    packs = [name for name in names if "/data/" in name]
    assert packs and not any("vaultwarden" in name for name in names)
    versions = lab.store.admin.versions("lemongrab-backups", packs[0])
    refused = lab.store.client("lemongrab").delete_version("lemongrab-backups", packs[0], versions[0].id)
    assert refused.status == 403


def test_b13_an_unreachable_store_leaves_every_service_up_and_the_next_tick_is_good(
    lab: Lab, project: Project, host: LabHost, kept: Outcome
) -> None:
    lab.store.stop_objects()
    try:
        outcome = project.verb("backup", "vaultwarden", *LAB)
    finally:
        lab.store.start_objects()
    assert outcome.code == 1
    assert "offsite" in outcome.output
    probe_all(host)
    assert all(row["ok"] for row in backup(project, "vaultwarden"))


def test_a_power_cut_during_a_restore_leaves_the_old_or_the_new_data_whole(
    lab: Lab, project: Project, host: LabHost, kept: Outcome
) -> None:
    call(host, "vaultwarden", *COMMIT)
    old = rows(host, "vaultwarden")["count"]
    assert all(row["ok"] for row in backup(project, "vaultwarden"))
    call(host, "vaultwarden", *COMMIT)
    process = project.start(
        "restore", "vaultwarden", "-i", "inventory/lab.py", "--host", "lemongrab", "--yes", "lemongrab"
    )
    journal = "/var/lib/understudy/restore/vaultwarden.json"
    host.run(f"for i in $(seq 600); do test -e {journal} && exit; sleep 0.05; done", timeout=60)
    host.kill()
    process.communicate(timeout=120)
    host.start()
    host.run("systemctl start understudy-lift.service", timeout=300)
    found = rows_after_boot(host, "vaultwarden")
    assert found["count"] in (old, old + 1) and found["missing_count"] == 0
    assert host.run(f"test -e {journal}").returncode == 1
    outcome = restore(project, "vaultwarden")
    assert outcome.code == 0, outcome.output
    assert rows(host, "vaultwarden")["count"] == old


@pytest.fixture
def versions(project: Project, host: LabHost) -> Iterator[None]:
    """Two newer versions of Vaultwarden on the host: 1.37.3 does not serve, 1.37.4 does."""
    broken = (
        'FROM vaultwarden/server:1.37.2\\nENTRYPOINT ["/bin/sh","-c","echo the migration failed; exit 3"]\\n'
    )
    host.run(
        f"printf '{broken}' >/tmp/D && docker build -q -t vaultwarden/server:1.37.3 -f /tmp/D /tmp"
        " && docker tag vaultwarden/server:1.37.2 vaultwarden/server:1.37.4",
        check=True,
    )
    yield
    project.restore()
    host.run("docker image rm -f vaultwarden/server:1.37.3", check=True)
    outcome = project.converge("--data", "downgrade=vaultwarden")
    assert outcome.code == 0, outcome.output


def running_image(host: LabHost) -> str:
    return host.output(
        "docker inspect vaultwarden-vaultwarden-1 --format '{{.Config.Image}} {{.State.Health.Status}}'"
    )


def test_an_update_that_does_not_serve_is_put_back_with_its_data_and_one_that_does_stays(
    project: Project, host: LabHost, kept: Outcome, versions: None
) -> None:
    call(host, "vaultwarden", *COMMIT)
    before = rows(host, "vaultwarden")
    project.edit("vaultwarden/compose.yaml", "server:1.37.2", "server:1.37.3")
    failed = project.verb("update", "vaultwarden", *LAB)
    assert failed.code == 1, failed.output
    assert "put back to the images and the data of before" in failed.output
    assert "the migration failed" in failed.output
    assert running_image(host) == "vaultwarden/server:1.37.2 healthy"
    assert rows(host, "vaultwarden") == before
    project.edit("vaultwarden/compose.yaml", "server:1.37.3", "server:1.37.4")
    done = project.verb("update", "vaultwarden", *LAB)
    assert done.code == 0, done.output
    assert running_image(host) == "vaultwarden/server:1.37.4 healthy"
    assert rows(host, "vaultwarden") == before
    assert host.output("ls /var/lib/understudy/update") == ""
    snapshot_of_another_version(project, host)


def snapshot_of_another_version(project: Project, host: LabHost) -> None:
    """1.37.4 has written a snapshot and 1.37.2 runs again: it may not read newer data, unless its owner insists."""
    assert all(row["ok"] for row in backup(project, "vaultwarden"))
    project.restore()
    assert (back := project.converge("--data", "downgrade=vaultwarden")).code == 0, back.output
    call(host, "vaultwarden", *COMMIT)
    before = rows(host, "vaultwarden")
    refused = restore(project, "vaultwarden")
    assert refused.code == 1 and "was made by vaultwarden/server:1.37.4" in refused.output, refused.output
    assert "nothing was changed" in refused.output and rows(host, "vaultwarden") == before
    assert restore(project, "vaultwarden", "--allow-version").code == 0
    assert rows(host, "vaultwarden")["count"] == before["count"] - 1


def test_plan_and_status_name_what_is_in_no_backup(project: Project, host: LabHost, kept: Outcome) -> None:
    host.run(
        "docker volume create stranger && docker run -d --name stray -v stranger:/data redis:7.4 || true"
    )
    image = host.output(
        "docker images --format '{{.Repository}}:{{.Tag}}' | grep -m1 -E 'redis|valkey|nginx'"
    )
    host.run(
        f"docker rm -f stray; docker run -d --name stray -v stranger:/data {image} sleep 600", check=True
    )
    try:
        plan = project.verb("plan", "--strict", *LAB)
        status = project.verb("status", "--strict", *LAB)
    finally:
        host.run("docker rm -f stray; docker volume rm stranger", check=True)
    assert plan.code == 1 and "in no backup" in plan.output and "stranger" in plan.output, plan.output
    assert status.code in (0, 1)


def test_prune_forgets_only_what_no_rule_keeps(project: Project, host: LabHost, kept: Outcome) -> None:
    outcome = project.verb("repo", "prune", "--repo", "offsite", "--json", *LAB)
    assert outcome.code == 0, outcome.output
    listed = json.loads(outcome.output.split("\n")[0])
    assert all(row["ok"] for row in listed) and {row["group"] for row in listed} == {
        "critical",
        "rest",
        "host",
    }
    assert all(row["ok"] for row in backup(project, "vaultwarden"))


def test_the_hosts_key_withstands_the_tamper_test(project: Project, host: LabHost, kept: Outcome) -> None:
    outcome = project.verb("repo", "tamper", "--repo", "offsite", "--json", *LAB)
    assert outcome.code == 0, outcome.output
    row = json.loads(outcome.output.split("\n")[0])[0]
    assert row["refused"] and row["compared"] and row["error"] is None
