"""Declarations and helpers the tests of secrets share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from understudy.faults import Fault
from understudy.secrets import Store, sops
from understudy.spec import SecretSpec

PASSWORD = SecretSpec(generate="alnum32")
OWN = SecretSpec(why="from the provider's console")
SPECS = {"DB_PASSWORD": PASSWORD, "SALT": SecretSpec(generate="base64-32"), "API_KEY": OWN}


def fresh(store: Store) -> Store:
    """The same folder without anything kept in memory."""
    return Store(store.folder)


def put(store: Store, service: str, values: Mapping[str, object], kind: str = "json") -> Path:
    """Write a real SOPS file, by sops itself."""
    path = store.path(service)
    config = store.folder.parent / ".sops.yaml"
    path.write_bytes(sops.encrypt(path, json.dumps(values).encode(), config, kind))
    return path


def said(faults: list[Fault]) -> list[tuple[str, str, str]]:
    return [(fault.grade, fault.key, fault.message) for fault in faults]
