"""What a new replica is told: a form that cloud-init's published schema accepts, and nothing secret but one key."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from understudy.errors import UnderstudyError
from understudy.replica import identity, userdata

from .test_contract import SPECS, needs_specs

KEYS = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVuZGVyc3R1ZHk= "odd: # comment"']


def rendered(user: str = "root") -> str:
    return userdata.user_data("replica", user, KEYS, identity.new_key("replica"))


@needs_specs
@pytest.mark.parametrize("user", ["root", "ops"])
def test_the_published_schema_accepts_it(user: str) -> None:
    assert SPECS
    schema = json.loads((SPECS / "cloud-init-schema-cloud-config-v1.json").read_text())
    jsonschema.Draft4Validator(schema).validate(yaml.safe_load(rendered(user)))


@pytest.mark.parametrize("user", ["root", "ops"])
def test_logins_and_keys(user: str) -> None:
    found = yaml.safe_load(rendered(user))
    assert found["users"][0]["name"] == user and found["users"][0]["lock_passwd"] is True
    assert found["users"][0]["ssh_authorized_keys"] == KEYS
    assert found["disable_root"] is (user != "root")
    assert found["ssh_pwauth"] is False and list(found["ssh_keys"]) == ["ed25519_private", "ed25519_public"]


def test_the_private_half_belongs_to_the_public_one(tmp_path: Path) -> None:
    found = yaml.safe_load(rendered())["ssh_keys"]
    key = tmp_path / "key"
    key.write_text(found["ed25519_private"])
    key.chmod(0o600)
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(key)], capture_output=True, text=True, check=True
    ).stdout
    assert public.split()[:2] == found["ed25519_public"].split()[:2]


def test_two_servers_never_share_a_host_key_and_the_hash_does_not_depend_on_it() -> None:
    assert rendered() != rendered()
    assert userdata.hash_of("replica", "root", KEYS) == userdata.hash_of("replica", "root", KEYS)
    assert userdata.hash_of("replica", "root", KEYS) != userdata.hash_of("replica", "ops", KEYS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("users: []\n", "does not begin with #cloud-config"),
        ("#cloud-config\n- a\n", "not a mapping"),
        ("#cloud-config\nusers: nobody\n", "has users in a form"),
        ("#cloud-config\nrun_cmd: []\n", "has run_cmd in a form"),
        ("#cloud-config\nssh_keys: {dsa_private: x}\n", "ssh_keys.dsa_private"),
        ("#cloud-config\n# " + "x" * 33000, "Hetzner takes 32768"),
    ],
)
def test_what_cloud_init_would_not_understand_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(UnderstudyError, match=sentence):
        userdata.check(text)


def test_too_many_login_keys_are_said() -> None:
    with pytest.raises(UnderstudyError, match="fewer or shorter SSH keys"):
        userdata.user_data("replica", "root", KEYS * 700, identity.new_key("replica"))


def test_a_fingerprint_fits_into_a_label() -> None:
    key = identity.new_key("x")
    found = identity.mark(identity.blob(key.public))
    assert len(found) == 52 and found.isalnum()
    raw = base64.b32decode(found.upper() + "====")
    assert raw == hashlib.sha256(identity.blob(key.public)).digest()
