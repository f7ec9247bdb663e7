"""Where a service's mounts lie on this host; volumes are made when they are not there yet."""

from __future__ import annotations

import os

from .. import mounts
from ..data import stage
from ..data.plan import Mount, Service
from ..errors import AgentError
from ..root import Root
from . import running
from .places import KEPT

__all__ = ["make_parents", "make_volumes", "source_of"]


def source_of(mount: Mount) -> str:
    """The host path of a mount. Raises AgentError kind "no-volume" for a volume that does not exist."""
    found = stage.source_of(mount)
    if found is None:
        raise AgentError(f"the volume {mount.source} does not exist on this host", "no-volume")
    return found


def make_parents(root: Root, service: Service) -> list[str]:
    """Make the folders above binds that no container has been started for yet, as Docker would. Returns them.

    Raises AgentError where a disk that belongs there is not mounted.
    """
    points, made = mounts.points(root), []
    for mount in service.mounts:
        above = os.path.dirname(mount.source)
        if mount.kind != "bind" or mount.class_ not in KEPT or os.path.isdir(root.at(above)):
            continue
        if mount.mounted_at and mount.mounted_at not in points:
            raise AgentError(
                f"{service.name}: {mount.mounted_at} is not mounted; nothing was changed", "source"
            )
        os.makedirs(root.at(above), mode=0o755)
        made.append(above)
    return made


def make_volumes(service: Service) -> list[str]:
    """Have Compose make the volumes that a restore fills. Returns those that were missing."""
    wanted = [mount for mount in service.mounts if mount.kind == "volume" and mount.class_ in KEPT]
    missing = [mount.source for mount in wanted if stage.source_of(mount) is None]
    if missing:
        running.volumes(service, missing)
    return missing
