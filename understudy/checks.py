"""What a catalogue must satisfy beyond its schema. Each check is one function that yields faults."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from .faults import Fault, Grade
from .images import parse
from .service import Service, unit_of
from .spec import Database, Probe
from .yamlfile import load

Services = Mapping[str, Service]
SECRET_NAME = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_KEY)$", re.IGNORECASE)


def check(services: Services, variables: Mapping[str, str]) -> list[Fault]:
    """All faults of a catalogue, errors and warnings."""
    faults: list[Fault] = []
    for service in services.values():
        for rule in PER_SERVICE:
            faults += rule(service, services)
        faults += _unknown_variables(service, variables)
    faults += _hostnames(services)
    faults += _ports(services)
    return faults


def fault(service: Service, grade: Grade, key: tuple[str | int, ...], message: str, fix: str = "") -> Fault:
    """A fault in the block: found in understudy.yaml or below x-understudy, for a part of a file below ``apps:``."""
    path = service.sources[0]
    source = load(path)
    key = ("apps", service.name, *key) if service.part_of else key
    full = key if path.name == "understudy.yaml" else ("x-understudy", *key)
    return Fault(grade, path, source.line(full), ".".join(str(part) for part in key), message, fix)


def _in_compose(
    service: Service, grade: Grade, key: tuple[str | int, ...], message: str, fix: str = ""
) -> Fault:
    assert service.compose is not None
    path, line = service.compose.locate(*key)
    return Fault(grade, path, line, ".".join(str(part) for part in key), message, fix)


def _needs(service: Service, services: Services) -> Iterator[Fault]:
    for name in service.block.needs:
        if name not in services:
            yield fault(
                service, "error", ("needs",), f"there is no service {name!r}", f"known: {', '.join(services)}"
            )


def _targets(service: Service, services: Services) -> Iterator[Fault]:
    targets = [(("routes", index, "to"), route.to) for index, route in enumerate(service.routes)]
    own = service.probe()
    if own and own.to:
        targets.append((("probe",), own.to))  # type: ignore[arg-type]
    for key, to in targets:
        if to.startswith("static:"):
            continue
        try:
            service.endpoint(to)
        except LookupError as error:
            yield fault(service, "error", key, str(error))


def _probes(service: Service, services: Services) -> Iterator[Fault]:
    if service.empty:
        return
    probes: list[tuple[tuple[str | int, ...], Probe | None]] = [(("probe",), service.probe())]
    probes += [(("routes", index, "probe"), route.probe) for index, route in enumerate(service.routes)]
    if not any(probe for _, probe in probes):
        proof = "only that a published port answers" if service.ports_here() else "nothing"
        yield fault(service, "warning", ("probe",), f"{proof} proves that this service works", "add a probe")
    for key, probe in probes:
        if probe and not probe.checks_content:
            fix = "add text, json or content_type"
            yield fault(
                service,
                "warning",
                key,
                "the probe looks at the status alone, which an error page can satisfy",
                fix,
            )


def _database_places(service: Service, services: Services) -> Iterator[Fault]:
    for index, database in enumerate(service.databases()):
        key: tuple[str | int, ...] = ("databases", index) if service.block.databases else ("databases",)
        reason = _database_fault(service, services, database)
        if reason:
            yield fault(service, "error", key, reason)


def _database_fault(service: Service, services: Services, database: Database) -> str | None:
    if database.sqlite is not None:
        return _sqlite_fault(service, database.sqlite)
    named = database.postgres or database.mariadb or database.redis
    assert named is not None
    name, _, container = named.service.rpartition("/")
    owner = services.get(name) if name else service
    if owner is None:
        return f"there is no service {name!r}"
    # A server may be another unit's of the same file.
    if container not in unit_of(services, owner.name, container).containers:
        return _no_container(owner, container)
    return None


def _no_container(service: Service, container: str) -> str:
    if container in service.all_containers:
        return f"{container!r} belongs to another unit of this file: say it there"
    return f"{service.name} has no container {container!r}; it has {', '.join(service.containers) or 'none'}"


def _sqlite_fault(service: Service, place: str) -> str | None:
    if service.native:
        return None if place.startswith("/") else f"{place!r} must be an absolute path of the host"
    container, _, path = place.partition(":")
    if container not in service.containers:
        return _no_container(service, container)
    mount = service.mount_of(container, path)
    if mount is None or mount.kind == "tmpfs":
        return f"{path} of {container} is in no volume: the database would die with the container (I-16)"
    return None


def _data_paths(service: Service, services: Services) -> Iterator[Fault]:
    for place in service.block.data:
        container, _, path = place.partition(":")
        if service.native:
            if not place.startswith("/"):
                yield fault(service, "error", ("data", place), "must be an absolute path of the host")
        elif container not in service.containers:
            yield fault(service, "error", ("data", place), _no_container(service, container))
        elif service.mount_of(container, path.split("*")[0].rstrip("/")) is None:
            yield fault(service, "error", ("data", place), f"{path} of {container} is in no volume")


def _images(service: Service, services: Services) -> Iterator[Fault]:
    for name, container in service.containers.items():
        if not container.image and not container.build:
            yield _in_compose(service, "error", ("services", name), "has neither image nor build")
        elif container.image and parse(container.image).floating:
            fix = "pin the version that runs now"
            yield _in_compose(
                service, "warning", ("services", name, "image"), f"{container.image} floats", fix
            )


def _mounts(service: Service, services: Services) -> Iterator[Fault]:
    declared = service.compose.volumes if service.compose else {}
    for name, container in service.containers.items():
        for mount in container.mounts:
            if mount.kind == "volume" and not mount.source:
                key = ("services", name, "volumes")
                yield _in_compose(
                    service, "warning", key, f"{mount.target} is an anonymous volume (I-16)", "give it a name"
                )
            elif mount.kind == "volume" and "$" not in mount.source and mount.source not in declared:
                key = ("services", name, "volumes")
                yield _in_compose(
                    service, "error", key, f"volume {mount.source!r} is not declared", "add it under volumes:"
                )


def _references(service: Service, services: Services) -> Iterator[Fault]:
    """Names that Compose itself would not find."""
    networks = {*(service.compose.networks if service.compose else {}), "default"}
    for name, container in service.containers.items():
        for network in container.networks:
            if network not in networks:
                message, fix = f"network {network!r} is not declared", "add it under networks:"
                yield _in_compose(service, "error", ("services", name, "networks"), message, fix)
        for other in container.needs:
            if other not in service.all_containers:
                key = ("services", name, "depends_on")
                yield _in_compose(service, "error", key, f"there is no container {other!r} to depend on")
        for mount in container.mounts:
            if "$" in mount.source:
                key, fix = (
                    ("services", name, "volumes"),
                    "give the variable a value under variables: in the block",
                )
                yield _in_compose(
                    service, "warning", key, f"where {mount.target} lies is not known: {mount.source}", fix
                )


def _published(service: Service, services: Services) -> Iterator[Fault]:
    if service.block.expose == "lan":
        return
    for name, container in service.containers.items():
        for index, port in enumerate(container.ports):
            if port.port and not port.on_loopback:
                key = ("services", name, "ports", index)
                fix = f"write 127.0.0.1:{port.port}:{port.container_port}, or `expose: lan` in the block"
                yield _in_compose(service, "warning", key, f"port {port.port} is open to every network", fix)


def _literal_passwords(service: Service, services: Services) -> Iterator[Fault]:
    for name, container in service.containers.items():
        for variable, value in container.environment.items():
            if value and "$" not in value and SECRET_NAME.search(variable):
                key = ("services", name, "environment", variable)
                fix = f"`understudy secrets edit {service.stack}`, then write ${{{variable}}}"
                yield _in_compose(service, "warning", key, "a secret stands here in clear", fix)


def _secret_names(service: Service, services: Services) -> Iterator[Fault]:
    if service.part_of:
        return  # they are its file's
    native = service.block.native
    named = list(service.block.secrets_env) + (native.credentials if native else [])
    for name in named:
        if name not in service.secrets:
            yield fault(
                service,
                "error",
                ("secrets_env",) if name in service.block.secrets_env else ("native", "credentials"),
                f"unknown secret {name!r}",
                "declare it under secrets:",
            )
    for label, path in (service.compose.secret_files if service.compose else {}).items():
        base = path.rsplit("/", 1)[-1]
        if path.startswith("/etc/understudy/secrets/") and base not in service.secrets:
            yield _in_compose(
                service, "error", ("secrets", label), f"unknown secret {base!r}", "declare it under secrets:"
            )


def _unknown_variables(service: Service, variables: Mapping[str, str]) -> Iterator[Fault]:
    if service.compose is None or service.part_of:
        return
    for name, default in service.compose.variables.items():
        given = {*variables, *service.secrets, *service.block.variables}
        if default is None and name not in given:
            path, line = _first_use(service, name)
            fix = f"declare it under secrets: in the block, or under variables in group_data ({service.name})"
            yield Fault("error", path, line, name, f"${{{name}}} has no value", fix)


def _first_use(service: Service, name: str) -> tuple[Path, int]:
    assert service.compose is not None
    pattern = re.compile(rf"\$\{{?{name}\b")
    for source in service.compose.files:
        for number, line in enumerate(source.path.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line):
                return source.path, number
    return service.compose.files[0].path, 0


def _written_twice(service: Service, services: Services) -> Iterator[Fault]:
    """Two units of one file that keep the same place: a restore of one would put the other's data back too."""
    if service.part_of or not service.block.apps:
        return
    keepers: dict[str, str] = {}
    family = [one for one in services.values() if one.stack == service.name]
    for unit in family:
        for source in sorted(_kept_places(unit)):
            other = keepers.setdefault(source, unit.name)
            if other != unit.name:
                fix = "put both into one app, or give it another class under data: in one of them (shared, media, none)"
                message = f"{source} is written by {other} too"
                yield fault(unit, "error", ("services",) if unit.part_of else ("apps",), message, fix)


def _kept_places(unit: Service) -> set[str]:
    rules = unit.data_rules()
    return {
        mount.source
        for name, container in unit.containers.items()
        for mount in container.mounts
        if mount.source and mount.kind in ("bind", "volume") and not mount.read_only
        if not ((rule := rules.get(f"{name}:{mount.target}")) and rule.class_ != "keep")
    }


def _hostnames(services: Services) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for service in services.values():
        for index, route in enumerate(service.routes):
            for host in route.host:
                if host in seen:
                    yield fault(
                        service,
                        "error",
                        ("routes", index, "host"),
                        f"hostname {host!r} is also routed by {seen[host]}",
                    )
                seen[host] = service.name


def _ports(services: Services) -> Iterator[Fault]:
    seen: dict[tuple[int, str], str] = {}
    for service in services.values():
        for number, (port, protocol, key) in enumerate(_ports_of(service)):
            other = seen.setdefault((port, protocol), service.name)
            if number >= 0 and other != service.name:
                make = fault if service.native else _in_compose
                yield make(service, "error", key, f"port {port} is also used by {other}")


def _ports_of(service: Service) -> Iterator[tuple[int, str, tuple[str | int, ...]]]:
    for name, container in service.containers.items():
        for index, port in enumerate(container.ports):
            if port.port:
                yield port.port, port.protocol, ("services", name, "ports", index)
    if service.block.native:
        for number in service.block.native.ports:
            yield number, "tcp", ("native", "ports")


PER_SERVICE: list[Callable[[Service, Services], Iterator[Fault]]] = [
    _needs,
    _targets,
    _probes,
    _database_places,
    _data_paths,
    _images,
    _mounts,
    _references,
    _published,
    _literal_passwords,
    _secret_names,
    _written_twice,
]
