"""`understudy import`: from a running host to services/, secrets/ and the inventory. The host itself is only read."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .. import project as described
from ..errors import BadInput, UnderstudyError
from ..secrets import Store
from ..secrets import init as init_secrets
from ..settings import settings_of
from . import adopt, bring, drift, enlist
from .adopt import Adopted, NotImportable
from .judge import Census, part, unread
from .reach import Reach


@dataclass
class Outcome:
    """What an import did. Each list holds sentences, ``written`` and ``same`` names of services."""

    written: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    drifted: dict[str, list[str]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    inventory: str = ""
    unread: list[str] = field(default_factory=list)


@dataclass
class Import:
    """One run: ``root`` is the project's folder; ``only`` names one service whose live side is taken; ``pin`` changes tags."""

    reach: Reach
    root: Path
    inventory: str
    only: str = ""
    pin: bool = False
    say: Callable[[str], None] = print
    outcome: Outcome = field(default_factory=Outcome)

    def run(self) -> Outcome:
        """Read the host, then write service by service. Raises UnderstudyError before anything is written."""
        hosts = described.hosts(self.inventory)
        settings = settings_of("import", described.group_data([enlist.GROUP]))
        services, store = self.root / settings.services_dir, Store(self.root / settings.secrets_dir)
        census = self.reach.census({})
        self.outcome.unread = unread(census)
        if part(census, "docker") is None:
            raise UnderstudyError(
                f"{self.reach.name}: Docker could not be read: {census['docker']['unreadable']}"
            )
        self.outcome.left = {} if self.only else adopt.not_importable(census)
        names = []
        for title, build in self._wanted(census):
            try:
                names.append(self._one(title, build, services, store))
            except NotImportable as reason:
                self.outcome.left[title] = str(reason)
            except UnderstudyError as error:
                self.outcome.left[title] = " / ".join(
                    str(error).replace(str(self.root) + "/", "").splitlines()
                )
        if self.only and not names and not self.outcome.left:
            raise BadInput(f"{self.reach.name} runs nothing called {self.only!r}")
        if names:
            self._enlist(hosts, names)
        return self.outcome

    def _wanted(self, census: Census) -> Iterator[tuple[str, Callable[[Path], Adopted]]]:
        for name in sorted(part(census, "projects") or {}):
            if self.only in ("", name):
                yield name, partial(bring.project, self.reach, census, name, pinned=self.pin)
        for unit in (part(census, "units") or {}).get("system") or []:
            title = unit["name"].removesuffix(".service")
            if unit["name"].endswith(".service") and not unit["oneshot"] and self.only in ("", title):
                yield title, partial(bring.unit, self.reach, census, unit)

    def _one(self, title: str, build: Callable[[Path], Adopted], services: Path, store: Store) -> str:
        """One service: written when it is new, compared when it is not, taken over when it was asked for by name."""
        with bring.staging(services) as folder:
            adopted = build(folder)
            target = services / adopted.name
            changes = drift.differences(target, folder, _masks(adopted)) if target.exists() else []
            if target.exists():
                changes += self._secrets_differ(adopted, store)
            if target.exists() and not changes:
                self.outcome.same.append(adopted.name)
                return adopted.name
            if target.exists() and not self.only:
                self.outcome.drifted[adopted.name] = changes
                return adopted.name
            self._write(adopted, folder, target, store)
        self.outcome.written.append(adopted.name)
        if adopted.notes:
            self.outcome.notes[adopted.name] = adopted.notes
        return adopted.name

    def _write(self, adopted: Adopted, folder: Path, target: Path, store: Store) -> None:
        """Secrets first: a folder never says that it has a secret which nobody keeps."""
        if adopted.secrets:
            if not (store.folder.resolve().parent / ".sops.yaml").exists():
                for sentence in init_secrets(store.folder).sentences():
                    self.say(sentence)
            store.add(adopted.name, adopted.secrets)
            if target.exists():
                store.replace(adopted.name, adopted.secrets)
        block = drift.taken_over(drift.block(target), adopted.block) if target.exists() else adopted.block
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        bring.dump(
            folder, block, f"# Imported from {self.reach.host} on {day}. It is yours: change what you like.\n"
        )
        folder.chmod(0o755)
        if target.exists():
            _merge(folder, target)
        else:
            folder.rename(target)

    def _secrets_differ(self, adopted: Adopted, store: Store) -> list[str]:
        known = store.load(adopted.name) if adopted.secrets else {}
        return [
            f"{name} has another value on the host"
            for name, value in adopted.secrets.items()
            if value and known.get(name) != value
        ]

    def _enlist(self, hosts: list[tuple[str, dict[str, Any]]], names: list[str]) -> None:
        path = self.root / self.inventory
        there = enlist.known(hosts, self.reach.host)
        if there:
            self.outcome.inventory = f"{self.inventory} has this host already, as {there}"
            return
        sudo = bool(self.reach.user) and self.reach.user != "root"
        data = enlist.entry(self.reach.host, self.reach.user, names, bool(hosts), self.reach.config, sudo)
        path.write_text(
            enlist.add(path.read_text(encoding="utf-8"), self.reach.host, data, path), encoding="utf-8"
        )
        self.outcome.inventory = f"{self.inventory} has {self.reach.host} now, with the part backup alone"


def _masks(adopted: Adopted) -> dict[str, str]:
    return {value: name for name, value in adopted.secrets.items() if value}


def _merge(folder: Path, target: Path) -> None:
    """The live side of a service that is here already: its files one by one, what is only here stays."""
    for path in sorted(folder.rglob("*")):
        place = target / path.relative_to(folder)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            shutil.copy2(path, place.with_name(f".{place.name}.new"))
            place.with_name(f".{place.name}.new").replace(place)
