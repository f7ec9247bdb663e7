"""A store that fills up, falls silent or damages one file: said in time, and only for what it concerns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Lab, LabHost
from test_backup import COMMIT, call, host, kept, project
from test_faults import all_is_well_after, ask, broken, tick

from lab.storage.faults import Faults

__all__ = ["all_is_well_after", "host", "kept", "project"]
pytestmark = pytest.mark.lab

BUCKET = "lemongrab-backups"
PLAN = "/etc/understudy/backup.json"
PATIENCE = 9  # seconds in place of two minutes
DATA = "/home/docker-projects/vaultwarden/data"


@contextmanager
def impatient(host: LabHost) -> Iterator[None]:
    """The host waits less long for its store, and has 3 MB to send."""
    program = f"import json; p=json.load(open('{PLAN}')); p['settings']['store_patience']={PATIENCE}; json.dump(p, open('{PLAN}','w'))"
    damage = (
        f'cp -a {PLAN} /root/plan.json && python3 -c "{program}" && head -c 3000000 /dev/urandom >{DATA}/big'
    )
    with broken(host, damage, f"mv /root/plan.json {PLAN}; rm -f {DATA}/big"):
        yield


def newest(host: LabHost, service: str) -> str:
    reply = ask(host, "restore", services=[service], dry_run=True, repository="offsite")
    assert "services" in reply, reply
    return str(reply["services"][0]["snapshot"])


def test_a_full_store_fails_the_tick_in_its_own_words(lab: Lab, host: LabHost) -> None:
    before = newest(host, "vaultwarden")
    with impatient(host), lab.store.relay.faulty("offsite", Faults(full_after=200_000)):
        begun = time.monotonic()
        found = tick(host, "vaultwarden")["vaultwarden"]
        took = time.monotonic() - begun
        after = newest(host, "vaultwarden")
    assert not found["ok"] and "refused the same thing" in found["error"], found
    assert "the lab said so" in found["error"] and "Is it full" in found["error"], found["error"]
    assert took < 60 and before == after


SILENT = Faults(hang_after=1_000_000)  # of the 3 MB


def test_a_store_that_falls_silent_in_the_middle_of_a_tick(lab: Lab, host: LabHost) -> None:
    with impatient(host):
        begun = time.monotonic()
        with lab.store.relay.faulty("offsite", SILENT):
            found = tick(host, "vaultwarden")["vaultwarden"]
        took = time.monotonic() - begun
    assert not found["ok"] and "in the middle of a run" in found["error"], found
    assert took < 90
    assert lab.store.admin.paths(BUCKET, "critical/locks/"), "restic could not take its lock back"
    assert tick(host, "vaultwarden")["vaultwarden"]["ok"]
    assert lab.store.admin.paths(BUCKET, "critical/locks/") == [], "no prune has to wait for it"


def test_a_store_that_falls_silent_in_the_middle_of_a_restore(lab: Lab, host: LabHost) -> None:
    """The files arrive beside the service, which serves meanwhile and afterwards what it had."""
    call(host, "vaultwarden", *COMMIT)
    with impatient(host):
        assert tick(host, "vaultwarden")["vaultwarden"]["ok"]
        state = call(host, "vaultwarden", "GET", "/_lab/rows")
        started = host.output("docker inspect -f '{{.State.StartedAt}}' vaultwarden-vaultwarden-1")
        with lab.store.relay.faulty("offsite", SILENT):
            reply = ask(host, "restore", services=["vaultwarden"], repository="offsite", confirm_loss=True)
        assert "error" in reply and "in the middle of a run" in reply["error"], reply
        assert call(host, "vaultwarden", "GET", "/_lab/rows") == state
        assert host.output("docker inspect -f '{{.State.StartedAt}}' vaultwarden-vaultwarden-1") == started
        assert host.output(f"ls -A {DATA}/.. | grep understudy-restore || true") == ""


def test_one_damaged_pack_is_named_for_its_service_alone(lab: Lab, host: LabHost) -> None:
    client = lab.store.admin
    with broken(host, f"head -c 2000000 /dev/urandom >{DATA}/precious", f"rm -f {DATA}/precious"):
        before = set(client.paths(BUCKET, "critical/data/"))
        assert tick(host, "vaultwarden", "nextcloud")["vaultwarden"]["ok"]
        new = sorted(set(client.paths(BUCKET, "critical/data/")) - before)
        (pack,) = [path for path in new if client.versions(BUCKET, path)[0].size > 1_000_000]
        good = client.versions(BUCKET, pack)[0]
        client.must("PUT", BUCKET, pack, body=bytes(good.size))
        found = ask(host, "verify", repositories=["offsite"], groups=["critical"], parts=1)
        bad = client.versions(BUCKET, pack)[0]
        client.delete_version(BUCKET, pack, bad.id)
    row: dict[str, Any] = found["repositories"][0]
    assert list(row["services"]) == ["vaultwarden"] and len(row["packs"]) == 1, found
    assert any("precious" in path for path in row["services"]["vaultwarden"])
    assert found["error"].endswith("is damaged: 1 packs; services hit: vaultwarden"), found["error"]
    assert "error" not in ask(host, "verify", repositories=["offsite"], groups=["critical"], parts=1)
