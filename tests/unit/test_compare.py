"""Comparing a host's survey with its description: what changes, what is refused, what cannot be read."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from samples import NOTES, VARIABLES, Write

from understudy import compare, preflight, release, render
from understudy.catalog import Catalog
from understudy.compare import HostChanges
from understudy.desired import Desired
from understudy.errors import Refused, UnderstudyError
from understudy.preflight import Allowances
from understudy.settings import HostSettings
from understudy.tree import Entry

Load = Callable[..., Catalog]
PORT = {"container": 80, "proto": "tcp", "address": "127.0.0.1", "port": 8100}
ALL_OFF = {
    name: False
    for name in ("docker", "firewall", "ssh_hardening", "updates", "system", "backup", "tunnel", "proxy")
}


@pytest.fixture
def desired(notes: Write, load: Load) -> Desired:
    settings = HostSettings(name="box", domain=VARIABLES["DOMAIN"], parts=ALL_OFF)  # type: ignore[arg-type]
    return render.desired(load(), settings, {"notes": {"KEY": "s3cret-value"}})


def live_entry(entry: Entry) -> dict[str, Any]:
    numbers = {
        "uid": entry.user if isinstance(entry.user, int) else 0,
        "gid": entry.group if isinstance(entry.group, int) else 0,
    }
    return {
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "user": "root",
        "group": "root",
        "sha256": entry.sha256,
        **numbers,
    }


@pytest.fixture
def survey(desired: Desired) -> dict[str, Any]:
    """A host that is exactly as described."""
    container = {
        "id": "1",
        "name": "notes-app-1",
        "project": "notes",
        "service": "app",
        "config_hash": "h1",
        "image": "example/notes:1.2.3",
        "state": "running",
        "health": "",
        "mounts": [],
        "ports": [PORT],
        "working_dir": "/home/docker-projects/notes",
    }
    return {
        "os": {"id": "debian", "version_id": "13", "arch": "x86_64"},
        "cpu_flags": ["avx"],
        "packages": dict.fromkeys(desired.packages, "1"),
        "users": {},
        "units": {u.name: {"enabled": "enabled", "active": "active"} for u in desired.units},
        "files": {entry.path: live_entry(entry) for entry in desired.tree},
        "manifest": release.manifest(desired),
        "pending": [],
        "containers": [container],
        "volumes": [],
        "stack_hashes": {"notes": {"app": "h1"}},
        "listeners": [{"port": 8100, "process": "docker-proxy"}],
        "disks": {"/": {"free": 10**11, "inodes_free": 10**6, "inodes_total": 10**7}},
        "mounts": {},
        "docker": {"version": "26.1.5+dfsg1", "compose": "2.26"},
    }


def test_a_host_as_described_needs_nothing(desired: Desired, survey: dict[str, Any]) -> None:
    changes = compare.changes(desired, survey)
    assert changes == HostChanges() and not changes
    assert preflight.problems(desired, survey) == []
    assert preflight.refusals(desired, survey, changes.files, Allowances()) == []


def test_a_changed_mounted_file_recreates_its_container_alone(
    desired: Desired, survey: dict[str, Any]
) -> None:
    path = "/home/docker-projects/notes/notes.conf"
    survey["files"][path]["sha256"] = "0" * 64
    changes = compare.changes(desired, survey)
    assert [(c.path, c.action) for c in changes.files] == [(path, "update")]
    assert changes.reactions == ["recreate:notes/app"] and changes.stacks == []


def test_a_changed_secret_recreates_its_users(desired: Desired, survey: dict[str, Any]) -> None:
    survey["files"]["/etc/understudy/secrets/notes/KEY"]["sha256"] = "0" * 64
    assert compare.changes(desired, survey).reactions == ["recreate:notes/app"]


def test_a_restart_that_a_killed_run_forgot_is_done_by_the_next(
    desired: Desired, survey: dict[str, Any]
) -> None:
    survey["pending"] = ["recreate:notes/app", "stack:notes"]
    changes = compare.changes(desired, survey)
    assert changes.reactions == ["recreate:notes/app"]
    assert [(c.service, c.reasons) for c in changes.stacks] == [("notes", ("its files changed",))]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("config_hash", "h0", "older description"),
        ("state", "exited", "is exited"),
        ("health", "unhealthy", "unhealthy"),
    ],
)
def test_a_container_that_is_not_right_brings_its_stack_up(
    desired: Desired, survey: dict[str, Any], key: str, value: str, reason: str
) -> None:
    survey["containers"][0][key] = value
    assert reason in compare.changes(desired, survey).stacks[0].reasons[0]


def test_owner_and_mode_count_and_numbers_are_compared_as_numbers(
    desired: Desired, survey: dict[str, Any]
) -> None:
    key = survey["files"]["/etc/understudy/secrets/notes/KEY"]
    assert key["uid"] == 1000
    key["uid"] = 0
    assert [c.action for c in compare.changes(desired, survey).files] == ["permissions"]


def test_what_nobody_declares_any_more_is_deleted_only_as_we_wrote_it(
    desired: Desired, survey: dict[str, Any]
) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    for path, live in (("/etc/old", digest), ("/etc/edited", "f" * 64)):
        survey["manifest"]["entries"][path] = {"kind": "file", "sha256": digest, "service": ""}
        survey["files"][path] = {"kind": "file", "mode": "0644", "sha256": live}
    deleted = [c.path for c in compare.changes(desired, survey).files if c.action == "delete"]
    assert deleted == ["/etc/old"]


@pytest.mark.parametrize("part", ["containers", "files", "units", "packages"])
def test_what_could_not_be_read_is_never_nothing(desired: Desired, survey: dict[str, Any], part: str) -> None:
    survey[part] = {"unreadable": "permission denied"}
    with pytest.raises(UnderstudyError, match=f"could not read {part}.*permission denied"):
        compare.changes(desired, survey)


def test_a_directory_in_the_place_of_a_file_is_refused(desired: Desired, survey: dict[str, Any]) -> None:
    survey["files"]["/home/docker-projects/notes/notes.conf"] = {"kind": "dir", "mode": "0755"}
    with pytest.raises(Refused, match=r"notes.conf is a dir"):
        compare.changes(desired, survey)


def refused(desired: Desired, survey: dict[str, Any], **allowed: frozenset[str]) -> list[str]:
    files = compare.changes(desired, survey).files
    return preflight.refusals(desired, survey, files, Allowances(**allowed))


@pytest.mark.parametrize(("known", "says"), [(True, "was changed on the host"), (False, "did not write it")])
def test_somebodys_work_on_the_host_is_never_overwritten(
    desired: Desired, survey: dict[str, Any], known: bool, says: str
) -> None:
    path = "/home/docker-projects/notes/notes.conf"
    survey["files"][path]["sha256"] = "0" * 64
    if not known:
        del survey["manifest"]["entries"][path]
    sentence = refused(desired, survey)[0]
    assert says in sentence and "--overwrite notes" in sentence and "--dry --diff" in sentence
    assert refused(desired, survey, overwrite=frozenset({"notes"})) == []


def test_our_own_older_file_is_simply_updated(desired: Desired, survey: dict[str, Any]) -> None:
    path = "/home/docker-projects/notes/notes.conf"
    for place in (survey["files"], survey["manifest"]["entries"]):
        place[path]["sha256"] = "0" * 64
    assert refused(desired, survey) == []


def test_a_newer_live_image_is_never_taken_back(desired: Desired, survey: dict[str, Any]) -> None:
    survey["containers"][0]["image"] = "example/notes:1.3.0"
    assert "newer than the declared example/notes:1.2.3" in refused(desired, survey)[0]
    assert refused(desired, survey, downgrade=frozenset({"notes"})) == []


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            {"mounts": [{"source": "/home/docker-projects/notes/data"}], "image": "x:1", "ports": []},
            "uses the same data",
        ),
        ({"mounts": [], "image": "example/notes:0.9", "ports": []}, "same image"),
        ({"mounts": [], "image": "x:1", "ports": [PORT]}, "holds its port"),
    ],
)
def test_the_same_application_under_another_project_is_refused(
    desired: Desired, survey: dict[str, Any], other: dict[str, Any], says: str
) -> None:
    survey["containers"] = [
        {
            **survey["containers"][0],
            "project": "notiz",
            "name": "notiz-app-1",
            "working_dir": "/srv/notiz",
            **other,
        }
    ]
    sentence = refused(desired, survey)[0]
    assert says in sentence and "'notes'" in sentence and "notiz" in sentence and "--fresh notes" in sentence
    assert refused(desired, survey, fresh=frozenset({"notes"})) == []


def test_a_volume_of_another_project_with_the_same_name_is_refused(
    notes: Write, load: Load, survey: dict[str, Any]
) -> None:
    notes(
        "notes/compose.yaml",
        "services: {app: {image: 'example/notes:1.2.3', volumes: ['store:/data']}}\nvolumes: {store: {}}\n",
    )
    notes("notes/understudy.yaml", "tier: important\n")
    desired = render.desired(load(), HostSettings(name="box", domain="x.org", parts=ALL_OFF), {})  # type: ignore[arg-type]
    survey["containers"] = []
    survey["volumes"] = [
        {"name": "notiz_store", "project": "notiz", "labels": {"com.docker.compose.volume": "store"}}
    ]
    assert any(
        "notiz_store" in sentence for sentence in preflight.refusals(desired, survey, [], Allowances())
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s["disks"]["/"].update(free=1000), "MB free"),
        (
            lambda s: s.update(containers=[], listeners=[{"port": 8100, "process": "nginx"}]),
            "needs port 8100, which process nginx holds",
        ),
        (lambda s: s["os"].update(arch="armv7l"), None),
    ],
)
def test_a_host_that_cannot_take_the_change_is_stopped_in_one_sentence(
    desired: Desired, survey: dict[str, Any], change: Callable[[Any], None], says: str | None
) -> None:
    change(survey)
    found = preflight.problems(desired, survey)
    assert (len(found) == 1 and says in found[0]) if says else found == []


def test_needs_of_hardware_and_mounts_are_checked(notes: Write, load: Load, survey: dict[str, Any]) -> None:
    notes(
        "notes/understudy.yaml",
        "requires: {cpu_flags: [avx2], arch: [arm64], mounts: [/mnt/big]}\nsecrets: {KEY: {generate: none, optional: true}}\n",
    )
    desired = render.desired(load(), HostSettings(name="box", domain="x.org", parts=ALL_OFF), {})  # type: ignore[arg-type]
    survey["mounts"] = {"/mnt/big": {"mounted": False}}
    found = "\n".join(preflight.problems(desired, survey))
    assert "avx2" in found and "arm64 only" in found and "/mnt/big, which is not mounted" in found


def test_the_upload_holds_exactly_what_differs_and_no_secret_in_clear_sight(
    desired: Desired, survey: dict[str, Any]
) -> None:
    path = "/etc/understudy/secrets/notes/KEY"
    before = copy.deepcopy(survey)
    survey["files"][path]["sha256"] = "0" * 64
    changes = compare.changes(desired, survey).files
    request = release.build(desired, changes, "r1")
    assert [entry["path"] for entry in request["entries"]] == [path]
    assert request["expect"] == {path: "0" * 64}
    assert request["validators"] == [] and "s3cret-value" not in str(request)
    assert compare.changes(desired, before).files == []


def test_a_changed_compose_file_is_checked_by_the_hosts_own_compose(
    desired: Desired, survey: dict[str, Any]
) -> None:
    path = "/home/docker-projects/notes/compose.yaml"
    survey["files"][path]["sha256"] = "0" * 64
    request = release.build(desired, compare.changes(desired, survey).files)
    argv = request["validators"][0]["argv"]
    assert argv == [
        "docker",
        "compose",
        "--project-name",
        "notes",
        "--project-directory",
        "{stage}/home/docker-projects/notes",
        "--file",
        "{stage}/home/docker-projects/notes/compose.yaml",
        "--env-file",
        "{stage}/home/docker-projects/notes/.env",
        "config",
        "--quiet",
    ]
    assert request["context"] == ["/home/docker-projects/notes/.env"]


def test_a_new_port_held_by_a_stranger_is_found_while_the_service_runs(
    notes: Write, load: Load, survey: dict[str, Any]
) -> None:
    notes("notes/compose.yaml", NOTES.replace("127.0.0.1:8100:80", "127.0.0.1:8999:80"))
    desired = render.desired(
        load(), HostSettings(name="box", domain="x.org", parts=ALL_OFF), {"notes": {"KEY": "v"}}
    )  # type: ignore[arg-type]
    survey["listeners"].append({"port": 8999, "process": "python3"})
    assert "needs port 8999, which process python3 holds" in preflight.problems(desired, survey)[0]


def test_an_engine_too_old_for_a_health_check_is_named_before_anything_changes(
    notes: Write, load: Load, survey: dict[str, Any]
) -> None:
    notes(
        "notes/compose.yaml",
        NOTES.replace("    ports:", "    healthcheck: {test: [CMD, 'true'], start_interval: 1s}\n    ports:"),
    )
    desired = render.desired(
        load(), HostSettings(name="box", domain="x.org", parts=ALL_OFF), {"notes": {"KEY": "v"}}
    )  # type: ignore[arg-type]
    assert preflight.problems(desired, survey) == []
    survey["docker"]["version"] = "20.10.24"
    assert "needs Docker 25 and this host has 20.10.24" in preflight.problems(desired, survey)[0]
