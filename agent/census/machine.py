"""The machine itself: its system, people, disks, and what of ours is on it already."""

from __future__ import annotations

import json
import os
import pwd
from typing import Any

from ..mounts import mounted
from ..root import Root
from ..storage import disks
from ..system import READERS

__all__ = ["people", "plan", "read"]

_PLAN = "/etc/understudy/backup.json"


def people(root: Root) -> list[dict[str, Any]]:
    """Accounts of persons, and root: {"name", "home", "uid"}."""
    found: list[dict[str, Any]] = [{"name": "root", "home": "/root", "uid": 0}]
    for entry in pwd.getpwall():
        if 1000 <= entry.pw_uid < 60000 and os.path.isdir(root.at(entry.pw_dir)):
            found.append({"name": entry.pw_name, "home": entry.pw_dir, "uid": entry.pw_uid})
    return found


def read(root: Root) -> dict[str, Any]:
    """{"os", "people", "memory_bytes", "disks", "mounts"}."""
    shown = [
        m
        for m in mounted()
        if m.source.startswith("/dev/") or m.fstype in ("nfs", "nfs4", "cifs", "zfs", "btrfs")
    ]
    return {
        "os": READERS["os"](),
        "memory_bytes": READERS["memory_bytes"](),
        "people": people(root),
        "disks": disks([]),
        "mounts": [
            {"point": m.point, "source": m.source, "fstype": m.fstype, "device": m.device} for m in shown
        ],
    }


def plan(root: Root) -> dict[str, Any] | None:
    """Our own protection plan on this host in short; None where there is none."""
    try:
        with open(root.at(_PLAN), encoding="utf-8") as stream:
            found = json.load(stream)
    except FileNotFoundError:
        return None
    services = found.get("services") or {}
    return {
        "repositories": sorted(found.get("repositories") or {}),
        "places": [
            {"kind": mount["kind"], "source": mount["source"], "class": mount["class"]}
            for service in services.values()
            for mount in service.get("mounts") or []
        ],
        "config": sorted({path for service in services.values() for path in service.get("config") or []}),
        "databases": [
            {key: database.get(key) for key in ("kind", "project", "container", "database")}
            for service in services.values()
            for database in service.get("databases") or []
        ],
    }
