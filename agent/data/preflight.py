"""What must hold before a service is touched: its sources are there, mounted and readable, and there is room."""

from __future__ import annotations

import os

from .. import mounts
from ..errors import AgentError, because
from ..root import STATE, Root
from . import stage
from .plan import Service

__all__ = ["RESERVE", "fits", "mounted", "room", "sources"]

RESERVE = 64 << 20


def sources(root: Root, service: Service) -> dict[str, str]:
    """Mount key to host path of every source that is there. Raises AgentError for a required one that is not.

    A source that is only an empty mount point counts as missing where the plan says what must be mounted there.
    """
    mounted(root, service)
    found: dict[str, str] = {}
    kept = {mount.key for mount in stage.bound(service)}
    for mount in service.mounts:
        matters = mount.key in kept
        source = stage.source_of(mount)
        if source is not None and os.path.exists(root.at(source)):
            _readable(root, service, source)
            found[mount.key] = source
        elif mount.required and matters:
            what = "volume" if mount.kind == "volume" else "folder or file"
            raise AgentError(f"{service.name}: the {what} {mount.source} is missing", "source")
    return found


def mounted(root: Root, service: Service) -> None:
    """Raise AgentError when a disk that one of its kept mounts lies on is not there: what shows is the folder below it."""
    points = mounts.points(root)
    kept = {mount.key for mount in stage.bound(service)} | {d.data_mount for d in service.databases}
    for mount in service.mounts:
        if mount.key in kept and mount.mounted_at and mount.mounted_at not in points:
            raise AgentError(
                f"{service.name}: {mount.mounted_at} is not mounted, so {mount.source} is not what it should be",
                "source",
            )


def _readable(root: Root, service: Service, source: str) -> None:
    real = root.at(source)
    try:
        if os.path.isdir(real):
            with os.scandir(real) as entries:
                next(entries, None)
        else:
            os.close(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        raise AgentError(f"{service.name}: {source} cannot be read: {because(error)}", "source") from error


def room(root: Root, service: str, last: int) -> None:
    """Raise AgentError kind "space" unless twice the last dumps fit beside what is kept. ``last`` in bytes."""
    free, need = _free(root), 2 * last + RESERVE
    if free < need:
        sizes = f"{free / 1e6:.0f} MB free, {need / 1e6:.0f} MB needed"
        raise AgentError(f"{service}: no room for its dumps in {STATE}: {sizes}", "space")


def fits(root: Root, last: int) -> bool:
    """Whether twice ``last`` bytes of dumps have room at once."""
    return _free(root) >= 2 * last + RESERVE


def _free(root: Root) -> int:
    disk = os.statvfs(root.at(STATE))
    return disk.f_bavail * disk.f_frsize
