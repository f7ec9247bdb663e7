"""Reads ``services/`` into a catalogue, or says everything that is wrong with it.

Nothing here contacts a host: a catalogue with errors stops before any connection is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from . import apps, checks, compose, recipe_book
from .compose_files import ELSEWHERE
from .faults import CatalogError, Fault
from .service import Service
from .spec import Block, Recipe
from .validation import faults_of
from .yamlfile import YamlFile, load

BLOCK_FILE = "understudy.yaml"
NOT_SHIPPED = {BLOCK_FILE, ".env.example", "README.md", "x-understudy.yaml"}


@dataclass
class Catalog:
    """All services by name, and the warnings that were found on the way."""

    services: dict[str, Service] = field(default_factory=dict)
    warnings: list[Fault] = field(default_factory=list)

    def __iter__(self) -> Iterator[Service]:
        return iter(self.services.values())

    def stacks(self, names: Iterable[str]) -> list[str]:
        """The services that bring something up; the parts of a file are brought up with it."""
        return [name for name in names if not self.services[name].part_of]

    def needs_of(self, stack: str) -> list[str]:
        """The stacks that one needs, by itself and by its parts."""
        family = [one for one in self if one.stack == stack]
        needed = [self.services[n].stack for one in family for n in one.block.needs if n in self.services]
        return [name for name in dict.fromkeys(needed) if name != stack]

    def levels(self, names: Iterable[str]) -> list[list[str]]:
        """Start order of stacks: each inner list may start together once the lists before it are ready."""
        wanted = set(self.stacks(names))
        graph = {name: [n for n in self.needs_of(name) if n in wanted] for name in sorted(wanted)}
        sorter = TopologicalSorter(graph)
        sorter.prepare()
        levels = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready())
            levels.append(ready)
            sorter.done(*ready)
        return levels

    def image_references(self) -> list[str]:
        """Every image of the catalogue, sorted."""
        return sorted({c.image for service in self for c in service.containers.values() if c.image})


@dataclass(frozen=True)
class Source:
    """Where a catalogue is read from and what its variables mean."""

    folder: Path
    overlays: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    stack_root: str = "/home/docker-projects"


def load_catalog(source: Source, strict: bool = False) -> Catalog:
    """Read all services. Errors (with ``strict`` warnings too) raise CatalogError with every fault."""
    catalog, faults = Catalog(), list[Fault]()
    if not source.folder.is_dir():
        raise CatalogError(
            [Fault("error", source.folder, 0, "", "is not a folder: services are read from there")]
        )
    for folder in sorted(
        path for path in source.folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    ):
        try:
            units = read_units(folder, source)
        except CatalogError as error:
            faults += error.faults
            continue
        for unit in units:
            known = catalog.services.setdefault(unit.name, unit)
            if known is not unit:
                faults.append(_same_name(known, unit))
    faults += checks.check(catalog.services, source.variables)
    if not any(fault.grade == "error" for fault in faults):
        faults += _cycle(catalog)
    fatal = [fault for fault in faults if strict or fault.grade == "error"]
    if fatal:
        raise CatalogError(fatal)
    catalog.warnings = faults
    return catalog


def read_units(folder: Path, source: Source) -> list[Service]:
    """The units of one service folder: none, one, or with ``apps:`` several. Raises CatalogError."""
    service = read_service(folder, source)
    if service is None:
        return []
    units = apps.split(service)
    for unit in units if len(units) > 1 else ():
        unit.recipes = _recipes(unit, folder / BLOCK_FILE)
    return units


def _same_name(one: Service, other: Service) -> Fault:
    part, folder = (one, other) if one.part_of else (other, one)
    message = f"{folder.sources[0]} has a service of that name too"
    return checks.fault(part, "error", (), message, "choose another name")


def read_service(folder: Path, source: Source) -> Service | None:
    """One service folder as a whole; None when it holds neither a Compose file nor a block."""
    block_file = folder / BLOCK_FILE
    files = _listed_files(folder, block_file) or compose.find_files(folder)
    if not files and not block_file.exists():
        return None
    overlays = [overlay / folder.name for overlay in source.overlays if (overlay / folder.name).is_dir()]
    sources = [load(file) for file in files]
    block = _read_block(folder, sources, overlays)
    path = block.path or f"{source.stack_root}/{folder.name}"
    variables = {**source.variables, **block.variables}
    model = compose.read(sources, path, variables, folder) if files else None
    if model is None and block.native is None:
        raise CatalogError(
            [
                Fault(
                    "error",
                    block_file,
                    1,
                    "native",
                    "a service without a Compose file needs a native section",
                )
            ]
        )
    if model:
        _name_anonymous(model, block, block_file)
    service = Service(folder.name, folder, block, path, model)
    service.recipes = _recipes(service, block_file)
    service.sources = [block_file if block_file.exists() else files[0], *files]
    service.files = _shipped([folder, *overlays])
    return service


def _listed_files(folder: Path, block_file: Path) -> list[Path]:
    """The Compose files that the block names, in their order: what ``-f`` names when it is not the usual file."""
    data = load(block_file).data if block_file.exists() else None
    listed = data.get("files") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        return []
    return [
        folder / ELSEWHERE / str(name).lstrip("/") if str(name).startswith("/") else folder / str(name)
        for name in listed
    ]


def _name_anonymous(model: compose.ComposeModel, block: Block, block_file: Path) -> None:
    """Put the anonymous volumes that run now into the model by their names, so that they are kept like others."""
    for place, volume in block.anonymous.items():
        name, _, target = place.partition(":")
        container = model.containers.get(name)
        if container is None:
            message = f"there is no container {name!r}"
            raise CatalogError([Fault("error", block_file, 0, f"anonymous.{place}", message)])
        others = tuple(m for m in container.mounts if m.target != target or m.source)
        mounts = (*others, compose.Mount("volume", volume, target))
        model.containers[name] = dataclasses.replace(container, mounts=mounts)
        model.volumes[volume] = {"external": True}


def _read_block(folder: Path, files: list[YamlFile], overlays: list[Path]) -> Block:
    sources: list[tuple[YamlFile, Any, tuple[str, ...]]] = []
    for source in files:
        if isinstance(source.data, dict) and "x-understudy" in source.data:
            sources.append((source, source.data["x-understudy"], ("x-understudy",)))
    for path in (directory / BLOCK_FILE for directory in [folder, *overlays]):
        if path.exists():
            source = load(path)
            sources.append((source, source.data, ()))
    merged: dict[str, Any] = {}
    for source, data, prefix in sources:
        _validate(data or {}, source, prefix, partial=len(sources) > 1)
        merged = compose.merge(merged, data or {})
    return _validate(merged, sources[-1][0], sources[-1][2]) if sources else Block()


def _validate(data: Any, source: YamlFile, prefix: tuple[str, ...], partial: bool = False) -> Block:
    """Check one block, or with ``partial`` a piece of one: there the other piece may give what is required."""
    if not isinstance(data, dict):
        raise CatalogError(
            [Fault("error", source.path, source.line(prefix), ".".join(prefix), "must be a mapping")]
        )
    if partial and isinstance(data.get("native"), dict):
        data = {**data, "native": {"exec": "", **data["native"]}}
    try:
        return Block.model_validate(data)
    except ValidationError as error:
        raise CatalogError(faults_of(error, source, prefix)) from error


def _recipes(service: Service, block_file: Path) -> dict[str, Recipe]:
    found = {
        name: recipe for name, c in service.containers.items() if (recipe := recipe_book.for_image(c.image))
    }
    wanted = service.block.recipe
    if wanted is None:
        return found
    if wanted not in recipe_book.all_recipes():
        message = f"there is no recipe {wanted!r}"
        raise CatalogError(
            [Fault("error", block_file, 0, "recipe", message, "leave the key out to choose by image name")]
        )
    main = next(iter(service.containers), service.name)
    return {main: recipe_book.all_recipes()[wanted], **{k: v for k, v in found.items() if k != main}}


def _shipped(folders: list[Path]) -> dict[str, Path]:
    """Files that go to the host beside the Compose file: relative path to source, overlays last."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder).as_posix()
            if path.is_file() and relative not in NOT_SHIPPED and "__pycache__" not in relative:
                place = relative.removesuffix(".j2")
                found[place.removeprefix(ELSEWHERE) if place.startswith(f"{ELSEWHERE}/") else place] = path
    return found


def _cycle(catalog: Catalog) -> list[Fault]:
    units = {
        name: [n for n in s.block.needs if n in catalog.services] for name, s in catalog.services.items()
    }
    for known in (units, {name: catalog.needs_of(name) for name in catalog.stacks(catalog.services)}):
        try:
            TopologicalSorter(known).prepare()
        except CycleError as error:
            circle = [catalog.services[name] for name in error.args[1]]
            names = " → ".join(one.name for one in circle)
            fix = "put those into one app" if len({one.stack for one in circle}) == 1 else ""
            message = f"services need each other in a circle: {names}"
            return [Fault("error", circle[0].sources[0], 0, "needs", message, fix)]
    return []
