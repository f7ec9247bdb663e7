"""Jobs in the inventory: what is refused, and what a host gets for them."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from samples import VARIABLES, Write

from understudy import render
from understudy.agent.data import plan as agent_plan
from understudy.catalog import Catalog
from understudy.desired import Desired
from understudy.errors import BadInput
from understudy.faults import CatalogError
from understudy.protection import files, jobs, secrets
from understudy.protection.policy import Policy
from understudy.settings import settings_of

OFFSITE = {"url": "s3:https://s3.example/bucket", "tamper": "versions"}
REMOTES = {"b2": {"type": "s3", "provider": "Other", "endpoint": "https://s3.example"}}
FILES = {
    "source": "/mnt/ssd/backups",
    "to": "b2:lemongrab-backups/files",
    "mounted": "/mnt/ssd",
    "at": "03:00",
}
MEDIA = {
    "source": "/mnt/ssd/media",
    "to": "mirror@finn:/",
    "tool": "rsync",
    "at": "Sun 04:30",
    "limit": "4M",
}
VALUES = {
    "OFFSITE_PASSWORD": "p",
    "OFFSITE_KEY_ID": "i",
    "OFFSITE_KEY": "k",
    "B2_ACCESS_KEY_ID": "remote-id",
    "B2_SECRET_ACCESS_KEY": "remote-secret",
    "JOB_MEDIA_SSH_KEY": "SSH PRIVATE KEY",
    "JOB_MEDIA_KNOWN_HOSTS": "finn ssh-ed25519 AAAA",
}


def policy(**changes: Any) -> Policy:
    given = {
        "repositories": {"offsite": OFFSITE},
        "remotes": REMOTES,
        "jobs": {"old-backups": FILES, "media": MEDIA},
    }
    return Policy.model_validate({**given, **changes})


def rendered(load: Callable[..., Catalog], values: dict[str, str] = VALUES) -> Desired:
    catalog = load()
    host = settings_of(
        "box", {"domain": VARIABLES["DOMAIN"], "backup": policy().model_dump(exclude_unset=True)}
    )
    secret = {name: {"KEY": "k"} for name in catalog.services}
    return render.desired(catalog, host, {**secret, "backup": values})


def test_the_agent_reads_the_jobs_that_the_control_machine_writes(
    notes: Write, load: Callable[..., Catalog]
) -> None:
    plan = agent_plan.parse(json.loads(rendered(load).tree.entries[files.PLAN].content))
    old, media = plan.jobs["old-backups"], plan.jobs["media"]
    assert (old.source, old.to, old.mounted, old.mode) == (FILES["source"], FILES["to"], "/mnt/ssd", "sync")
    assert (old.fast_list, old.marker, old.local, old.keep_days, old.max_delete) == (
        True,
        False,
        False,
        60,
        50,
    )
    assert (media.tool, media.marker, media.limit, media.port) == ("rsync", True, "4M", 22)
    assert media.credentials == {"ssh_key": "job-media-ssh-key", "known_hosts": "job-media-known-hosts"}


def test_b15_credentials_are_roots_own_files_and_stand_nowhere_else(
    notes: Write, load: Callable[..., Catalog]
) -> None:
    """rclone's configuration once belonged to another user than the one that ran it, and was made readable to all."""
    entries = rendered(load).tree.entries
    config = entries[f"{secrets.FOLDER}/rclone.conf"]
    assert (config.mode, config.user, config.group, config.secret) == (0o400, "root", "root", True)
    for value in ("remote-secret", "remote-id", "SSH PRIVATE KEY"):
        holders = [path for path, entry in entries.items() if value.encode() in entry.content]
        assert len(holders) == 1 and holders[0].startswith(secrets.FOLDER), holders
    assert entries[f"{secrets.FOLDER}/job-media-ssh-key"].content == b"SSH PRIVATE KEY\n"


def test_b15_each_job_has_a_timer_whose_failure_is_told(notes: Write, load: Callable[..., Catalog]) -> None:
    desired = rendered(load)
    service = desired.tree.entries["/etc/systemd/system/understudy-job-old-backups.service"].content.decode()
    timer = (
        desired.tree.entries["/etc/systemd/system/understudy-job-media.timer"].content.decode().splitlines()
    )
    lines = service.splitlines()
    assert "ExecStart=/usr/bin/python3 -IB /usr/lib/understudy/agent.pyz jobs old-backups" in lines
    assert (
        "OnFailure=understudy-alarm@%n.service" in lines
        and "LoadCredential=backup:/etc/understudy/secrets/backup" in lines
    )
    assert "TimeoutStartSec=21900" in lines and not any(line.startswith("User=") for line in lines)
    assert "OnCalendar=Sun 04:30" in timer and "Persistent=yes" in timer
    assert "understudy-job-media.timer" in [unit.name for unit in desired.units]
    assert {"rclone", "rsync", "openssh-client"} <= set(desired.packages)


def test_a_missing_key_is_named_before_any_host_is_asked(notes: Write, load: Callable[..., Catalog]) -> None:
    with pytest.raises(CatalogError, match="B2_SECRET_ACCESS_KEY"):
        rendered(load, {name: value for name, value in VALUES.items() if name != "B2_SECRET_ACCESS_KEY"})
    with pytest.raises(CatalogError, match="JOB_MEDIA_SSH_KEY"):
        rendered(load, {name: value for name, value in VALUES.items() if name != "JOB_MEDIA_SSH_KEY"})


def test_rclone_reads_what_was_written_even_strange_values(tmp_path: Path) -> None:
    strange = "a#b;c=d%s ${x} \\n $"
    found = policy(jobs={"old-backups": FILES})
    text = jobs.config(found, {**VALUES, "B2_SECRET_ACCESS_KEY": strange})
    (tmp_path / "rclone.conf").write_text(text)
    program = shutil.which("rclone")
    assert program
    argv = [program, "--config", str(tmp_path / "rclone.conf"), "config", "dump"]
    dumped = json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=30).stdout)
    assert dumped == {
        "b2": {
            "type": "s3",
            "provider": "Other",
            "endpoint": "https://s3.example",
            "no_check_bucket": "true",
            "access_key_id": "remote-id",
            "secret_access_key": strange,
        }
    }


def test_a_key_file_travels_on_one_line_and_other_line_breaks_are_refused() -> None:
    remotes = {"nas": {"type": "sftp", "host": "nas", "user": "box"}}
    found = policy(remotes=remotes, jobs={"x": {**FILES, "to": "nas:/copies/files"}})
    parsed = configparser.RawConfigParser()
    parsed.read_string(jobs.config(found, {"NAS_KEY_PEM": "-----BEGIN\nabc\n-----END\n"}))
    assert parsed["nas"]["key_pem"] == "-----BEGIN\\nabc\\n-----END"
    for wrong in ("two\nlines", '"quoted"', " blank", "a%(type)s"):
        with pytest.raises(BadInput, match="B2_SECRET_ACCESS_KEY in secrets/backup"):
            jobs.config(policy(), {**VALUES, "B2_SECRET_ACCESS_KEY": wrong})


def test_a_remote_that_wraps_another_brings_it_along() -> None:
    remotes = {**REMOTES, "sealed": {"type": "crypt", "remote": "b2:bucket/sealed"}, "unused": {"type": "b2"}}
    found = policy(remotes=remotes, jobs={"x": {**FILES, "to": "sealed:files"}})
    assert jobs.used_remotes(found) == ["sealed", "b2"]
    assert "SEALED_PASSWORD" in jobs.host_specs(found) and "UNUSED_KEY" not in jobs.host_specs(found)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"keep_days": 29}, "greater than or equal to 30"),
        ({"keep_days": 91}, "less than or equal to 90"),
        ({"to": "b2:lemongrab-backups"}, "name a folder of the bucket"),
        ({"to": "b2:bucket/.history/files"}, "no .history"),
        ({"to": "b2:bucket/a/../b"}, "no .., no //"),
        ({"to": "gone:bucket/files"}, "no remote is called 'gone'; backup.remotes has: b2"),
        ({"to": "mirror@finn:media", "tool": "rsync"}, "not user@host:/ "),
        ({"to": "mirror@finn:/media", "tool": "rsync"}, "not user@host:/ "),
        (
            {"to": "mirror@finn:/", "tool": "rsync", "marker": False},
            "never writes to a folder without its marker",
        ),
        ({"source": "relative"}, "not a plain absolute path"),
        ({"source": "/mnt/../etc", "mounted": ""}, "not a plain absolute path"),
        ({"mounted": "/mnt/usb"}, "is not below mounted /mnt/usb"),
        ({"at": "25:00"}, "no time of day"),
        ({"limit": "fast"}, "pattern"),
        ({"max_delete": -1}, "greater than or equal to 0"),
        ({"delete_after": True}, "Extra inputs"),
    ],
)
def test_a_job_that_could_lose_data_or_not_run_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        policy(jobs={"old-backups": {**FILES, **change}})


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ("b2:lemongrab-backups/files", "overlap"),
        ("b2:lemongrab-backups/files/below", "overlap"),
        ("b2:lemongrab-backups/files2", ""),
    ],
)
def test_two_jobs_into_each_other_are_refused(other: str, sentence: str) -> None:
    both = {"old-backups": FILES, "more": {**FILES, "to": other}}
    if sentence:
        with pytest.raises(ValidationError, match=sentence):
            policy(jobs=both)
    else:
        assert set(policy(jobs=both).jobs) == {"old-backups", "more"}


def test_b14_a_copy_into_its_own_source_is_refused() -> None:
    remotes = {"usb": {"type": "local"}}
    for to in ("usb:/mnt/ssd/backups/copy", "usb:/mnt/ssd/backups", "usb:/mnt/ssd"):
        with pytest.raises(ValidationError, match="overlap"):
            policy(remotes=remotes, jobs={"x": {**FILES, "to": to}})
    entry = jobs.rendered(policy(remotes=remotes, jobs={"x": {**FILES, "to": "usb:/mnt/usb/copies"}}))["x"]
    assert entry["local"] and entry["marker"]


@pytest.mark.parametrize(
    ("remotes", "sentence"),
    [
        ({"b2": {"type": "s3", "secret_access_key": "clear"}}, "secret_access_key is a secret"),
        ({"b2": {"type": "somethingnew"}}, "say which options of type 'somethingnew' are secrets"),
        ({"b2": {"type": "s3", "Endpoint=": "x"}}, "no option of rclone"),
        ({"b2": {"type": "s3", "endpoint": "a\nb"}}, "line break"),
        ({"b2": {"type": "s3"}, "offsite": {"type": "b2"}}, "repository offsite has secrets of that name"),
        ({"b2": {"type": "s3"}, "ping": {"type": "b2"}}, "a ping has secrets of that name"),
    ],
)
def test_a_remote_with_a_secret_in_clear_or_a_clash_is_refused(
    remotes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        policy(remotes=remotes)


def test_jobs_alone_are_no_backup() -> None:
    with pytest.raises(ValidationError, match="declare a repository too"):
        policy(repositories={})
