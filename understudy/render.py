"""Renders everything one host should have, in memory, from the catalogue (design.md, decision 3)."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Mapping
from typing import Any

from . import baseline, compare, dotenv, exposure, hostside, native, proxy
from .catalog import Catalog
from .desired import Desired, Stack, Validator
from .errors import BadInput, Refused
from .faults import CatalogError, Fault
from .jinja import render_file
from .ownership import auto_secrets, watching
from .ownership import files as ownership
from .probes import wishes
from .protection import files as protection
from .protection import pinned
from .protection import secrets as backup_secrets
from .service import Service
from .settings import HostSettings
from .spec import SecretSpec
from .tree import Entry, Tree, directory

Secrets = Mapping[str, Mapping[str, str]]
ASSUMED: dict[str, Any] = {"os": {"id": "debian", "version_id": "13"}}
UNSUPPORTED = {
    "rootless": "its Docker engine runs rootless, which is not supported: the data of its volumes belongs to shifted users; "
    "install Docker's engine for root, or back this host up by other means",
    "podman": "its docker command is Podman, which is not supported: install Docker's engine, or back this host up by other means",
}
SECRETS_ROOT = "/etc/understudy/secrets"
PROXY = "caddy"
CONNECTOR = "cloudflared"


def desired(catalog: Catalog, settings: HostSettings, secrets: Secrets) -> Desired:
    """Render one host. ``secrets`` maps service to name to value; missing ones raise CatalogError."""
    names = managed(catalog, settings)
    missing = [
        fault
        for name, specs in declared_secrets(catalog, settings).items()
        for fault in _missing(name, specs, secrets.get(name, {}), settings)
    ]
    if missing:
        raise CatalogError(missing)
    guarded = ownership.guarded(catalog, settings, names)
    result = Desired(settings, catalog, names, Tree(), guarded)
    result.untouched = [name for name in placed(catalog, settings) if name not in names]
    for name in catalog.stacks(result.untouched):
        if not catalog.services[name].native:
            # Compose itself reads the .env beside the files.
            result.untouched_stacks[name] = _stack(
                catalog.services[name], tuple(catalog.services[name].compose_files), None
            )
    for name in names:
        _add_service(result, catalog.services[name], secrets.get(name, {}))
    result.levels = catalog.levels(names)
    result.probes = wishes(result)
    protection.add(result, secrets.get(backup_secrets.HOST, {}))
    ownership.add(result, secrets.get(auto_secrets.OWNER, {}))
    watching.add(result)
    result.masks = {value: secret for values in secrets.values() for secret, value in values.items()}
    result.service_entries = list(result.tree)
    complete(result, ASSUMED)
    return result


def complete(result: Desired, survey: Mapping[str, Any]) -> None:
    """Fit the host's own part to what the survey found: its system, its engine, its daemon.json.

    Raises PlatformError for a system nobody has tested, Refused for a daemon.json that cannot stand.
    """
    settings, agent = result.settings, hostside.zipapp()
    if settings.idle and not result.services:
        result.tree = Tree()
        return
    installed = [name for name, version in (survey.get("packages") or {}).items() if version]
    engine = survey.get("docker") or {}
    kind = str(engine.get("kind") or "")
    if kind in UNSUPPORTED:
        raise Refused(f"{settings.name}: {UNSUPPORTED[kind]}")
    system = survey.get("os") or {}
    live = (compare.readable(survey, "contents") or {}).get(baseline.DAEMON_JSON)
    result.tree = baseline.tree(
        settings,
        live_daemon_json=base64.b64decode(live) if live else None,
        model=exposure.model(result),
        agent=agent,
        os_id=str(system.get("id", "")),
    )
    result.tree.extend(result.service_entries)
    docker, compose = bool(engine.get("version")), bool(engine.get("compose"))
    own = baseline.packages(settings, system, installed=installed, has_docker=docker, has_compose=compose)
    result.packages = [*own, *(name for name in result.service_packages if name not in own)]
    result.units = [*baseline.units(settings, agent=bool(agent), installed=installed), *result.service_units]
    result.validators = [*baseline.validators(settings, agent=bool(agent)), *result.service_validators]
    if protection.PLAN in result.tree.entries:
        pinned.add(result, baseline.platform(system), str(system.get("arch", "")))


def placed(catalog: Catalog, settings: HostSettings) -> list[str]:
    """The services of a host: by name, by move group, or all. A file's applications are where the file is."""
    names = list(catalog.services)
    if settings.services is not None:
        known = catalog.stacks(names)
        unknown = sorted(set(settings.services) - set(known))
        if unknown:
            raise BadInput(f"{settings.name}: no service is called {unknown[0]!r}; known: {', '.join(known)}")
        names = [name for name in names if catalog.services[name].stack in settings.services]
    if settings.groups is not None:
        wanted = {*settings.groups, "host"}
        names = [name for name in names if catalog.services[name].block.group in wanted]
    return names


def managed(catalog: Catalog, settings: HostSettings) -> list[str]:
    """Of the services of a host those that the parts which are on bring up and keep up."""
    names = placed(catalog, settings)
    off = set()
    if not settings.parts.stacks:
        off |= {name for name in names if catalog.services[name].block.group != "host"}
    if not settings.parts.proxy:
        off.add(PROXY)
    if not settings.parts.tunnel or settings.edge != "cloudflare":
        off.add(CONNECTOR)
    return [name for name in names if name not in off]


def _add_service(result: Desired, service: Service, values: Mapping[str, str]) -> None:
    result.requires[service.name] = service.block.requires
    if service.part_of:
        return  # its file brings it up
    result.tree.extend(_secret_files(service, values))
    if service.native:
        native.add(result, service)
    else:
        _add_stack(result, service, values)


def declared_secrets(catalog: Catalog, settings: HostSettings) -> dict[str, dict[str, SecretSpec]]:
    """Secrets file to its declarations, for all that is placed on this host."""
    names = catalog.stacks(managed(catalog, settings))
    declared = {name: dict(catalog.services[name].secrets) for name in names}
    if settings.parts.backup and settings.backup.repositories:
        declared[backup_secrets.HOST] = backup_secrets.host_specs(settings.backup)
    if settings.ownership.auto:
        declared[auto_secrets.OWNER] = auto_secrets.specs()
    return declared


def _missing(
    owner: str, specs: Mapping[str, SecretSpec], values: Mapping[str, str], settings: HostSettings
) -> list[Fault]:
    """A fault for each required secret that has no value."""
    file = settings.secrets_dir / f"{owner}.yaml"
    fix = f"`understudy secrets edit {owner}`"
    return [
        Fault("error", file, 0, name, spec.why or "has no value", fix)
        for name, spec in specs.items()
        if not spec.optional and not values.get(name)
    ]


def _secret_files(service: Service, values: Mapping[str, str]) -> list[Entry]:
    """One 0400 file a secret, except those that only travel in the environment."""
    by_environment = set(service.block.secrets_env)
    names = [name for name in service.secrets if name in values and name not in by_environment]
    if not names:
        return []
    folder = f"{SECRETS_ROOT}/{service.name}"
    entries = [directory(folder, 0o711, service=service.name)]
    for name in names:
        spec = service.secrets[name]
        entries.append(
            Entry(
                f"{folder}/{name}",
                "file",
                0o400,
                spec.uid,
                spec.gid,
                values[name].encode(),
                secret=True,
                service=service.name,
                reaction=_secret_reaction(service, f"{folder}/{name}"),
            )
        )
    return entries


def _secret_reaction(service: Service, path: str) -> str:
    if service.native:
        return f"unit:{service.unit}"
    assert service.compose is not None
    labels = {label for label, file in service.compose.secret_files.items() if file == path}
    users = [c.name for c in service.all_containers.values() if labels & set(c.secrets)]
    return " ".join(f"recreate:{service.name}/{name}" for name in users) or f"stack:{service.name}"


def _add_stack(result: Desired, service: Service, values: Mapping[str, str]) -> None:
    assert service.compose is not None
    known = {**result.settings.all_variables(), **service.block.variables, **values}
    environment = _environment(service, known)
    files = (*service.compose_files, *ownership.override(result, service))
    stack = _stack(service, files, service.env_path if environment else None)
    result.stacks[service.name] = stack
    result.tree.add(directory(service.path, service=service.name))
    context = _context(result, service)
    for relative, source in service.files.items():
        content = render_file(source, **context).encode() if source.suffix == ".j2" else source.read_bytes()
        _add_file(result, service, relative, content, 0o755 if source.stat().st_mode & 0o100 else 0o644)
    if service.name == PROXY:
        _add_file(result, service, "conf/Caddyfile", proxy.caddyfile(result).encode(), 0o644)
    for path, name in service.block.env_files.items():
        if name in values:
            result.tree.add(_env_file(service, path, values[name]))
    if environment:
        content = dotenv.render(environment).encode()
        result.tree.add(
            Entry(
                service.env_path,
                "file",
                0o600,
                content=content,
                secret=True,
                service=service.name,
                reaction=f"stack:{service.name}",
            )
        )
    result.reloads[service.name] = [
        stack.compose("exec", "-T", container, *argv) for container, argv in service.block.reload.items()
    ]
    _add_validators(result, service, stack)


def _stack(service: Service, files: tuple[str, ...], env_file: str | None) -> Stack:
    return Stack(
        service.name,
        service.project,
        service.path,
        files,
        env_file,
        tuple(service.block.profiles),
        tuple((c.name, c.image) for c in service.all_containers.values()),
        service.block.timeout,
    )


def _environment(service: Service, known: Mapping[str, str]) -> dict[str, str]:
    assert service.compose is not None
    wanted = [*service.compose.variables, *service.block.secrets_env, *service.block.variables]
    texts = set(service.block.env_files.values())
    return {name: known[name] for name in wanted if name in known and name not in texts}


def _env_file(service: Service, path: str, text: str) -> Entry:
    """One further file of variables, as its owner wrote it."""
    place, reaction = posixpath.join(service.path, path), f"stack:{service.name}"
    content = text.encode()
    return Entry(place, "file", 0o600, content=content, secret=True, service=service.name, reaction=reaction)


def _context(result: Desired, service: Service) -> dict[str, Any]:
    """Names a ``*.j2`` file of a service may use; secrets are not among them."""
    variables = result.settings.all_variables()
    return {
        **variables,
        "domain": result.settings.domain,
        "service": service.name,
        "path": service.path,
        "host": result.settings.name,
        "proxy_port": result.settings.proxy_port,
    }


def _add_file(result: Desired, service: Service, relative: str, content: bytes, mode: int) -> None:
    path = posixpath.join(service.path, relative)
    for parent in _parents(service.path, path):
        result.tree.add(directory(parent, service=service.name))
    reaction = file_reaction(service, path)
    result.tree.add(Entry(path, "file", mode, content=content, service=service.name, reaction=reaction))


def _parents(root: str, path: str) -> list[str]:
    parents, current = [], posixpath.dirname(path)
    while current != root and _below(path, root):
        parents.append(current)
        current = posixpath.dirname(current)
    return parents


def file_reaction(service: Service, path: str) -> str:
    """What a changed file asks for: recreate the containers that mount it, reload, or compose up.

    A container that mounts the single file keeps the old inode, so it is recreated (protocol.md §9).
    """
    if path in service.compose_files or not service.all_containers:
        return f"stack:{service.name}"
    reactions = []
    for container in service.all_containers.values():
        binds = [m.source for m in container.mounts if m.kind == "bind"]
        if (
            path not in binds
            and container.name in service.block.reload
            and any(_below(path, s) for s in binds)
        ):
            reactions.append(f"reload:{service.name}")
        elif any(path == source or _below(path, source) for source in binds):
            reactions.append(f"recreate:{service.name}/{container.name}")
    return " ".join(reactions)


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _add_validators(result: Desired, service: Service, stack: Stack) -> None:
    paths = [*stack.files, *([stack.env_file] if stack.env_file else [])]
    result.service_validators.append(
        Validator(
            f"docker compose config ({service.name})",
            tuple(stack.compose("config", "--quiet", root="{stage}")),
            tuple(paths),
            service.name,
        )
    )
    if service.name == PROXY:
        result.service_validators.append(proxy.validator(service))
