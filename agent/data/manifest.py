"""manifest.json of a service: what a restore needs to know beyond the files. No times stand in it: idle is idle."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import stat
from collections.abc import Iterable
from typing import Any

from ..disk import Disk
from ..root import Root
from . import stage
from .plan import Service
from .tree import Tree

__all__ = ["FORMAT", "build", "keep", "read"]

FORMAT = 1
NAME = "manifest.json"


def build(
    root: Root,
    host: str,
    service: Service,
    raw: dict[str, Any],
    images: dict[str, dict[str, str]],
    databases: dict[str, dict[str, Any]],
    sources: dict[str, str],
    tree: Tree,
) -> dict[str, Any]:
    """The manifest (contents in the order of the design).

    ``raw`` is the service's entry in the plan as it was rendered, ``databases`` the facts of its dumps by name,
    ``sources`` the host paths of its mounts by key, ``tree`` what the walk saw.
    """
    mounts = {
        m.key: {
            "kind": m.kind,
            "source": m.source,
            "owner": _owner(root, sources.get(m.key)),
            "class": m.class_,
        }
        for m in service.mounts
    }
    whole = {f"{m.key}": mounts[m.key]["owner"] for m in service.mounts if m.class_ == "cache"}
    caches = {**tree.caches, **{key: owner for key, owner in whole.items() if owner}}
    return {
        "format": FORMAT,
        "service": service.name,
        "host": host,
        "group": service.group,
        "tier": service.tier,
        "images": images,
        "plan": raw,
        "databases": databases,
        "mounts": mounts,
        "caches": [{"path": f"data/{path}", "owner": owner} for path, owner in sorted(caches.items())],
        "owners": _names(tree, [mount["owner"] for mount in mounts.values()], databases),
    }


def _owner(root: Root, source: str | None) -> list[int] | None:
    """[uid, gid, mode] of a source; None when it is not there."""
    if source is None:
        return None
    try:
        info = os.stat(root.at(source))
    except OSError:
        return None
    return [info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)]


def _names(
    tree: Tree, owners: Iterable[Any], databases: dict[str, dict[str, Any]]
) -> dict[str, dict[str, str]]:
    """The names of numbers on this host, so that another one can say which of its users they would meet."""
    more = [owner for owner in (*owners, *(d.get("owner") for d in databases.values())) if owner]
    uids = sorted(tree.uids | {owner[0] for owner in more})
    gids = sorted(tree.gids | {owner[1] for owner in more})
    users, groups = {}, {}
    for uid in uids:
        with contextlib.suppress(KeyError):
            users[str(uid)] = pwd.getpwuid(uid).pw_name
    for gid in gids:
        with contextlib.suppress(KeyError):
            groups[str(gid)] = grp.getgrgid(gid).gr_name
    return {"uid": users, "gid": groups}


def keep(disk: Disk, service: Service, manifest: dict[str, Any]) -> bool:
    """Write it to the stage if its content changed. Returns whether it did."""
    path = f"{stage.folder(service.group, service.name)}/{NAME}"
    content = json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"
    try:
        with open(disk.root.at(path), "rb") as stream:
            if stream.read() == content:
                return False
    except FileNotFoundError:
        pass
    disk.replace(path, content)
    return True


def read(path: str) -> dict[str, Any]:
    """A manifest from a real path. Raises OSError, ValueError."""
    with open(path, encoding="utf-8") as stream:
        found: dict[str, Any] = json.load(stream)
    if found.get("format") != FORMAT:
        raise ValueError(f"{path} is a manifest of another version")
    return found
