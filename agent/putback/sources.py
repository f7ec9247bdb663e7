"""Where a service's mounts lie on this host; volumes are made when they are not there yet."""

from __future__ import annotations

from ..data import stage
from ..data.plan import Mount, Service
from ..errors import AgentError
from . import running
from .places import KEPT

__all__ = ["make_volumes", "source_of"]


def source_of(mount: Mount) -> str:
    """The host path of a mount. Raises AgentError kind "no-volume" for a volume that does not exist."""
    found = stage.source_of(mount)
    if found is None:
        raise AgentError(f"the volume {mount.source} does not exist on this host", "no-volume")
    return found


def make_volumes(service: Service) -> list[str]:
    """Have Compose make the volumes that a restore fills. Returns those that were missing."""
    wanted = [mount for mount in service.mounts if mount.kind == "volume" and mount.class_ in KEPT]
    missing = [mount.source for mount in wanted if stage.source_of(mount) is None]
    if missing:
        running.volumes(service, missing)
    return missing
