"""Nothing leaks while sops runs, and what goes wrong is named without a value."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pytest

from understudy import secrets
from understudy.secrets import SecretsError, Store, init, sops
from understudy.spec import SecretSpec

from .project import OWN, PASSWORD, SPECS, fresh, put

RECORDER = """#!/bin/sh
# Records what others on this machine could see of this run, and every file of the project at that moment.
tr '\\0' ' ' < /proc/$$/cmdline >> "{log}/argv"
tr '\\0' '\\n' < /proc/$$/environ >> "{log}/environ"
{sops} "$@"
code=$?
cat {project}/.sops.yaml {project}/secrets/* {project}/secrets/.[!.]* >> "{log}/files" 2>/dev/null
find "$TMPDIR" -type f -exec cat {{}} + >> "{log}/files"
exit $code
"""


@pytest.fixture
def recorded(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sops behind a script that records; the folder it records into."""
    log, temporary = tmp_path / "log", tmp_path / "tmp"
    log.mkdir()
    temporary.mkdir()
    script = tmp_path / "sops-recorded"
    script.write_text(RECORDER.format(log=log, sops=sops.binary(), project=store.folder.parent))
    script.chmod(0o755)
    monkeypatch.setattr(sops, "binary", lambda: str(script))
    monkeypatch.setenv("TMPDIR", str(temporary))
    return log


def test_no_value_in_argv_environment_or_files(store: Store, recorded: Path) -> None:
    store.ensure("app", {"ONE": PASSWORD})
    store.ensure("app", {"ONE": PASSWORD, "TWO": SecretSpec(generate="hex64")})
    values = fresh(store).load("app")
    assert set(values) == {"ONE", "TWO"}
    seen = {path.name: path.read_text() for path in recorded.iterdir()}
    assert seen["argv"].count("--disable-version-check") >= 4, "the recorder saw every run"
    assert "ENC[AES256_GCM" in seen["files"]
    for value in values.values():
        for place, text in seen.items():
            assert value not in text, f"a value stands in {place}"
            assert base64.b64encode(value.encode()).decode().rstrip("=") not in text


def test_without_a_key_it_says_where_it_belongs(store: Store, key: Path) -> None:
    path = put(store, "app", {"A": "some-real-value"})
    recipient = secrets.recipients_of_key_file(key)[0]
    key.unlink()
    with pytest.raises(SecretsError, match="there is no age key here") as error:
        store.load("app")
    assert str(path) in str(error.value)
    assert str(key) in str(error.value)
    assert recipient in str(error.value)


def test_a_wrong_key_names_both_sides(store: Store, key: Path, tmp_path: Path) -> None:
    put(store, "app", {"A": "some-real-value"})
    wanted = secrets.recipients_of_key_file(key)[0]
    key.unlink()
    init(tmp_path / "other" / "secrets")
    mine = secrets.recipients_of_key_file(key)[0]
    with pytest.raises(SecretsError, match="your age key does not open it") as error:
        store.load("app")
    assert f"encrypted for {wanted}, and {key} holds {mine}" in str(error.value)


def test_a_file_changed_by_hand_is_noticed(store: Store) -> None:
    path = put(store, "app", {"A": "some-real-value", "B": "another-real-value"})
    kept = [line for line in path.read_text().splitlines(keepends=True) if not line.startswith("B:")]
    path.write_text("".join(kept))
    with pytest.raises(SecretsError, match="was changed without sops") as error:
        store.load("app")
    assert f"{path}:" in str(error.value)


def test_a_swapped_ciphertext_is_noticed(store: Store) -> None:
    path = put(store, "app", {"AAA": "some-real-value", "BBB": "other-real-value"})
    path.write_text(path.read_text().replace("AAA:", "XXX:").replace("BBB:", "AAA:").replace("XXX:", "BBB:"))
    with pytest.raises(SecretsError, match="was changed without sops"):
        store.load("app")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("A: [1\n", r"is not valid YAML \(line"),
        ("A: hunter2-in-clear\n", "is not a SOPS file"),
        ("", "is not a SOPS file"),
    ],
)
def test_a_file_that_is_not_sops_is_refused(store: Store, text: str, sentence: str) -> None:
    path = store.path("app")
    path.write_text(text)
    with pytest.raises(SecretsError, match=sentence) as error:
        store.load("app")
    assert str(path) in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_line_in_clear_in_an_encrypted_file_is_refused(store: Store) -> None:
    path = put(store, "app", {"A": "some-real-value"})
    path.write_text("ADDED: clear-text-value\n" + path.read_text())
    with pytest.raises(SecretsError, match="ADDED: stands in clear in an encrypted file") as error:
        store.load("app")
    assert f"{path}:1" in str(error.value)
    assert "clear-text-value" not in str(error.value)


@pytest.mark.parametrize("value", ["PIN: 007", "PIN: true", "PIN: 2024-01-01", "PIN: 1.50"])
def test_values_that_yaml_would_change_need_quotes(store: Store, value: str) -> None:
    path = store.path("app")
    path.write_bytes(sops.encrypt(path, value.encode(), store.folder.parent / ".sops.yaml", "yaml"))
    with pytest.raises(SecretsError, match=r"PIN: is a .* not a text → put the value in quotes"):
        store.load("app")


def test_nested_values_are_refused(store: Store) -> None:
    put(store, "app", {"GROUP": {"A": "some-real-value"}})
    with pytest.raises(SecretsError, match="GROUP: is nested"):
        store.load("app")


def test_without_init_it_says_so(tmp_path: Path, key: Path) -> None:
    with pytest.raises(SecretsError, match="`understudy secrets init` writes it"):
        Store(tmp_path / "bare" / "secrets").ensure("app", {"A": PASSWORD})
    assert list((tmp_path / "bare" / "secrets").iterdir()) == []


EDITOR = """#!/bin/sh
echo "$1" > {seen}/path
cat "$1" > {seen}/shown
tr '\\0' ' ' < /proc/$PPID/cmdline > {seen}/argv
{action}
"""


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> Path:
    seen = tmp_path / "seen"
    seen.mkdir(exist_ok=True)
    script = tmp_path / "editor"
    script.write_text(EDITOR.format(seen=seen, action=action))
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    monkeypatch.setenv("SOPS_EDITOR", str(script))
    return seen


def test_a_first_edit_shows_what_only_the_owner_knows(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = editor(tmp_path, monkeypatch, """sed -i 's/^API_KEY: ""/API_KEY: "owner-4711-value"/' "$1" """)
    assert store.edit("app", {"API_KEY": OWN}) is True
    assert "# from the provider's console\n" in (seen / "shown").read_text()
    assert fresh(store).load("app") == {"API_KEY": "owner-4711-value"}
    assert "owner-4711-value" not in store.path("app").read_text()
    opened = Path((seen / "path").read_text().strip())
    assert not opened.exists()
    if os.access("/dev/shm", os.W_OK) and "XDG_RUNTIME_DIR" not in os.environ:
        assert opened.is_relative_to("/dev/shm"), "the opened file is kept in memory"


def test_an_edit_after_generation_offers_the_missing_names(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = editor(tmp_path, monkeypatch, "true")
    store.ensure("app", SPECS)
    store.edit("app", SPECS)
    assert re.search(r'^API_KEY: ""', (seen / "shown").read_text(), re.MULTILINE)
    assert store.load("app")["DB_PASSWORD"] in (seen / "shown").read_text()
    assert set(fresh(store).load("app")) == {"DB_PASSWORD", "SALT"}


def test_an_edit_without_a_change_leaves_nothing_behind(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, "true")
    assert store.edit("app", {"API_KEY": OWN}) is False
    assert list(store.folder.iterdir()) == []


def test_an_edit_that_yaml_would_change_is_reported(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, 'echo "PIN: 007" > "$1"')
    with pytest.raises(SecretsError, match="PIN: is a int, not a text"):
        store.edit("app", {"PIN": OWN})
    assert store.path("app").exists(), "what the owner typed is not thrown away"
