"""What restic is asked, as argument lists: pure, so that a test can hold each one to the letter.

None names a repository or a password: those come through files that the environment names.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Backup",
    "backup",
    "check",
    "copy",
    "find",
    "index",
    "indexes",
    "init",
    "lock",
    "locks",
    "probe",
    "snapshots",
    "unlock",
    "walk",
]

_RETRY_LOCK = "5m"


@dataclass(frozen=True)
class Backup:
    """One run: the services that are good, and what readers order snapshots by.

    ``parent`` is a full snapshot id or ""; ``excludes`` a file of patterns; ``at`` seconds since the epoch. ``base``: the

    snapshot that this epoch began from, HOST:EPOCH:SEQ (agent/owner/accept.py), "" for the first.
    """

    host: str
    group: str
    tier: str
    epoch: int
    seq: int
    services: tuple[str, ...]
    failed: tuple[str, ...] = ()
    parent: str = ""
    excludes: str = ""
    at: float | None = None
    base: str = ""

    @property
    def tags(self) -> list[str]:
        """The tags of the snapshot; readers parse exactly these."""
        return [
            "understudy",
            f"group:{self.group}",
            f"tier:{self.tier}",
            f"epoch:{self.epoch}",
            f"seq:{self.seq}",
            *([f"base:{self.base}"] if self.base else []),
            *(f"service:{name}" for name in self.services),
            *(f"failed:{name}" for name in self.failed),
        ]


def backup(wanted: Backup) -> list[str]:
    """To be run with the group's stage as working folder, so that a tree begins with the services' names.

    Verbose, as only then each item is named and services can be counted apart; no scan, as nobody waits for a
    percentage and it would walk everything twice.
    """
    argv = ["backup", "--json", "--verbose=2", "--no-scan", "--host", wanted.host]
    for tag in wanted.tags:
        argv += ["--tag", tag]
    if wanted.parent:
        argv += ["--parent", wanted.parent]
    argv += ["--retry-lock", _RETRY_LOCK]
    if wanted.excludes:
        argv += ["--exclude-file", wanted.excludes]
    if wanted.at is not None:
        # restic reads it in local time; its environment says that this is UTC.
        argv += ["--time", time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(wanted.at))]
    return [*argv, "--", *wanted.services]


def snapshots(no_lock: bool = True) -> list[str]:
    """All snapshots of the repository, as one JSON list."""
    return ["snapshots", "--json", *(["--no-lock"] if no_lock else [])]


def probe() -> list[str]:
    """The cheapest question that only a repository with our password answers."""
    return ["cat", "config", "--json", "--no-lock"]


def init(source: tuple[str, str] | None = None) -> list[str]:
    """A new repository. ``source``: repository file and password file of the one it will be filled from.

    The same cutting of files in both is what keeps copies small.
    """
    argv = ["init", "--json", "--repository-version", "2"]
    return [*argv, "--copy-chunker-params", *_source(*source)] if source else argv


def copy(source: tuple[str, str], ids: Sequence[str]) -> list[str]:
    """Copy these snapshots from the repository that the two files name."""
    return ["copy", "--json", *_source(*source), "--retry-lock", _RETRY_LOCK, "--", *ids]


def unlock() -> list[str]:
    """Take away the locks of this host name whose process does not exist, and anybody's that are half an hour old.

    Only ever alone in a process namespace: restic sends SIGHUP to each process that it asks for.
    """
    return ["unlock"]


def locks() -> list[str]:
    """The ids of all locks."""
    return ["list", "locks", "--no-lock"]


def lock(which: str) -> list[str]:
    """One lock: who, since when."""
    return ["cat", "lock", which, "--no-lock"]


def check(part: int, parts: int) -> list[str]:
    """The structure, and the data of one part of all packs. Takes no lock: a backup may run meanwhile."""
    return ["check", "--json", "--no-lock", f"--read-data-subset={part}/{parts}"]


def find(kind: str, ids: Sequence[str], among: Sequence[str]) -> list[str]:
    """Which files of these snapshots lie in these packs (kind "pack") or hold these pieces ("blob").

    Without the cache: it holds whole copies of what the store has damaged.
    """
    argv = ["find", "--json", "--no-lock", "--no-cache", f"--{kind}"]
    for snapshot in among:
        argv += ["--snapshot", snapshot]
    return [*argv, "--", *ids]


def indexes() -> list[str]:
    """The ids of all index files, one a line."""
    return ["list", "index", "--no-lock", "--no-cache"]


def index(which: str) -> list[str]:
    """One index file: {"packs": [{"id", "blobs": [{"id", "type": "data" | "tree", ...}]}]}."""
    return ["cat", "index", which, "--no-lock", "--no-cache"]


def walk(snapshot: str, service: str) -> list[str]:
    """Read every folder of a service in a snapshot, from the store itself."""
    return ["ls", "--json", "--no-lock", "--no-cache", "--recursive", f"{snapshot}:/{service}"]


def _source(repository_file: str, password_file: str) -> list[str]:
    return ["--from-repository-file", repository_file, "--from-password-file", password_file]
