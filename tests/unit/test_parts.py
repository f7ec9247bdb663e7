"""Parts as switches: what is off is left as it is on the host, and its data is kept all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from samples import VARIABLES, Write

from understudy import compare, preflight, render
from understudy.catalog import Catalog
from understudy.desired import Desired
from understudy.errors import BadInput
from understudy.operations.tree import leaving_units
from understudy.protection import files
from understudy.settings import HostSettings, settings_of

Load = Callable[..., Catalog]
BACKUP = {"repositories": {"offsite": {"url": "/srv/backups"}}, "host_paths": []}
KEYS = {"backup": {"OFFSITE_PASSWORD": "p"}}


def settings(parts: Any) -> HostSettings:
    return settings_of("box", {"domain": VARIABLES["DOMAIN"], "backup": BACKUP, "parts": parts})


@pytest.fixture
def alone(notes: Write, load: Load) -> Desired:
    return render.desired(load(), settings(["backup"]), KEYS)


def test_a_list_names_what_is_on() -> None:
    assert settings(["backup", "proxy"]).parts.switched_on() == ["backup", "proxy"]
    with pytest.raises(BadInput, match="no part is called 'backups'"):
        settings(["backups"])


def test_with_backup_alone_only_the_agent_restic_and_timers_are_written(alone: Desired) -> None:
    allowed = (
        "/etc/understudy",
        "/var/lib/understudy",
        "/usr/lib/understudy",
        "/etc/tmpfiles.d/understudy.conf",
    )
    units = "/etc/systemd/system/understudy-"
    assert all(path.startswith((*allowed, units)) for path in alone.tree.entries), sorted(alone.tree.entries)
    assert alone.services == [] and alone.stacks == {} and alone.probes == []
    assert set(alone.packages) == {"ca-certificates", "python3", "restic"}
    assert all(unit.name.startswith("understudy-") for unit in alone.units)


def test_a_service_that_is_left_alone_is_backed_up_where_it_runs(alone: Desired) -> None:
    entry = json.loads(alone.tree.entries[files.PLAN].content)["services"]["notes"]
    assert entry["databases"][0]["path"] == "notes.db"
    assert entry["compose"][:2] == ["docker", "compose"] and "--env-file" not in entry["compose"]


def test_no_secret_of_a_service_is_asked_for(notes: Write, load: Load) -> None:
    assert set(render.declared_secrets(load(), settings(["backup"]))) == {"backup"}


def test_files_of_a_service_that_is_handed_back_are_not_deleted(alone: Desired) -> None:
    compose = {"kind": "file", "sha256": "a", "service": "notes"}
    dropin = {"kind": "file", "sha256": "b", "service": ""}
    survey = {
        "manifest": {"entries": {"/home/docker-projects/notes/compose.yaml": compose, "/etc/x.conf": dropin}},
        "files": {
            "/home/docker-projects/notes/compose.yaml": {"kind": "file", "sha256": "a"},
            "/etc/x.conf": {"kind": "file", "sha256": "b"},
        },
        "containers": [{"name": "notes-app-1", "project": "notes", "image": "example/notes:1"}],
    }
    assert [change.path for change in compare.deletions(alone, survey)] == ["/etc/x.conf"]
    assert list(preflight.abandoned(alone, survey)) == [] and preflight.unmanaged(alone, survey) == []


def test_timers_stop_before_their_files_go() -> None:
    def gone(path: str, service: str = "") -> compare.FileChange:
        return compare.FileChange(path, "delete", "x", service)

    changes = [
        gone("/etc/systemd/system/understudy-drill.timer"),
        gone("/etc/systemd/system/gokapi.service", "gokapi"),
        gone("/etc/understudy/backup.json"),
    ]
    assert leaving_units(changes) == ["understudy-drill.timer"]


def test_a_host_without_tunnel_and_dns_is_not_behind_the_edge() -> None:
    from understudy.traffic.edge import find_edge

    data = {"domain": VARIABLES["DOMAIN"], "parts": ["backup"], "secrets_dir": "/nowhere"}
    assert find_edge([("box", data)]) is None
