"""One project: where its description lies, and what each of its hosts should be.

A project is a folder with ``services/``, ``secrets/``, ``group_data/`` and ``inventory/``; this
repository is one (the worked example), `understudy init` writes others.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pyinfra.api.host import Host

from .catalog import Catalog, Source, load_catalog
from .desired import Desired
from .errors import BadInput
from .render import declared_secrets, desired
from .secrets import Store
from .settings import HostSettings, settings_of
from .traffic import tokens


def root() -> Path:
    """The project's folder: the working directory, as for pyinfra itself."""
    return Path.cwd()


def _absolute(path: Path) -> Path:
    return path if path.is_absolute() else root() / path


@cache
def _catalog(
    folder: Path,
    overlays: tuple[Path, ...],
    variables: tuple[tuple[str, str], ...],
    stack_root: str,
    strict: bool,
) -> Catalog:
    return load_catalog(Source(folder, overlays, dict(variables), stack_root), strict)


def catalog_for(settings: HostSettings, strict: bool = False) -> Catalog:
    """The catalogue as this host's variables and overlays make it. Raises CatalogError."""
    overlays = tuple(_absolute(path) for path in settings.overlays)
    variables = tuple(sorted(settings.all_variables().items()))
    return _catalog(_absolute(settings.services_dir), overlays, variables, settings.stack_root, strict)


@cache
def _store(folder: Path) -> Store:
    return Store(folder)


def store_of(settings: HostSettings) -> Store:
    """The secrets of this host's project; what was decrypted is kept for this process."""
    return _store(_absolute(settings.secrets_dir))


def secrets_for(settings: HostSettings, catalog: Catalog) -> dict[str, dict[str, str]]:
    """The secrets of the services placed on this host: service to name to value.

    A random value that is needed for the first time is made here and kept in its SOPS file.
    """
    declared = declared_secrets(catalog, settings)
    store = store_of(settings)
    if any(declared.values()):
        store.ensure_all(declared)
    values = store.load_all([name for name, specs in declared.items() if specs])
    if tokens.SERVICE in declared and tokens.api_token(store):
        return tokens.pending(values)
    return values


def desired_for(name: str, data: Mapping[str, Any], strict: bool = False) -> Desired:
    """Everything the host ``name`` should have. ``data`` is its inventory and group data."""
    settings = settings_of(name, data)
    catalog = catalog_for(settings, strict)
    return desired(catalog, settings, secrets_for(settings, catalog))


def desired_of(host: Host) -> Desired:
    """Everything the host that pyinfra is working on should have."""
    data: dict[str, Any] = host.data.dict()  # type: ignore[no-untyped-call]
    return desired_for(host.name, data)


def group_data(groups: list[str]) -> dict[str, Any]:
    """The merged group_data of ``all`` and the given groups, as pyinfra will merge it."""
    merged: dict[str, Any] = {}
    for group in ["all", *groups]:
        path = root() / "group_data" / f"{group}.py"
        if path.exists():
            merged.update({k: v for k, v in runpy.run_path(str(path)).items() if not k.startswith("__")})
    return merged


def run_inventory(inventory: str) -> dict[str, Any]:
    """What an inventory file defines. Raises BadInput when there is none; what the file itself raises goes through."""
    path = root() / inventory
    if not path.is_file():
        raise BadInput(f"there is no inventory {inventory}")
    sys.path.insert(0, str(root()))
    try:
        return runpy.run_path(str(path))
    finally:
        sys.path.pop(0)


def hosts(inventory: str) -> list[tuple[str, dict[str, Any]]]:
    """Every host of an inventory file with its data, group data merged in, as pyinfra will see them.

    Raises BadInput when there is no such file; what the file itself raises goes through.
    """
    return hosts_of(run_inventory(inventory))


def hosts_of(names: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The same, of what an inventory file defined when it was run."""
    groups = {
        key: value for key, value in names.items() if isinstance(value, list) and not key.startswith("_")
    }
    return [
        (name, {**group_data([group]), **data}) for group, entries in groups.items() for name, data in entries
    ]


def ready(*, complete: bool = True, **groups: list[tuple[str, dict[str, Any]]]) -> None:
    """For inventories: tell every host of its peers (understudy/ownership), then check them all (exit code 2).

    ``complete``: whether these are known to be all; where not, no host loses its guard by it.
    """
    whole = {name: {**group_data([group]), **data} for group, hosts in groups.items() for name, data in hosts}
    peers = {
        name: {key: data[key] for key in ("role", "groups", "may_own") if key in data}
        for name, data in whole.items()
    }
    for hosts in groups.values():
        for _, data in hosts:
            data["peers"], data["peers_complete"] = peers, complete
    for group, hosts in groups.items():
        check_or_exit(hosts, group)


@contextmanager
def bad_input_exits() -> Iterator[None]:
    """For inventories: wrong input becomes its own words and exit code 2, before any host is contacted."""
    try:
        yield
    except BadInput as error:
        print(f"{error}\nNothing was contacted.", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def check_or_exit(hosts: list[tuple[str, dict[str, Any]]], group: str) -> None:
    """For inventories: stop with exit code 2 when the description of any of these hosts is wrong."""
    with bad_input_exits():
        for name, data in hosts:
            desired_for(name, {**group_data([group]), **data})
