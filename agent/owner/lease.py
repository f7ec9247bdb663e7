"""The freeze of a group: a lease in /var/lib/understudy/owner/freeze-GROUP.json that ends by itself.

It is counted by CLOCK_BOOTTIME. Whoever froze thaws; when it does not, a transient timer does (``understudy-thaw-GROUP``),
and when that is lost the guard's next look. After a reboot it begins anew, in full length: nobody can tell how long the
host was off, and a group that serves again before the batch arrives would lose what it was given (tests/model).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from ..disk import Disk
from ..root import Root
from .state import FOLDER, boot, boottime

__all__ = ["Freeze", "clear", "frozen_services", "load", "names", "save"]

_MARK = "freeze-"


@dataclass
class Freeze:
    """``stopped``: service to what of it ran and was stopped, Compose services or ["unit"]. ``until``: CLOCK_BOOTTIME.

    ``since``: the host's clock. ``servers``: its database servers were stopped too. ``id``: whose freeze it is, the
    switchover's word. ``seconds`` and ``boot``: its length, and the boot it is counted in.
    """

    group: str
    until: float
    since: float
    stopped: dict[str, list[str]] = field(default_factory=dict)
    servers: bool = False
    id: str = ""
    seconds: float = 0.0
    boot: float = 0.0
    rebooted: bool = False

    @property
    def left(self) -> float:
        """Seconds until it thaws itself."""
        return self.until - boottime()


def _path(group: str) -> str:
    return f"{FOLDER}/{_MARK}{group}.json"


def load(root: Root, group: str) -> Freeze | None:
    """The freeze of a group, over or not."""
    try:
        with open(root.at(_path(group)), encoding="utf-8") as stream:
            freeze = Freeze(**json.load(stream))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    began = boot(root)
    if freeze.boot != began:
        freeze.until, freeze.boot, freeze.rebooted = began + freeze.seconds, began, True
    return freeze


def save(disk: Disk, freeze: Freeze) -> None:
    """Hold it, durably, over reboots."""
    disk.private_dir(FOLDER)
    disk.replace(_path(freeze.group), json.dumps(asdict(freeze)).encode())


def clear(root: Root, group: str) -> None:
    """Nothing is frozen."""
    with suppress(FileNotFoundError):
        os.unlink(root.at(_path(group)))


def names(root: Root) -> list[str]:
    """Groups that are frozen."""
    folder = root.at(FOLDER)
    found = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(n[len(_MARK) : -5] for n in found if n.startswith(_MARK) and n.endswith(".json"))


def frozen_services(root: Root) -> list[str]:
    """Services that a freeze keeps stopped."""
    freezes = [load(root, group) for group in names(root)]
    return sorted({name for freeze in freezes if freeze for name in freeze.stopped})
