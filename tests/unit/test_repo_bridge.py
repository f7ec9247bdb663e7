"""A copy between two S3 accounts: one of them by way of rclone, its login in a private file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from understudy.agent.errors import AgentError
from understudy.agent.repo import bridge, repository
from understudy.agent.repo.restic import Repo

LOGIN = "[default]\naws_access_key_id = {0}-id\naws_secret_access_key = {0}-secret\n"


def repo(tmp_path: Path, name: str, login: str) -> Repo:
    keys = tmp_path / f"{name}-aws"
    keys.write_text(LOGIN.format(login))
    place = tmp_path / name
    env = {
        "RESTIC_REPOSITORY_FILE": str(place),
        "RESTIC_PASSWORD_FILE": str(tmp_path / f"{name}-password"),
        "AWS_SHARED_CREDENTIALS_FILE": str(keys),
    }
    where = f"s3:https://{name}.example:9000/bucket/critical"
    return Repo(
        name, "critical", "restic", (), env, where, name, (), (str(place), env["RESTIC_PASSWORD_FILE"])
    )


def test_the_configuration_and_the_address() -> None:
    text, address = bridge.config("s3:http://store:9000/bucket/a/critical", LOGIN.format("x"))
    assert address == "rclone:source:bucket/a/critical"
    assert text.splitlines() == [
        "[source]",
        "type = s3",
        "provider = Other",
        "endpoint = http://store:9000",
        "access_key_id = x-id",
        "secret_access_key = x-secret",
        "no_check_bucket = true",
    ]


def test_two_accounts_are_copied_with_one_of_them_through_rclone(tmp_path: Path) -> None:
    target, source = repo(tmp_path, "second", "b"), repo(tmp_path, "offsite", "a")
    both, read = repository.paired(target, source)
    assert read.source[0] == str(tmp_path / "offsite.bridge")
    assert both.env["AWS_SHARED_CREDENTIALS_FILE"] == target.env["AWS_SHARED_CREDENTIALS_FILE"]
    settings = tmp_path / "offsite.rclone.conf"
    assert both.options == ("-o", f"rclone.program=rclone --config {settings}")
    assert os.stat(settings).st_mode & 0o777 == 0o600
    assert not any("a-secret" in word for word in (*both.options, *both.env.values()))


def test_one_account_needs_no_detour(tmp_path: Path) -> None:
    both, read = repository.paired(repo(tmp_path, "second", "a"), repo(tmp_path, "offsite", "a"))
    assert both.options == () and read.source[0] == str(tmp_path / "offsite")


def test_a_login_that_is_none_is_said(tmp_path: Path) -> None:
    source = repo(tmp_path, "offsite", "a")
    Path(source.env["AWS_SHARED_CREDENTIALS_FILE"]).write_text("[other]\n")
    with pytest.raises(AgentError, match="offsite/critical cannot be read beside another store's login"):
        bridge.over_rclone(source)
