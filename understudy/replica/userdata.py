"""The first words a replica hears: cloud-init's user_data, with nothing secret in it but a host key used once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from ..errors import UnderstudyError
from ..jinja import render
from .identity import HostKey
from .labels import digest

MOST = 32 * 1024
TEMPLATE = "cloud-init/replica.yaml.j2"
HEADER = "#cloud-config\n"
HOST_KEY = re.compile(r"^(ecdsa|ed25519|rsa)_(public|private|certificate)$")
SHAPES: Mapping[str, type | tuple[type, ...]] = {
    "hostname": str,
    "manage_etc_hosts": (bool, str),
    "timezone": str,
    "users": list,
    "disable_root": bool,
    "ssh_pwauth": bool,
    "ssh_deletekeys": bool,
    "ssh_keys": dict,
    "ssh_publish_hostkeys": dict,
    "no_ssh_fingerprints": bool,
    "package_update": bool,
    "package_upgrade": bool,
    "packages": list,
    "runcmd": list,
    "write_files": list,
}
"""What the template may use: a key of cloud-init that is not here has not been thought about."""


def user_data(name: str, user: str, login_keys: list[str], host_key: HostKey) -> str:
    """The text for a server called ``name`` that lets ``login_keys`` in as ``user``."""
    text = render(TEMPLATE, name=name, user=user, login_keys=login_keys, host_key=host_key)
    check(text)
    return text


def hash_of(name: str, user: str, login_keys: list[str]) -> str:
    """Changes when a server made now would be told something else; the host key is new every time anyway."""
    same = HostKey("-----BEGIN OPENSSH PRIVATE KEY-----\n", "ssh-ed25519 AAAA none")
    return digest(render(TEMPLATE, name=name, user=user, login_keys=login_keys, host_key=same))


def check(text: str) -> None:
    """Refuse what cloud-init would ignore or misread. The published schema is checked by the tests."""
    if len(text.encode()) > MOST:
        raise UnderstudyError(
            f"the replica's cloud-init has {len(text.encode())} bytes and Hetzner takes {MOST}: "
            "give fewer or shorter SSH keys"
        )
    if not text.startswith(HEADER):
        raise UnderstudyError(
            "the replica's cloud-init does not begin with #cloud-config: it would be ignored"
        )
    _check_keys(yaml.safe_load(text))


def _check_keys(found: Any) -> None:
    if not isinstance(found, dict):
        raise UnderstudyError("the replica's cloud-init is not a mapping: it would be ignored")
    for key, value in found.items():
        shape = SHAPES.get(key)
        if shape is None or not isinstance(value, shape):
            raise UnderstudyError(
                f"the replica's cloud-init has {key} in a form that it would not understand"
            )
    wrong = [key for key in found.get("ssh_keys", {}) if not HOST_KEY.match(key)]
    if wrong:
        raise UnderstudyError(
            f"the replica's cloud-init has ssh_keys.{wrong[0]}, which it would not understand"
        )
