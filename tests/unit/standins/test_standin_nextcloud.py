"""Nextcloud's stand-in as far as it needs no database: config.php, versions, occ."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

STANDINS = Path(__file__).parents[3] / "lab/standins"
sys.path.insert(0, str(STANDINS))

from standin import nextcloud, nextcloud_store, occ, php_config  # noqa: E402

CONFIG: dict[str, Any] = {"instanceid": "oc1", "trusted_domains": ["localhost", "cloud.example.org"], "installed": True,
                          "version": "30.0.17.2", "datadirectory": "/var/www/html/data", "dbpassword": "a'b\\c"}  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
KEYS = TEXT.filter(lambda key: not key.lstrip("-").isdigit())
VALUES = st.recursive(
    st.one_of(st.booleans(), st.none(), st.integers(-(10**9), 10**9), TEXT),
    lambda inner: st.one_of(st.lists(inner, min_size=1, max_size=3), st.dictionaries(KEYS, inner, max_size=3)), max_leaves=8,
)  # fmt: skip


@pytest.fixture
def html(tmp_path: Path) -> Path:
    """An installed Nextcloud, version 30.0.17."""
    nextcloud.write_version(tmp_path, (30, 0, 17, 2))
    php_config.write(tmp_path / "config/config.php", CONFIG)
    return tmp_path


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_config_php_is_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("config") / "config.php"
    php_config.write(path, config)
    assert php_config.read(path) == config


@pytest.mark.parametrize(
    "text",
    ["", "<?php\n", "<?php\n$CONFIG = array (\n  'a' => 1\n", "<?php\n$CONFIG = array (\n 'a' = 1,\n);"],
)
def test_a_torn_config_php_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.php").write_text(text)
    with pytest.raises(php_config.ConfigError):
        php_config.read(tmp_path / "config.php")


def test_config_php_is_not_for_everybody(html: Path) -> None:
    assert (html / "config/config.php").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("installed", "image", "says"),
    [
        ((30, 0, 17, 2), (30, 0, 16, 2), "downgrading is not supported"),
        ((30, 0, 17, 2), (29, 0, 16, 2), "downgrading is not supported"),
        ((30, 0, 17, 2), (32, 0, 1, 2), "one major version at a time"),
        ((30, 0, 17, 2), (31, 0, 1, 2), None),
        ((30, 0, 17, 2), (30, 0, 17, 2), None),
        ((), (34, 0, 3, 2), None),
    ],
)
def test_versions_go_forward_one_major_at_a_time(
    installed: tuple[int, ...], image: tuple[int, ...], says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if says is None:
        return nextcloud.check_versions(installed, image)
    with pytest.raises(SystemExit) as stopped:
        nextcloud.check_versions(installed, image)
    assert stopped.value.code == 1 and says in capsys.readouterr().err
    return None


def test_the_version_of_the_data_and_of_the_image(html: Path) -> None:
    assert nextcloud.data_version(html) == (30, 0, 17, 2)
    place = nextcloud.Place({"STANDIN_IMAGE": "nextcloud:30.0.17-apache"})
    assert nextcloud.image_version(place) == (30, 0, 17, 2)


def test_a_scan_finds_what_is_new_changed_and_gone() -> None:
    there = {"files/a": (1, 10), "files/b": (2, 10), "files/c": (3, 10)}
    known = {"files/b": (2, 10), "files/c": (3, 9), "files/d": (4, 10)}
    assert nextcloud_store.differences(there, known) == (["files/a"], ["files/c"], ["files/d"])


class TestOcc:
    def test_maintenance_mode_is_in_config_php_and_leaves_the_rest_alone(
        self, html: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert occ.main(["maintenance:mode", "--on"], html) == 0
        assert php_config.read(html / "config/config.php") == CONFIG | {"maintenance": True}
        assert occ.main(["maintenance:mode"], html) == 0
        assert "currently enabled" in capsys.readouterr().out
        assert occ.main(["maintenance:mode", "--off"], html) == 0
        assert php_config.read(html / "config/config.php")["maintenance"] is False

    def test_status_as_json(self, html: Path, capsys: pytest.CaptureFixture[str]) -> None:
        occ.main(["maintenance:mode", "--on"], html)
        capsys.readouterr()
        assert occ.main(["status", "--output=json"], html) == 0
        status = json.loads(capsys.readouterr().out)
        assert (status["installed"], status["maintenance"], status["versionstring"]) == (
            True,
            True,
            "30.0.17",
        )

    def test_each_fingerprint_is_another(self, html: Path) -> None:
        found = set()
        for _ in range(3):
            assert occ.main(["maintenance:data-fingerprint"], html) == 0
            found.add(php_config.read(html / "config/config.php")["data-fingerprint"])
        assert len(found) == 3

    def test_commands_of_apps_are_not_there_in_maintenance_mode(
        self, html: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        occ.main(["maintenance:mode", "--on"], html)
        assert occ.main(["files:scan", "--all"], html) == 1
        assert 'no commands defined in the "files" namespace' in capsys.readouterr().err

    def test_only_the_owner_of_config_php_may_call_it(
        self, html: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        before = (html / "config/config.php").read_bytes()
        assert occ.main(["maintenance:mode", "--on"], html) == 1
        assert (html / "config/config.php").read_bytes() == before

    def test_an_unknown_command_fails(self, html: Path) -> None:
        assert occ.main(["nope:nothing"], html) == 1

    def test_without_an_installation_there_is_little_to_do(self, tmp_path: Path) -> None:
        assert occ.main(["maintenance:mode", "--on"], tmp_path) == 1
