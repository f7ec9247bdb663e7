"""`understudy restore SERVICE --here DIR`: onto this machine, straight from a repository, with the owner's keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from . import clock, owned
from .agent.data import plan as plans
from .cli_data import console
from .errors import BadInput
from .owned import Owned
from .repository import bring, view
from .repository.restic import AdminRepository, ResticError

__all__ = ["onto_this_machine"]


def onto_this_machine(
    services: Sequence[str],
    folder: str,
    inventory: str,
    limit: str,
    repository: str,
    snapshot: str,
    until: float | None,
    paths: Sequence[str],
    as_json: bool,
) -> None:
    """Restore each service below the folder. Raises UnderstudyError; what was brought before it stays."""
    if not services:
        raise BadInput("name the services to bring here: --all is for hosts")
    target = Path(folder)
    bring.empty(target)
    found = []
    for name in services:
        host, service = _described(inventory, limit, name)
        found.append(_brought(host, service, target / f".{name}", repository, snapshot, until, paths))
        (target / f".{name}" / name).rename(target / name)
        (target / f".{name}").rmdir()
        found[-1]["folder"] = str(target / name)
    if as_json:
        print(json.dumps(found))
        return
    for row in found:
        age = view.age(clock.now() - row["time"])
        Console(soft_wrap=True, highlight=False).print(
            f"{row['service']}: {row['files']} files, {row['bytes'] / 1e6:.1f} MB of snapshot {row['snapshot'][:8]} "
            f"({age} old, from {row['host']}), read back and compared: {row['folder']}"
        )


def _described(inventory: str, limit: str, name: str) -> tuple[Owned, plans.Service]:
    """The first host that keeps the service, and the service as its plan has it. Raises BadInput."""
    known: list[str] = []
    for one in owned.hosts(inventory, limit):
        plan = plans.parse(one.plan)
        if name in plan.services:
            return one, plan.services[name]
        known += plan.services
    raise BadInput(f"there is no service {name!r} with data; known: {', '.join(sorted(set(known)))}")


def _brought(
    host: Owned,
    service: plans.Service,
    folder: Path,
    repository: str,
    snapshot: str,
    until: float | None,
    paths: Sequence[str],
) -> dict[str, Any]:
    """From the first repository that answers. Raises the last one's error."""
    mine: list[AdminRepository] = [one for one in host.repositories(repository) if one.group == service.group]
    if not mine:
        raise BadInput(f"this machine can open no repository of {service.name} (a disk is read by its host)")
    for number, one in enumerate(mine):
        try:
            return bring.bring(one, service, folder, paths, snapshot, until)
        except ResticError as error:
            if number + 1 == len(mine):
                raise
            console.print(f"{error}; trying the next repository", markup=False)
    raise AssertionError("unreachable")
