"""One service as the catalogue knows it, after recipe, block and overlays are merged."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .compose import ComposeModel, Container, Mount
from .compose_files import Files
from .spec import Block, Database, DataRule, Drill, Probe, Recipe, Route, SecretSpec, VersionRule


@dataclass(frozen=True)
class Endpoint:
    """Where a probe or the proxy connects on the host: always loopback."""

    port: int

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Service:
    """A folder under ``services/``: either a Compose project or a native systemd unit.

    Where ``apps:`` splits a file, each application is a service of its own too: ``part_of`` names its folder's service,
    ``own`` its containers. The folder's service then has what is left of the containers, and brings up all of them.
    """

    name: str
    folder: Path
    block: Block
    path: str
    compose: ComposeModel | None = None
    recipes: dict[str, Recipe] = field(default_factory=dict)
    sources: list[Path] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    part_of: str = ""
    own: frozenset[str] | None = None

    @property
    def stack(self) -> str:
        """The service whose folder the Compose file is in: itself, or the one that this is a part of."""
        return self.part_of or self.name

    @property
    def project(self) -> str:
        """The Compose project name: part of the address of the data (protocol.md §10)."""
        return self.block.project or self.stack

    @property
    def native(self) -> bool:
        """True for a systemd service."""
        return self.compose is None

    @property
    def unit(self) -> str:
        """The systemd unit of a native service."""
        return f"{self.name}.service"

    @property
    def secrets(self) -> dict[str, SecretSpec]:
        """Every declared secret; variables of the Compose file without a declaration count as required."""
        return self.block.secrets

    @property
    def containers(self) -> dict[str, Container]:
        """Its containers by Compose service name; empty for a native service."""
        if self.own is None:
            return self.all_containers
        return {name: one for name, one in self.all_containers.items() if name in self.own}

    @property
    def empty(self) -> bool:
        """True for the rest of a file whose applications have all of its containers."""
        return self.own is not None and not self.own

    @property
    def all_containers(self) -> dict[str, Container]:
        """Those of its whole file."""
        return self.compose.containers if self.compose else {}

    @property
    def routes(self) -> list[Route]:
        """The public routes."""
        return self.block.routes

    @property
    def compose_files(self) -> list[str]:
        """The Compose files as absolute host paths, in the order Compose reads them."""
        if self.compose is None:
            return []
        known = Files(self.folder, self.path, {})
        return [known.host(source.path) for source in self.compose.files]

    @property
    def env_path(self) -> str:
        """The file that holds the variables of the Compose file, 0600."""
        return posixpath.join(self.path, ".env")

    def databases(self) -> list[Database]:
        """The block's databases, or those its recipes know; an empty list in the block means that there are none."""
        if "databases" in self.block.model_fields_set:
            return self.block.databases
        return [
            _own(database, name)
            for name, recipe in self.recipes.items()
            for database in recipe.databases
            if self._uses(database, name)
        ]

    def _uses(self, database: Database, container: str) -> bool:
        """Whether a recipe's database is the one that this installation has chosen."""
        known = self.containers.get(container)
        environment = known.environment if known else {}
        chosen = [environment[name] or "" for name in database.unless_env if name in environment]
        if any("sqlite" not in value.lower() for value in chosen):
            return False
        path = (database.sqlite or "").partition(":")[2]
        return not (database.optional and path and self.mount_of(container, path) is None)

    def data_rules(self) -> dict[str, DataRule]:
        """``CONTAINER:/path`` to its class; the block overrides the recipes."""
        rules: dict[str, DataRule] = {}
        for name, recipe in self.recipes.items():
            rules.update({key.replace("{self}", name): rule for key, rule in recipe.data.items()})
        return {**rules, **self.block.data}

    def version_rule(self) -> VersionRule:
        """What the application allows between versions: the block's word, else the first recipe that has one."""
        rules = [self.block.version, *(recipe.version for recipe in self.recipes.values())]
        return next((rule for rule in rules if rule != VersionRule()), VersionRule())

    def drill(self) -> Drill:
        """What a scratch copy leaves out, by block and recipes."""
        drills = [self.block.drill, *(recipe.drill for recipe in self.recipes.values())]
        return Drill(without=sorted({name for drill in drills for name in drill.without}))

    def quiesce(self) -> str | None:
        """``daily`` when a consistent copy needs the application to stop for a moment."""
        wishes = [self.block.quiesce, *(recipe.quiesce for recipe in self.recipes.values())]
        return next((wish for wish in wishes if wish), None)

    def probe(self) -> Probe | None:
        """The service's own probe: the block's, else the first one of a recipe that can be reached from the host."""
        if self.block.probe:
            return self.block.probe
        for name, recipe in self.recipes.items():
            if recipe.probe and recipe.probe.to:
                to = recipe.probe.to.replace("{self}", name)
                if self._reaches(to):
                    return recipe.probe.model_copy(update={"to": to})
        return None

    def _reaches(self, to: str) -> bool:
        """A recipe's probe is no fault of an owner who does not publish that port."""
        try:
            self.endpoint(to)
        except LookupError:
            return False
        return True

    def ports_here(self) -> list[int]:
        """Published TCP ports that answer at 127.0.0.1 of the host, in the file's order."""
        ports = [one for container in self.containers.values() for one in container.ports]
        found = (one.port for one in ports if one.protocol == "tcp" and one.port and one.on_this_host)
        return list(dict.fromkeys(found))

    def endpoint(self, to: str) -> Endpoint:
        """Resolve ``CONTAINER:PORT`` or ``PORT`` to a loopback port of the host.

        Raises LookupError with the reason when the proxy on the host could not connect there.
        """
        if to.isdigit():
            return Endpoint(int(to))
        name, _, port = to.rpartition(":")
        container = self.containers.get(name)
        if container is None or not port.isdigit():
            known = ", ".join(f"{c}:PORT" for c in self.containers) or "PORT"
            which = "another unit's container, none" if name in self.all_containers else "no container"
            raise LookupError(f"{to!r} names {which} of {self.name}; use {known}")
        if container.host_network:
            return Endpoint(int(port))
        for published in container.ports:
            if published.container_port == int(port) and published.protocol == "tcp" and published.port:
                return Endpoint(published.port)
        raise LookupError(f"port {port} of {name} is not published on the host, so the proxy cannot reach it")

    def mount_of(self, container: str, path: str) -> Mount | None:
        """The mount that holds a path of a container: the deepest one."""
        mounts = self.containers[container].mounts if container in self.containers else ()
        holding = [m for m in mounts if path == m.target or path.startswith(m.target.rstrip("/") + "/")]
        return max(holding, key=lambda mount: len(mount.target), default=None)


def unit_of(services: Mapping[str, Service], name: str, container: str) -> Service:
    """The unit that a container belongs to; ``name``: any unit of its file. Raises KeyError for an unknown unit."""
    asked = services[name]
    family = [one for one in services.values() if one.stack == asked.stack]
    return next((one for one in family if container in one.containers), asked)


def _own(database: Database, container: str) -> Database:
    """A recipe's database with ``{self}`` replaced by the container's name."""
    text = database.model_dump_json(exclude_none=True).replace("{self}", container)
    return Database.model_validate_json(text)
