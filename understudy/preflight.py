"""What must be true of a host before anything on it is changed (protocol.md §10, origin.md R11)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import baseline
from .compare import FileChange, Survey, devices, readable
from .desired import Desired, Stack
from .images import is_downgrade, parse
from .ownership import enabling
from .ownership.files import PLAN as GUARD_PLAN

MINIMUM_FREE = 512 * 1024 * 1024
START_INTERVAL_SINCE = 25
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Allowances:
    """What the owner allowed for this run, by service name."""

    fresh: frozenset[str] = frozenset()
    overwrite: frozenset[str] = frozenset()
    downgrade: frozenset[str] = frozenset()


def problems(desired: Desired, survey: Survey) -> list[str]:
    """Things that would make a converge fail halfway; each is one sentence."""
    found = list(_hardware(desired, survey)) + list(_space(survey)) + list(_mounts(desired, survey))
    found += [*_engine(desired, survey), *_programs(desired, survey), *_devices(desired, survey)]
    return found + list(_ports(desired, survey))


def refusals(desired: Desired, survey: Survey, files: Iterable[FileChange], allowed: Allowances) -> list[str]:
    """Things that could cost data or somebody's work; each names the ways on."""
    found = list(_drift(desired, survey, files, allowed)) + list(_downgrades(desired, survey, allowed))
    found += _guard_lost(desired, survey)
    found += enabling.reasons(desired, survey)
    return found + list(_elsewhere(desired, survey, allowed)) + list(abandoned(desired, survey))


def _hardware(desired: Desired, survey: Survey) -> Iterator[str]:
    machine = str((survey.get("os") or {}).get("arch", ""))
    arch, flags = ARCHITECTURES.get(machine, machine), set(survey.get("cpu_flags") or [])
    for service, need in desired.requires.items():
        if need.arch and arch not in {ARCHITECTURES.get(name, name) for name in need.arch}:
            yield f"{service} runs on {', '.join(need.arch)} only and this host is {arch}: place it on another host"
        missing = [flag for flag in need.cpu_flags if flags and flag not in flags]
        if missing:
            yield f"{service} needs the CPU flag {missing[0]}, which this host's processor has not"


def _space(survey: Survey) -> Iterator[str]:
    for place, disk in (readable(survey, "disks") or {}).items():
        if (
            place in ("/", "/var/lib/docker", "/home", "/var")
            and disk.get("free", MINIMUM_FREE) < MINIMUM_FREE
        ):
            yield f"{place} has {disk['free'] // 1024**2} MB free and a converge needs {MINIMUM_FREE // 1024**2} MB: free some space"
        if place == "/" and disk.get("inodes_free", 1000) < 1000 and disk.get("inodes_total", 1) > 0:
            yield f"{place} has {disk['inodes_free']} inodes free: remove small files"


def _mounts(desired: Desired, survey: Survey) -> Iterator[str]:
    live = readable(survey, "mounts") or {}
    for service, need in desired.requires.items():
        for path in need.mounts:
            if not live.get(path, {}).get("mounted"):
                yield f"{service} keeps its data on {path}, which is not mounted: mount it (an empty folder there would hide the loss)"


def _engine(desired: Desired, survey: Survey) -> Iterator[str]:
    """Compose files may use health checks that an older engine refuses only when a container is made."""
    version = str((readable(survey, "docker") or {}).get("version") or "")
    major = version.split(".")[0]
    if not major.isdigit() or int(major) >= START_INTERVAL_SINCE:
        return
    for name in desired.stacks:
        model = desired.catalog.services[name].compose
        if model and any(
            "start_interval" in source.path.read_text(encoding="utf-8") for source in model.files
        ):
            yield f"{name} uses start_interval, which needs Docker {START_INTERVAL_SINCE} and this host has {version}: update Docker"


def _devices(desired: Desired, survey: Survey) -> Iterator[str]:
    """A container whose device is missing cannot be made: on a replica that would come out at its promotion."""
    there = readable(survey, "devices") or {}
    running = {
        c.get("project") for c in readable(survey, "containers") or [] if c.get("state") == "running"
    }  # what runs already has them, or its owner pulled the plug
    for name, paths in devices(desired).items():
        stack = desired.stack_of(name)
        missing = [path for path in paths if not there.get(path)]
        if missing and not (stack and stack.project in running):
            yield (
                f"{name} needs {missing[0]}, which this host has not: plug it in, or leave it out on replicas with "
                "`replica: {without: [devices]}`"
            )


def _programs(desired: Desired, survey: Survey) -> Iterator[str]:
    live = survey.get("programs") or {}
    for service, wish in desired.natives.items():
        program = wish.native.program
        if program is None or program.path in desired.tree.entries:
            continue
        state = live.get(program.path) or (survey.get("files") or {}).get(program.path) or {"kind": "missing"}
        if state.get("kind") == "missing":
            yield f"{service}: {program.path} is not on the host; get it from {program.source}"
        elif program.sha256 and state.get("sha256") != program.sha256:
            yield f"{service}: {program.path} has another checksum than the spec says: install the pinned version or change sha256"


def _ports(desired: Desired, survey: Survey) -> Iterator[str]:
    listeners = {
        item["port"]: item
        for item in readable(survey, "listeners") or []
        if item.get("proto", "tcp").startswith("tcp")
    }
    ours = {stack.project for stack in desired.stacks.values()}
    holders = _container_ports(survey)
    units = readable(survey, "units") or {}
    for service, port, unit in _wanted_ports(desired):
        if port not in listeners:
            continue
        holder = holders.get(port)
        if holder and holder.get("project") in ours:
            continue
        if unit and units.get(unit, {}).get("active") in ("active", "activating"):
            continue
        if not holder and _host_network_holder(desired, survey, service):
            continue
        who = (
            f"container {holder['name']}"
            if holder
            else f"process {listeners[port].get('process') or 'unknown'}"
        )
        yield f"{service} needs port {port}, which {who} holds: stop that or change the port (nothing was changed)"


def _container_ports(survey: Survey) -> dict[int, Mapping[str, Any]]:
    return {
        int(port["port"]): container
        for container in readable(survey, "containers") or []
        for port in container.get("ports") or []
        if port.get("port")
    }


def _host_network_holder(desired: Desired, survey: Survey, service: str) -> bool:
    """A container in host networking listens by itself: Docker lists no port for it."""
    stack = desired.stacks.get(desired.catalog.services[service].stack)
    described = desired.catalog.services[service].containers.values()
    if stack is None or not any(container.host_network for container in described):
        return False
    return any(
        c.get("project") == stack.project and c.get("state") == "running"
        for c in readable(survey, "containers") or []
    )


def _wanted_ports(desired: Desired) -> Iterator[tuple[str, int, str]]:
    for name in desired.services:
        service = desired.catalog.services[name]
        for container in service.containers.values():
            for published in container.ports:
                if published.port and published.protocol == "tcp":
                    yield name, published.port, ""
        if service.block.native:
            for port in service.block.native.ports:
                yield name, port, service.unit
    if desired.settings.parts.proxy and "caddy" in desired.services:
        yield "caddy", desired.settings.proxy_port, ""


def _drift(
    desired: Desired, survey: Survey, files: Iterable[FileChange], allowed: Allowances
) -> Iterator[str]:
    known = ((survey.get("manifest") or {}).get("entries")) or {}
    for change in files:
        entry = desired.tree.entries.get(change.path)
        if (
            change.action != "update"
            or entry is None
            or entry.kind == "dir"
            or (change.service or "host") in allowed.overwrite
        ):
            continue
        written = known.get(change.path)
        if written and written.get("sha256") == change.observed:
            continue
        if change.path == baseline.DAEMON_JSON:
            continue
        what = (
            "was changed on the host since Understudy wrote it"
            if written
            else "is on the host already and Understudy did not write it"
        )
        owner = change.service or "host"
        yield (
            f"{change.path} {what}: `understudy converge --dry --diff` shows the difference; take it into your "
            f"description, or replace it with `understudy converge --overwrite {owner}`"
        )


def _downgrades(desired: Desired, survey: Survey, allowed: Allowances) -> Iterator[str]:
    containers = readable(survey, "containers") or []
    for stack in desired.stacks.values():
        live = {c["service"]: c["image"] for c in containers if c.get("project") == stack.project}
        for name, image in stack.images:
            if name in live and is_downgrade(live[name], image) and stack.service not in allowed.downgrade:
                yield (
                    f"{stack.service}: {name} runs {live[name]}, newer than the declared {image}: its data may not open in an older "
                    f"version; declare the newer one, or `understudy converge --allow-downgrade {stack.service}`"
                )


def _guard_lost(desired: Desired, survey: Survey) -> Iterator[str]:
    """A replica that could not be looked for may still be there: the guard stays until it is known to be gone."""
    written = ((survey.get("manifest") or {}).get("entries")) or {}
    if GUARD_PLAN in written and not desired.guarded and not desired.settings.peers_complete:
        yield (
            "this host has a guard because another host may own its services, and whether a replica exists at Hetzner could not be "
            "read: give HCLOUD_TOKEN, or try again when Hetzner answers (nothing was changed)"
        )


def _elsewhere(desired: Desired, survey: Survey, allowed: Allowances) -> Iterator[str]:
    """The same application already lives on the host under another project or path (protocol.md §10)."""
    containers = readable(survey, "containers") or []
    volumes = readable(survey, "volumes") or []
    ours = {stack.project for stack in desired.stacks.values()}
    for stack in desired.stacks.values():
        if stack.service in allowed.fresh or _present(stack, containers, volumes):
            continue
        other = _twin(desired, stack, [c for c in containers if c.get("project") not in ours], volumes, ours)
        if other:
            yield (
                f"{stack.service} would start empty as project {stack.project!r} in {stack.path}, but {other}: set `project:` and `path:` "
                f"to that one, or start a new one with `understudy converge --fresh {stack.service}`"
            )


def _present(
    stack: Stack, containers: Iterable[Mapping[str, Any]], volumes: Iterable[Mapping[str, Any]]
) -> bool:
    return any(item.get("project") == stack.project for item in (*containers, *volumes))


def _twin(
    desired: Desired,
    stack: Stack,
    foreign: Iterable[Mapping[str, Any]],
    volumes: Iterable[Mapping[str, Any]],
    ours: set[str],
) -> str | None:
    service = desired.catalog.services[stack.service]
    stateful = {
        parse(c.image).name
        for c in service.all_containers.values()
        if any(not m.read_only and m.kind != "tmpfs" for m in c.mounts)
    }
    ports = {p.port for c in service.all_containers.values() for p in c.ports if p.port}
    sources = {
        m.source
        for c in service.all_containers.values()
        for m in c.mounts
        if m.kind == "bind" and not m.read_only
    }
    for container in foreign:
        project, folder = container.get("project") or "none", container.get("working_dir") or "no folder"
        where = f"container {container['name']} (project {project}, {folder})"
        if {m.get("source") for m in container.get("mounts") or []} & sources:
            return f"{where} uses the same data"
        if parse(container["image"]).name in stateful:
            return f"{where} runs the same image with data of its own"
        if {int(p["port"]) for p in container.get("ports") or [] if p.get("port")} & ports:
            return f"{where} holds its port"
    names = set(service.compose.volumes) if service.compose else set()
    for volume in volumes:
        if volume.get("project") not in (None, *ours) and _volume_key(volume) in names:
            return f"volume {volume['name']} of project {volume['project']} holds data under the same name"
    return None


def _volume_key(volume: Mapping[str, Any]) -> str:
    return str((volume.get("labels") or {}).get("com.docker.compose.volume", ""))


def unmanaged(desired: Desired, survey: Survey) -> list[str]:
    """Containers on the host that no service of the catalogue describes: named, never touched."""
    ours = {stack.project for name in desired.kept if (stack := desired.stack_of(name))}
    names = (c for c in readable(survey, "containers") or [] if c.get("project") not in ours)
    return sorted(f"container {c['name']} ({c['image']})" for c in names)


def abandoned(desired: Desired, survey: Survey) -> Iterator[str]:
    """Services we brought up whose folder is gone although they still run."""
    known = ((survey.get("manifest") or {}).get("entries")) or {}
    gone = {e["service"] for e in known.values() if e.get("service")} - set(desired.kept)
    running = {c.get("project") for c in readable(survey, "containers") or []}
    for service in sorted(gone & running):
        yield (
            f"{service} still runs on the host but its folder under services/ is gone: put the folder back and run "
            f"`understudy retire {service}`, which stops it and keeps its data"
        )
