"""Where the stores of one lab listen, and the secrets they know, made once and kept in the lab's state folder."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.shell import LabError
from lab.storage.s3 import Key

FIRST_PORT, BLOCK, BLOCKS = 20000, 20, 600  # below the ports that connections get by themselves
LOOPBACK = "127.0.0.1"
ADMIN, READER = "admin", "reader"


@dataclass(frozen=True)
class Place:
    """The stores' folder, the address hosts reach them at, and the first of their 20 ports."""

    folder: Path
    outside: str
    first_port: int

    def port(self, number: int) -> int:
        return self.first_port + number


def find_place(folder: Path, outside: str) -> Place:
    """The place with the ports noted in the folder, or free ones, noted from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "first-port"
    if not note.exists():
        start = int(hashlib.sha256(str(folder).encode()).hexdigest(), 16)
        candidates = (FIRST_PORT + (start + step) % BLOCKS * BLOCK for step in range(BLOCKS))
        write_private(note, str(first_free(candidates)))
    return Place(folder, outside, int(note.read_text()))


def first_free(candidates: Iterable[int]) -> int:
    """The first candidate from which on 20 ports are free."""
    for candidate in candidates:
        if all(port_free(candidate + number) for number in range(BLOCK)):
            return candidate
    raise LabError("no ports are free for the lab's stores")


def port_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def answers(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all; an equal one is left alone."""
    if path.exists() and path.read_text() == text:
        return
    unfinished = path.with_name(path.name + ".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    os.replace(unfinished, path)


@dataclass(frozen=True)
class Keys:
    """The lab's store secrets: S3 keys and REST passwords by owner, restic passwords by repository."""

    s3: dict[str, Key]
    rest: dict[str, str]
    restic: dict[str, str]


def load_keys(folder: Path, hosts: Iterable[str], repositories: Iterable[str]) -> Keys:
    """The secrets noted in the folder, with new ones for hosts and repositories that have none."""
    note = folder / "keys.json"
    kept = json.loads(note.read_text()) if note.exists() else {"s3": {}, "rest": {}, "restic": {}}
    owners = [ADMIN, READER, *hosts]
    for owner in owners:
        kept["s3"].setdefault(
            owner, {"key_id": secrets.token_hex(10).upper(), "secret": secrets.token_hex(20)}
        )
        kept["rest"].setdefault(owner, secrets.token_hex(16))
    for name in repositories:
        kept["restic"].setdefault(name, secrets.token_hex(16))
    folder.mkdir(parents=True, exist_ok=True)
    write_private(note, json.dumps(kept, indent=2) + "\n")
    keys = {owner: Key(owner, **pair) for owner, pair in kept["s3"].items()}
    return Keys(keys, kept["rest"], kept["restic"])
