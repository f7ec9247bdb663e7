"""Nextcloud's `occ`: `php occ COMMAND` in the stand-in's container ends here. It acts on the real state."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import nextcloud, nextcloud_store, php_config

Command = Callable[["Occ", list[str]], int]


class Occ:
    """One call. ``html`` is the installation it belongs to."""

    def __init__(self, html: Path) -> None:
        self.html = html
        self.path = html / "config/config.php"
        self.config: dict[str, Any] = php_config.read(self.path)

    @property
    def files(self) -> nextcloud_store.Files:
        return nextcloud_store.Files(self.config, self.html / "data")

    def save(self) -> None:
        php_config.write(self.path, self.config)


def status(occ: Occ, words: list[str]) -> int:
    found = nextcloud.status_of(occ.config, nextcloud.data_version(occ.html))
    print(
        json.dumps(found) if "--output=json" in words else nextcloud.as_text(found),
        end="\n" if "--output=json" in words else "",
    )
    return 0


def maintenance_mode(occ: Occ, words: list[str]) -> int:
    wanted = {"--on": True, "--off": False}.get(words[0] if words else "")
    now = bool(occ.config.get("maintenance"))
    if wanted is None:
        print(f"Maintenance mode is currently {'enabled' if now else 'disabled'}")
        return 0
    if wanted == now:
        print(f"Maintenance mode already {'enabled' if now else 'disabled'}")
        return 0
    occ.config["maintenance"] = wanted
    occ.save()
    print(f"Maintenance mode {'enabled' if wanted else 'disabled'}")
    return 0


def data_fingerprint(occ: Occ, words: list[str]) -> int:
    """Clients that see a new fingerprint know that the server went back in time."""
    occ.config["data-fingerprint"] = hashlib.md5(
        str(time.time_ns()).encode(), usedforsecurity=False
    ).hexdigest()
    occ.save()
    print(f"Updated data-fingerprint to {occ.config['data-fingerprint']}")
    return 0


def files_scan(occ: Occ, words: list[str]) -> int:
    users = occ.files.users() if "--all" in words else [word for word in words if not word.startswith("-")]
    if not users:
        print("Please specify the user id to scan, --all to scan for all users or --path=...")
        return 1
    total = {"files": 0, "new": 0, "updated": 0, "removed": 0}
    for number, user in enumerate(users, 1):
        print(f"Starting scan for user {number} out of {len(users)} ({user})")
        found = occ.files.scan(user)
        total = {key: value + found[key] for key, value in total.items()}
    print("".join(f"| {key.capitalize():<8}| {value}\n" for key, value in total.items()), end="")
    return 0


def repair(occ: Occ, words: list[str]) -> int:
    """Rows of storages that are no more go; rows without an etag get one."""
    with occ.files.transaction() as cursor:
        cursor.execute("DELETE FROM oc_filecache WHERE storage NOT IN (SELECT numeric_id FROM oc_storages)")
        print(f" - Repair invalid storages: {cursor.rowcount} entries removed")
        cursor.execute("UPDATE oc_filecache SET etag = md5(path) WHERE etag IS NULL OR etag = ''")
        print(f" - Repair missing etags: {cursor.rowcount} entries changed")
    return 0


def system_get(occ: Occ, words: list[str]) -> int:
    if not words or words[0] not in occ.config:
        return 1
    value = occ.config[words[0]]
    print(json.dumps(value) if "--output=json" in words or not isinstance(value, str) else value)
    return 0


def system_set(occ: Occ, words: list[str]) -> int:
    values = [word.removeprefix("--value=") for word in words if word.startswith("--value=")]
    if not words or not values:
        return 1
    occ.config[words[0]] = values[0]
    occ.save()
    print(f"System config value {words[0]} set to string {values[0]}")
    return 0


def user_list(occ: Occ, words: list[str]) -> int:
    users = {user: user for user in occ.files.users()}
    print(
        json.dumps(users) if "--output=json" in words else "\n".join(f"  - {user}: {user}" for user in users)
    )
    return 0


COMMANDS: dict[str, Command] = {
    "status": status,
    "maintenance:mode": maintenance_mode,
    "maintenance:data-fingerprint": data_fingerprint,
    "maintenance:repair": repair,
    "config:system:get": system_get,
    "config:system:set": system_set,
    "user:list": user_list,
    "files:scan": files_scan,
}
OF_APPS = {"files:scan"}  # not there in maintenance mode, when no apps are loaded


def main(arguments: list[str], html: Path) -> int:
    """Exit code of one call, as the real program gives it."""
    words = [word for word in arguments if word not in ("-n", "--no-interaction", "--no-ansi")]
    path = html / "config/config.php"
    if not path.exists():
        print("Nextcloud is not installed - only a limited number of commands are available")
        return 0 if words[:1] == ["status"] else 1
    if path.stat().st_uid != os.geteuid():
        print(
            "Console has to be executed with the user that owns the file config/config.php", file=sys.stderr
        )
        return 1
    name = words[0] if words else "list"
    occ = Occ(html)
    hidden = name in OF_APPS and bool(occ.config.get("maintenance"))
    if name not in COMMANDS or hidden:
        space = name.partition(":")[0]
        print(f'\n  There are no commands defined in the "{space}" namespace.\n', file=sys.stderr)
        return 1
    return COMMANDS[name](occ, words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(os.environ.get("STANDIN_ROOT", "/")) / nextcloud.HTML.lstrip("/")))
