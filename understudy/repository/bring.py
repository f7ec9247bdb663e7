"""Data of a service onto this machine, with the owner's keys: no host is asked, so it works when every host is gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..agent.data import patterns
from ..agent.data.plan import Service
from ..agent.putback import scratch
from ..agent.repo.snapshots import Snapshot
from ..errors import BadInput, Refused
from . import listing
from .restic import AdminRepository, opened

__all__ = ["arguments", "bring", "choose", "empty"]

_TIMEOUT = 12 * 3600.0


def choose(found: Iterable[Snapshot], service: str, wanted: str = "", until: float | None = None) -> Snapshot:
    """The snapshot by the beginning of its id, or the newest by (epoch, seq) with the service in it, not after ``until``.

    Raises BadInput when there is none.
    """
    holding = [one for one in found if service in one.services and (until is None or one.time <= until)]
    if wanted:
        holding = [one for one in holding if one.id.startswith(wanted)]
    if not holding:
        which = f" {wanted}" if wanted else ""
        when = " that is old enough" if until is not None else ""
        raise BadInput(
            f"no snapshot{which}{when} holds {service}: `understudy snapshots {service}` lists what there is"
        )
    return max(holding, key=lambda one: (one.order, one.time))


def arguments(snapshot: Snapshot, service: Service, paths: Sequence[str], folder: Path) -> list[str]:
    """restic's arguments; all of the service, or what ``paths`` name as `restore --path` takes them. Raises BadInput."""
    wanted = scratch.included(service, tuple(paths)) if paths else [f"/{patterns.escaped(service.name)}"]
    if not wanted:
        raise BadInput(
            f"no mount of {service.name} holds {paths[0]}: paths are CONTAINER:/path/in/it, with * and **"
        )
    includes = [word for pattern in wanted for word in ("--include", pattern)]
    return ["restore", snapshot.id, "--target", str(folder), "--verify", "--json", *includes]


def empty(folder: Path) -> None:
    """Raises Refused unless the folder is new or empty: nothing of the owner's is written over."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused(f"{folder} is there already and not empty: name a new folder; nothing was written")


def bring(
    repository: AdminRepository,
    service: Service,
    folder: Path,
    paths: Sequence[str] = (),
    wanted: str = "",
    until: float | None = None,
) -> dict[str, Any]:
    """Restore into ``folder``/SERVICE and read every file back. Raises Refused, BadInput or ResticError.

    Returns {"service", "snapshot", "time", "host", "files", "bytes", "folder"}.
    """
    empty(folder)
    with opened(repository) as session:
        chosen = choose(listing.listed(session).snapshots, service.name, wanted, until)
        argv = arguments(chosen, service, paths, folder)
        summary = session.run(argv, _TIMEOUT).summary
    files = sum(path.is_file() for path in folder.rglob("*")) if folder.is_dir() else 0
    if not files:
        what = (
            f" matches {', '.join(paths)}"
            if paths
            else f": look at it with `understudy snapshots {service.name}`"
        )
        raise BadInput(f"nothing of {service.name} in snapshot {chosen.id[:8]}{what}")
    return {
        "service": service.name, "snapshot": chosen.id, "time": chosen.time, "host": chosen.host, "files": files,
        "bytes": summary.get("bytes_restored", 0), "folder": str(folder / service.name),
    }  # fmt: skip
