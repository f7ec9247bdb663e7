"""What a snapshot does not hold but an exchange must not take away: media, what is not kept, servers' own files."""

from __future__ import annotations

import os

from ..data.patterns import matches
from ..data.plan import Mount, Plan, Service
from ..root import Root
from .globs import reaches
from .places import KEPT, Layout, resolve, server_mounts
from .target import Target, ours

__all__ = ["carried", "excluded"]

_NOT_HELD = ("media", "none", "shared")


def carried(root: Root, plan: Plan, found: Layout, target: Target) -> list[str]:
    """Paths below ``target.live`` that exist and move on into the new content; none lies in another."""
    if target.only or not os.path.isdir(root.at(target.live)):
        return []
    paths = set(_of_rules(root, found, target)) | set(_of_mounts(root, plan, found, target))
    free = {path for path in paths if path.split("/")[0] not in target.keep}
    return sorted(path for path in free if not any(path.startswith(f"{other}/") for other in free))


def excluded(service: Service) -> list[tuple[str, str]]:
    """(mount key, pattern) of the rules whose content is in no snapshot and stays as it is."""
    return [
        (mount.key, rule.path)
        for mount in service.mounts
        if mount.class_ in KEPT
        for rule in mount.rules
        if rule.class_ in _NOT_HELD
    ]


def _of_rules(root: Root, found: Layout, target: Target) -> list[str]:
    paths: list[str] = []
    for key, pattern in excluded(found.service):
        live = found.lives.get(key)
        if live is None or not (live == target.live or live.startswith(f"{target.live}/")):
            continue
        prefix = live[len(target.live) + 1 :]
        paths += [os.path.join(prefix, path) for path in _matching(root.at(live), pattern)]
    return paths


def _matching(real: str, pattern: str) -> list[str]:
    """Paths below a folder that a pattern names, not looking into one that it names."""
    found, todo = [], [""]
    while todo:
        folder = todo.pop()
        try:
            entries = list(os.scandir(os.path.join(real, folder)))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if not folder and ours(entry.name):
                continue
            if matches(pattern, path):
                found.append(path)
            elif entry.is_dir(follow_symlinks=False) and reaches(pattern, path):
                todo.append(path)
    return found


def _of_mounts(root: Root, plan: Plan, found: Layout, target: Target) -> list[str]:
    servers = server_mounts(plan.services.values())
    mine_too = set(found.lives.values())
    paths = []
    for service in plan.services.values():
        for mount in service.mounts:
            own = service.name == found.service.name and mount.class_ in (*KEPT, "cache")
            if own and (service.name, mount.key) not in servers:
                continue
            live = _known(root, mount)
            if live not in mine_too and live.startswith(f"{target.live}/") and os.path.lexists(root.at(live)):
                paths.append(live[len(target.live) + 1 :])
    return paths


def _known(root: Root, mount: Mount) -> str:
    # Volumes never lie inside a folder that a service mounts; only binds can.
    return resolve(root, mount.source) if mount.kind == "bind" else ""
