"""Placeholders, missing and clear values are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from understudy import cli_secrets, secrets
from understudy.secrets import SecretsError, Store, check, sops, weakness

from .project import OWN, PASSWORD, SPECS, fresh, put, said


@pytest.mark.parametrize(
    "value",
    [
        "changeme", "change_me_now", "please-change-this", "<your password>", "${DB_PASSWORD}",
        "{{ password }}", "xxx", "XXXXXXXX", "TODO", "todo: ask", "FIXME", "placeholder", "your-secret-key",
        "your_password", "insert-token-here", "password", "Password1", "secret", "secret123", "admin",
        "example", "postgres", "letmein!",
        "nextcloud_password", "aaaaaaaaaaaa", "1234567890", "abcdefghijkl", "short",
    ],
)  # fmt: skip
def test_placeholders_and_weak_values_are_refused(value: str) -> None:
    assert weakness("DB_PASSWORD", value) != ""


@pytest.mark.parametrize(
    "value",
    ["correct horse battery", "kX9.pa2-Lq", "passwordless-is-the-way-9z", "$argon2id$v=19$m=65540$abcdefgh"],
)
def test_real_values_are_not_refused(value: str) -> None:
    assert weakness("DB_PASSWORD", value) == ""


def test_names_that_are_no_secrets_may_be_short_but_not_blank() -> None:
    assert weakness("ADMIN_USERNAME", "admin") == ""
    assert weakness("EMAIL_USER", "me@example.org") == ""
    assert weakness("ADMIN_USERNAME", "changeme") != ""
    assert weakness("ADMIN_USERNAME", "<user>") != ""


def test_a_value_that_is_its_own_name_is_refused() -> None:
    assert weakness("KITCHENOWL_JWT", "kitchenowl_jwt") == "is only its own name"
    assert weakness("JWT", "kitchenowl", service="kitchenowl") == "is only its own name"


def test_check_passes_a_project_in_order(store: Store) -> None:
    store.ensure("app", SPECS)
    sops.set_value(store.path("app"), "API_KEY", b'"AbC-4711-xYz-0815"')
    (store.folder / "README.md").write_text("How to.\n")
    assert check(fresh(store), {"app": SPECS, "static": {}}) == []


def test_check_finds_everything_at_once(store: Store) -> None:
    put(store, "app", {"DB_PASSWORD": "changeme", "OLD": "left-over-value-1"})
    put(store, "gone", {"A": "some-real-value"})
    (store.folder / "clear.yaml").write_text("A: in-clear-value\n")
    (store.folder / "app.yaml~").write_text("editor leftover")
    (store.folder / "notes.txt").write_text("x")
    found = check(
        store, {"app": {"DB_PASSWORD": PASSWORD, "API_KEY": OWN, "SALT": PASSWORD}, "clear": {"A": OWN}}
    )
    assert {(fault.file.name, *entry) for fault, entry in zip(found, said(found), strict=True)} == {
        ("app.yaml", "error", "DB_PASSWORD", "says that it must be changed"),
        ("app.yaml", "error", "API_KEY", "is missing (from the provider's console)"),
        ("app.yaml", "warning", "SALT", "is not made yet"),
        ("app.yaml", "warning", "OLD", "is not declared under secrets: of the service"),
        ("gone.yaml", "warning", "", "no service of this name is in services/"),
        ("clear.yaml", "error", "", "is not a SOPS file: its secrets stand in clear"),
        ("app.yaml~", "error", "", "only SOPS files named after a service (SERVICE.yaml) belong here"),
        ("notes.txt", "error", "", "only SOPS files named after a service (SERVICE.yaml) belong here"),
    }
    assert all("left-over-value" not in str(fault) and "in-clear-value" not in str(fault) for fault in found)


def test_check_without_a_key_looks_for_clear_text_only(store: Store, key: Path) -> None:
    path = put(store, "app", {"DB_PASSWORD": "changeme"})
    key.unlink()
    assert check(store, {"app": SPECS}, opened=False) == []
    path.write_text("NEW: clear-text-value\n" + path.read_text())
    assert said(check(store, {"app": SPECS}, opened=False)) == [
        ("error", "NEW", "stands in clear in an encrypted file")
    ]


def test_check_says_once_that_there_is_no_key(store: Store, key: Path) -> None:
    put(store, "app", {"DB_PASSWORD": "some-real-value"})
    key.unlink()
    (fault,) = check(store, {"app": SPECS})
    assert "there is no age key here" in fault.message


@pytest.fixture
def project(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The verbs run in a project with two services."""
    monkeypatch.chdir(store.folder.parent)
    monkeypatch.setattr(cli_secrets, "declared", lambda: {"app": SPECS, "db": {"PASSWORD": PASSWORD}})
    return Store(Path("secrets"))


def verb(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli_secrets.app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_generate_then_check(project: Store) -> None:
    code, output = verb("generate")
    assert (code, output) == (0, "app: made DB_PASSWORD, SALT\ndb: made PASSWORD\n")
    assert verb("generate") == (0, "Nothing is missing.\n")
    code, output = verb("check")
    assert code == 2
    assert "API_KEY: is missing" in output
    sops.set_value(project.path("app"), "API_KEY", b'"AbC-4711-xYz-0815"')
    assert verb("check") == (0, "No placeholder, nothing missing, nothing in clear.\n")


def test_check_as_json_and_exit_code(project: Store) -> None:
    project.ensure_all({"app": SPECS, "db": {"PASSWORD": PASSWORD}})
    folder = Path("services/app")
    folder.mkdir(parents=True)
    (folder / "compose.yaml").write_text("DB_PASSWORD: in-clear-value\n")
    code, output = verb("check", "--json")
    assert code == 2
    assert [(entry["file"], entry["line"], entry["key"]) for entry in json.loads(output)] == [
        ("secrets/app.yaml", 0, "API_KEY"),
        ("services/app/compose.yaml", 1, "DB_PASSWORD"),
    ]
    code, output = verb("check", "--clear-only", "--json")
    assert (code, [entry["key"] for entry in json.loads(output)]) == (2, ["DB_PASSWORD"])


def test_warnings_alone_do_not_fail(project: Store) -> None:
    put(project, "app", {"DB_PASSWORD": secrets.generate("alnum32"), "API_KEY": "AbC-4711-xYz-0815"})
    code, output = verb("check")
    assert code == 0
    assert "warning: " in output


def test_edit_knows_the_services(project: Store) -> None:
    with pytest.raises(SecretsError, match="no service is called 'other'; known: app, db"):
        verb("edit", "other")


def test_init_verb_tells_to_keep_a_copy(tmp_path: Path, key: Path) -> None:
    code, output = verb("init", "--dir", str(tmp_path / "new" / "secrets"))
    assert code == 0
    assert "Keep a copy of that file elsewhere" in output
