"""Secrets in clear are found in files, and masked in what is shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml

from understudy.secrets import Masker, Store, scan_tree

from .project import SPECS


def scanned(tmp_path: Path, name: str, text: str) -> list[tuple[int, str]]:
    path = tmp_path / "services" / "app" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return [(fault.line, fault.key or fault.message) for fault in scan_tree([tmp_path / "services"])]


def test_literal_passwords_in_settings_are_found(tmp_path: Path) -> None:
    text = """services:
  app:
    environment:
      POSTGRES_PASSWORD: hunter2hunter2
      JWT_SECRET_KEY: "abc-def-ghi"
      - ADMIN_TOKEN=abcdefgh
    command: [redis-server, --requirepass hunter2hunter2]
  other:
    environment: {DB_HOST: db, DB_PASSWORD: abcdefgh}
    labels: ["x=${DB_PASSWORD:-hunter2}"]
"""
    assert scanned(tmp_path, "compose.yaml", text) == [
        (4, "POSTGRES_PASSWORD"),
        (5, "JWT_SECRET_KEY"),
        (6, "ADMIN_TOKEN"),
        (7, "requirepass"),
        (9, "DB_PASSWORD"),
        (10, "DB_PASSWORD"),
    ]


def test_references_are_not_secrets(tmp_path: Path) -> None:
    text = """# DB_PASSWORD: an example in a comment
x-understudy:
  secrets_env: [ADMIN_TOKEN]
  secrets:
    DB_PASSWORD: {generate: alnum32, uid: 999}
    API_TOKEN:
      why: token from the console
services:
  app:
    environment:
      POSTGRES_PASSWORD_FILE: /run/secrets/db_password
      ADMIN_TOKEN: ${ADMIN_TOKEN}
      OTHER_TOKEN: "${OTHER_TOKEN:?set it}"
      DISABLE_ADMIN_TOKEN: true
      PASSWORD_MIN_LENGTH: 12
      DATABASE_URL: postgres://app:${DB_PASSWORD}@db/app
      GRANT: password
      WHY: "the channel's incoming webhook: whoever has it can post"
      PATTERN: a${OTHER_TOKEN:?is needed}
      DUMMY_TOKEN: for-the-probe  # not a secret
secrets:
  db_password: {file: /etc/understudy/secrets/app/DB_PASSWORD}
"""
    assert scanned(tmp_path, "compose.yaml", text) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"),
        ("-----BEGIN PRIVATE KEY-----", "a private key"),
        ("key " + "AGE-SECRET-KEY-" + "1" + "Q" * 58, "an age key"),
        ("id " + "AKIA" + "ABCDEFGHIJKLMNOP", "an AWS access key"),
        ("x " + "ghp" + "_" + "a1" * 18, "a GitHub token"),
        ("x " + "https://hooks.slack" + ".com/services/T0AAAA/B0BBBB/c1c1c1c1", "a webhook address"),
        ("x " + "AIza" + "a" * 35, "a Google API key"),
        ("x " + "eyJhbGciOiJIUzI1" + ".eyJzdWIiOiIxMjM0" + ".SflKxwRJSMeKKF2Q", "a JSON web token"),
        ("uri postgres://app:hunter2@db/app", "a password in an address"),
    ],
)  # fmt: skip
def test_tokens_are_found_by_their_shape_anywhere(tmp_path: Path, text: str, what: str) -> None:
    for name in ("notes.md", ".env.example", "app.py"):
        (message,) = [message for _, message in scanned(tmp_path, name, f"first\n{text}\n")]
        assert message == f"{what} stands here in clear"
        (tmp_path / "services" / "app" / name).unlink()


def test_code_and_examples_are_not_settings(tmp_path: Path) -> None:
    assert scanned(tmp_path, "program", "token = make_token()\nsecret=b64(x)\n") == []
    assert scanned(tmp_path, "app.py", "token = make_token()\npassword=password\n") == []
    assert scanned(tmp_path, "app.py", 'password = "hunter2hunter2"\n') == [(1, "password")]
    (tmp_path / "services/app/app.py").unlink()
    assert scanned(tmp_path, ".env.example", "DB_PASSWORD=dummy-value\n") == []
    (tmp_path / "services/app/.env.example").unlink()
    assert scanned(tmp_path, "config.json", '{"SaltAdmin": "aBcDeFgHiJ", "Port": 1}\n') == [(1, "SaltAdmin")]


def shown_as(name: str) -> str:
    """What stands in the place of a masked value."""
    return f"\u2039{name}\u203a"


PRIVATE = "-----BEGIN KEY-----\nAbCdEfGh12345678\nZyXwVuTs87654321\n-----END KEY-----\n"


@pytest.mark.parametrize(
    "shown",
    [
        "password: p\"ss'w $rd/+1",
        'password: "p\\"ss\'w $rd/+1"',
        "url=p%22ss%27w%20%24rd%2F%2B1",
        "form=p%22ss%27w+%24rd%2F%2B1",
        "html p&quot;ss&#x27;w $rd/+1",
        "auth " + base64.b64encode(b"p\"ss'w $rd/+1").decode(),
        "auth " + base64.b64encode(b"p\"ss'w $rd/+1").decode().rstrip("="),
        "sh 'p\"ss'\"'\"'w $rd/+1'",
        "compose p\"ss'w $$rd/+1",
    ],
)
def test_every_spelling_of_a_value_is_masked(shown: str) -> None:
    masked = Masker({"p\"ss'w $rd/+1": "DB_PASSWORD"}).mask(shown)
    assert shown_as("DB_PASSWORD") in masked
    assert "rd" not in masked.replace("DB_PASSWORD", "").replace("password", "")


def test_a_value_of_several_lines_is_masked_line_by_line() -> None:
    masker = Masker({PRIVATE: "TLS_KEY"})
    diff = "\n".join(f"+    {line}" for line in PRIVATE.splitlines())
    assert set(masker.mask(diff).split()) == {"+", shown_as("TLS_KEY")}


def test_a_value_inside_another_leaves_no_rest() -> None:
    masker = Masker({"abcd": "SHORT", "abcdefgh": "LONG"})
    assert masker.mask("x abcdefgh abcd") == f"x {shown_as('LONG')} {shown_as('SHORT')}"


def test_short_values_and_no_values_change_nothing() -> None:
    assert Masker({"abc": "A", "": "B"}).mask("abc def") == "abc def"
    assert Masker({}).mask("text") == "text"


def test_a_masker_shows_no_value() -> None:
    assert repr(Masker({"secret-value": "A", "other-value": "B"})) == "Masker(2 names)"


def test_random_values_are_masked_in_json_and_yaml(store: Store) -> None:
    store.ensure("app", SPECS)
    values = store.load("app")
    shown = json.dumps(values) + yaml.safe_dump(values)
    masked = Masker({value: name for name, value in values.items()}).mask(shown)
    assert all(value not in masked for value in values.values())
    assert masked.count(shown_as("DB_PASSWORD")) == 2
