"""What one host should look like: plain values that compare, plan and operations share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .catalog import Catalog
from .settings import HostSettings
from .spec import Native, Requires
from .tree import Entry, Tree


@dataclass(frozen=True)
class Stack:
    """A Compose project on the host. All paths are absolute host paths; ``timeout`` in seconds."""

    service: str
    project: str
    path: str
    files: tuple[str, ...]
    env_file: str | None
    profiles: tuple[str, ...]
    images: tuple[tuple[str, str], ...]
    timeout: int

    def compose(self, *arguments: str, root: str = "") -> list[str]:
        """The argv of a Compose command on this stack; ``root`` prefixes every path (staging)."""
        argv = ["docker", "compose", "--project-name", self.project, "--project-directory", root + self.path]
        for file in self.files:
            argv += ["--file", root + file]
        if self.env_file:
            argv += ["--env-file", root + self.env_file]
        for profile in self.profiles:
            argv += ["--profile", profile]
        return [*argv, *arguments]


@dataclass(frozen=True)
class Validator:
    """A check by one of the host's own tools; ``{stage}`` in argv is the staged tree.

    ``needs`` lists the paths that the check reads: it runs when one of them changes, and the
    unchanged ones are copied beside the changed ones first.
    """

    name: str
    argv: tuple[str, ...]
    needs: tuple[str, ...]
    service: str = ""
    timeout: int = 60


@dataclass(frozen=True)
class ProbeWish:
    """A probe as the agent runs it: ``request`` has the keys of the agent's probe verb."""

    service: str
    name: str
    request: dict[str, Any]


@dataclass(frozen=True)
class UnitWish:
    """A systemd unit that should be enabled and running (``running`` False: enabled only)."""

    name: str
    running: bool = True
    service: str = ""
    may_be_skipped: bool = False


@dataclass(frozen=True)
class NativeWish:
    """The parts of a native service that are not files."""

    service: str
    native: Native


@dataclass
class Desired:
    """Everything one host should have.

    ``services`` are brought up and kept up by us; ``untouched`` run here by their owner's hand and are only backed up.
    """

    settings: HostSettings
    catalog: Catalog
    services: list[str]
    tree: Tree
    guarded: frozenset[str] = frozenset()
    untouched: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    units: list[UnitWish] = field(default_factory=list)
    stacks: dict[str, Stack] = field(default_factory=dict)
    untouched_stacks: dict[str, Stack] = field(default_factory=dict)
    natives: dict[str, NativeWish] = field(default_factory=dict)
    levels: list[list[str]] = field(default_factory=list)
    validators: list[Validator] = field(default_factory=list)
    probes: list[ProbeWish] = field(default_factory=list)
    reloads: dict[str, list[list[str]]] = field(default_factory=dict)
    requires: dict[str, Requires] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)
    service_entries: list[Entry] = field(default_factory=list)
    service_packages: list[str] = field(default_factory=list)
    service_units: list[UnitWish] = field(default_factory=list)
    service_validators: list[Validator] = field(default_factory=list)

    @property
    def kept(self) -> list[str]:
        """Every service whose data this host keeps."""
        return [*self.services, *self.untouched]

    def stack_of(self, service: str) -> Stack | None:
        """The Compose project of a service, whoever brings it up; None for a native one."""
        name = self.stack_named(service)
        return self.stacks.get(name) or self.untouched_stacks.get(name)

    def stack_named(self, service: str) -> str:
        """The service whose file a service is in; a name that nobody knows stays as it is."""
        known = self.catalog.services.get(service)
        return known.stack if known else service
