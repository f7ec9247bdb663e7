"""Everything that can be wrong with the secrets of a project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..faults import Fault
from ..spec import SecretSpec
from . import encrypted
from .errors import SecretsError
from .store import Store
from .values import weakness

Declared = Mapping[str, Mapping[str, SecretSpec]]
HARMLESS = {"README.md", ".gitkeep", ".gitignore", ".gitattributes"}


def check(store: Store, declared: Declared, *, opened: bool = True) -> list[Fault]:
    """Faults of all secrets; ``declared`` is what every service says it needs (also nothing).

    ``opened=False`` needs no key: it only looks for what stands in clear. Errors are placeholders, short and
    missing values, files that are not SOPS; warnings are undeclared names and values that will be generated.
    """
    faults = list(_folder(store))
    if not opened:
        return faults
    broken = {fault.file for fault in faults if fault.grade == "error"}
    readable = [name for name in store.services() if store.path(name) not in broken]
    for service in sorted({*declared, *readable}):
        if store.path(service) not in broken:
            faults += _service(store, service, declared)
    return faults


def _folder(store: Store) -> Iterator[Fault]:
    if not store.folder.is_dir():
        return
    for path in sorted(store.folder.iterdir()):
        if path.name in HARMLESS:
            continue
        if path.suffix == ".yaml" and path.is_file() and not path.name.startswith("."):
            yield from encrypted.faults(path)
        else:
            fix = "move it out, and change its values if it ever was committed"
            yield Fault(
                "error", path, 0, "", "only SOPS files named after a service (SERVICE.yaml) belong here", fix
            )


def _service(store: Store, service: str, declared: Declared) -> Iterator[Fault]:
    path = store.path(service)
    if service not in declared:
        yield Fault(
            "warning", path, 0, "", "no service of this name is in services/", "remove the file, or rename it"
        )
        return
    try:
        values = store.load(service)
    except SecretsError as error:
        yield Fault("error", path, 0, "", str(error).removeprefix(f"{path}: "))
        return
    specs = declared[service]
    for name, spec in specs.items():
        yield from _declared(path, service, name, spec, values)
    for name in sorted(set(values) - set(specs)):
        yield Fault(
            "warning",
            path,
            0,
            name,
            "is not declared under secrets: of the service",
            "declare it or take it out",
        )


def _declared(
    path: Path, service: str, name: str, spec: SecretSpec, values: Mapping[str, str]
) -> Iterator[Fault]:
    if name in values:
        why = weakness(name, values[name], spec.generate, service)
        if why:
            yield Fault("error", path, 0, name, why, f"`understudy secrets edit {service}`")
    elif spec.generate != "none" and not spec.optional:
        yield Fault(
            "warning",
            path,
            0,
            name,
            "is not made yet",
            "`understudy secrets generate`, or the first converge, makes it",
        )
    elif not spec.optional:
        reason = f" ({spec.why})" if spec.why else ""
        yield Fault("error", path, 0, name, f"is missing{reason}", f"`understudy secrets edit {service}`")
