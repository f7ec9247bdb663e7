"""A REST server as a NAS offers one: append-only for hosts, and a second address for the owner, who may delete."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from lab import tools
from lab.storage.daemons import Daemon
from lab.storage.place import ADMIN, LOOPBACK, Keys, Place, answers, write_private

HOST_PORT, ADMIN_PORT = 10, 11
REST = "rest"


def htpasswd(passwords: dict[str, str]) -> str:
    """The password file; SHA1 because each request is checked anew, and these passwords are random anyway."""
    lines = [f"{user}:{{SHA}}{_digest(password)}\n" for user, password in sorted(passwords.items())]
    return "".join(lines)


def _digest(password: str) -> str:
    return base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()  # noqa: S324


def command(place: Place, port: int, data: Path, passwords: Path, *, append_only: bool) -> list[str]:
    """The command line; several servers share the data, so none may remember what it listed."""
    limits = ["--append-only", "--private-repos"] if append_only else []
    return [
        str(tools.rclone()), "--config=", "serve", "restic", str(data),
        "--addr", f"{LOOPBACK}:{place.port(port)}", "--htpasswd", str(passwords),
        "--cache-objects=false", *limits,
    ]  # fmt: skip


def daemons(place: Place, keys: Keys) -> list[Daemon]:
    """Both servers as background programs."""
    data = place.folder / REST
    data.mkdir(exist_ok=True)
    found = []
    for name, port, users in (
        ("rest", HOST_PORT, {user: word for user, word in keys.rest.items() if user != ADMIN}),
        ("rest-admin", ADMIN_PORT, {ADMIN: keys.rest[ADMIN]}),
    ):
        passwords = place.folder / f"{name}.htpasswd"
        write_private(passwords, htpasswd(users))
        argv = command(place, port, data, passwords, append_only=name == "rest")

        def ready(number: int = place.port(port)) -> bool:
            return answers(LOOPBACK, number)

        found.append(Daemon(name, place.folder, argv, ready, (passwords,)))
    return found
