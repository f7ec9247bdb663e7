"""The key to the store of the lease: ``secrets/lease.yaml``, on the hosts that hold it and on the machine that watches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..protection.secrets import aws_file
from ..spec import SecretSpec
from ..tree import Entry, directory

__all__ = ["KEY", "KEY_ID", "OWNER", "PATH", "entries", "specs"]

OWNER = "lease"
KEY_ID, KEY = "LEASE_KEY_ID", "LEASE_KEY"
FOLDER = "/etc/understudy/secrets/lease"
PATH = f"{FOLDER}/aws"


def specs() -> dict[str, SecretSpec]:
    """Their declaration."""
    why = "of the hosts and the watcher at the store of the lease; it reads and writes there, and deletes nothing"
    return {
        KEY_ID: SecretSpec(generate="none", why=f"the key id {why}"),
        KEY: SecretSpec(generate="none", why=f"the key {why}"),
    }


def entries(values: Mapping[str, str]) -> Iterator[Entry]:
    """The file on the host."""
    yield directory(FOLDER, mode=0o700)
    yield Entry(PATH, mode=0o600, content=aws_file(values.get(KEY_ID, ""), values.get(KEY, "")).encode())
