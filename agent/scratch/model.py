"""From a live project's resolved Compose model to a scratch one. Pure: nothing here looks at the host.

What a scratch service may have is a list of what is harmless; anything else, known or not yet invented, is left
out (protocol.md §7). The result is checked again, apart from this code, by agent/scratch/refusal.py.

The model is what ``docker compose config --format json`` prints, in which each ``$`` of a value stands as ``$$``;
values pass through as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BRIDGE",
    "CAPABILITIES",
    "KEPT",
    "NETWORK",
    "PREFIX",
    "Places",
    "Scratch",
    "Wanted",
    "adopt",
    "bridge_of",
    "doors",
    "left_out",
    "plain",
    "project_of",
    "rewrite",
    "wanted",
]

PREFIX = "understudy-drill-"
NETWORK = "drill"
BRIDGE = "udrill-"

# Only these keys of a service pass; volumes, networks, secrets and the like are made anew below.
KEPT = frozenset(
    {
        *("command", "entrypoint", "environment", "image", "init", "platform", "read_only", "tmpfs", "tty"),
        *(
            "stdin_open",
            "stop_signal",
            "user",
            "group_add",
            "working_dir",
            "domainname",
            "hostname",
            "healthcheck",
        ),
        *(
            "cpu_count",
            "cpu_period",
            "cpu_quota",
            "cpu_shares",
            "cpus",
            "cpuset",
            "shm_size",
            "ulimits",
            "cap_drop",
        ),
        *("mem_limit", "mem_reservation", "mem_swappiness", "memswap_limit", "pids_limit"),
    }
)
# What Docker gives any container: taken back by ``cap_drop: ALL``, single ones may be named again.
CAPABILITIES = frozenset(
    {
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"),
        *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    }
)
_FILES = ("secrets", "configs")
_NO_NEW = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")
# Kernel trees and run-time sockets: never data, and the way out of a container.
_NEVER = ("/dev", "/proc", "/sys", "/run", "/var/run", "/boot", "/lib/modules")
_SIDECAR = re.compile(
    r"(?<![a-z])(cron|crond|crontab|supercronic|ofelia|scheduler|mail|mailer|mailserver|smtp|postfix|exim4?|msmtpd?"
    r"|watchtower|diun|autoheal|cloudflared|tunnel|ddns|ddclient|backup|backups)(?![a-z])"
)


@dataclass
class Wanted:
    """What a model mounts. ``binds``: host path to whether all who mount it only read it. ``volumes``: the model's

    name to Docker's. ``files``: ``secrets/NAME`` or ``configs/NAME`` to the host path.
    """

    binds: dict[str, bool] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


@dataclass
class Places:
    """Where each source of ``Wanted`` lies in the scratch copy: real paths. A source that is not here is left out."""

    binds: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


@dataclass
class Scratch:
    """``model`` is ready to be written. ``dropped``: sentences about what was taken away and may be missed."""

    model: dict[str, Any]
    dropped: list[str] = field(default_factory=list)


def project_of(service: str) -> str:
    """The scratch project's name."""
    return PREFIX + re.sub(r"[^a-z0-9_-]", "-", service.lower())


def bridge_of(service: str) -> str:
    """The network interface of the scratch project on the host; its name has 15 characters at most."""
    return BRIDGE + hashlib.sha256(service.encode()).hexdigest()[:8]


def plain(text: str) -> str:
    """A value of the model as it is meant."""
    return text.replace("$$", "$")


def _escaped(text: str) -> str:
    return text.replace("$", "$$")


def left_out(
    model: Mapping[str, Any], without: Iterable[str], servers: Collection[str], probed: Collection[str]
) -> dict[str, str]:
    """Compose services that are not started, and why. ``without`` may also name things that are no services."""
    named = set(without)
    found = {}
    for name, service in _services(model).items():
        if name in named:
            found[name] = "left out as declared"
        elif name not in servers and name not in probed and _is_sidecar(name, service):
            found[name] = "left out: a copy must not send mail, run jobs or open tunnels"
    return found


def _is_sidecar(name: str, service: Mapping[str, Any]) -> bool:
    image = str(service.get("image") or "").rpartition("/")[2].partition(":")[0]
    words = [name, image, *_argv(service.get("entrypoint")), *_argv(service.get("command"))[:2]]
    return any(_SIDECAR.search(word.lower()) for word in words if " " not in word and "@" not in word)


def _argv(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(word) for word in value or ()]


def wanted(model: Mapping[str, Any], leave: Collection[str] = ()) -> Wanted:
    """What the services that are started mount and read."""
    found = Wanted()
    started = {name: s for name, s in _services(model).items() if name not in leave}
    for service in started.values():
        for mount in _mounts(service):
            source = plain(str(mount["source"]))
            if mount["type"] == "bind" and not _never(source):
                read_only = bool(mount.get("read_only"))
                found.binds[source] = found.binds.get(source, True) and read_only
            elif mount["type"] == "volume":
                declared = (model.get("volumes") or {}).get(mount["source"]) or {}
                found.volumes[str(mount["source"])] = plain(str(declared.get("name") or mount["source"]))
    for kind, name in _granted(started.values()):
        declared = (model.get(kind) or {}).get(name) or {}
        if declared.get("file"):
            found.files[f"{kind}/{name}"] = plain(str(declared["file"]))
    return found


def _services(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: service or {} for name, service in (model.get("services") or {}).items()}


def _mounts(service: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Binds and named volumes; anonymous ones have no source."""
    for mount in service.get("volumes") or ():
        if isinstance(mount, dict) and mount.get("type") in ("bind", "volume") and mount.get("source"):
            yield mount


def _never(source: str) -> bool:
    path = source.rstrip("/")
    return not path.startswith("/") or any(path == n or path.startswith(f"{n}/") for n in _NEVER)


def _granted(services: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """("secrets" | "configs", name) of everything that services read."""
    for service in services:
        for kind in _FILES:
            for entry in service.get(kind) or ():
                yield kind, entry if isinstance(entry, str) else str(entry.get("source"))


def doors(model: Mapping[str, Any]) -> tuple[dict[int, tuple[str, int]], list[str]]:
    """Published TCP port on the host to (Compose service, port inside); and the services in the host's network."""
    found: dict[int, tuple[str, int]] = {}
    for name, service in _services(model).items():
        for port in service.get("ports") or ():
            if not isinstance(port, dict) or port.get("protocol", "tcp") != "tcp":
                continue
            published, target = str(port.get("published") or ""), str(port.get("target") or "")
            if published.isdigit() and target.isdigit():
                found[int(published)] = (name, int(target))
    hosts = [name for name, service in _services(model).items() if service.get("network_mode") == "host"]
    return found, hosts


def adopt(model: Mapping[str, Any], other: Mapping[str, Any], container: str) -> tuple[dict[str, Any], str]:
    """The model with one service of another project's in it: a database server that it shares. Also its new name.

    Nothing else of the other project comes with it, and it answers to the names that it had.
    """
    project, old = str(other.get("name") or "other"), _services(other)[container]
    name = container if container not in _services(model) else f"{project}-{container}"
    merged = {**model, "services": _services(model)}
    service = {
        **old,
        "image": old.get("image") or f"{project}-{container}",
        "networks": {"": {"aliases": [container, *_names(old)]}},
        "depends_on": {},
        "volumes": [
            {**mount, "source": _taken(merged, other, "volumes", name, mount["source"])}
            if isinstance(mount, dict) and mount.get("type") == "volume" and mount.get("source")
            else mount
            for mount in old.get("volumes") or ()
        ],
    }
    for kind in _FILES:
        grants = [{"source": e, "target": e} if isinstance(e, str) else dict(e) for e in old.get(kind) or ()]
        service[kind] = [
            {"target": g["source"], **g, "source": _taken(merged, other, kind, name, g["source"])}
            for g in grants
        ]
    merged["services"][name] = {key: value for key, value in service.items() if key != "network_mode"}
    return merged, name


def _taken(merged: dict[str, Any], other: Mapping[str, Any], kind: str, name: str, source: str) -> str:
    """Copy a declaration of another model under a name that is free; returns the name."""
    alias = f"{name}__{source}"
    merged[kind] = {**(merged.get(kind) or {}), alias: (other.get(kind) or {}).get(source) or {}}
    return alias


def rewrite(
    model: Mapping[str, Any], project: str, bridge: str, places: Places, leave: Collection[str] = ()
) -> Scratch:
    """The scratch project: services of ``model`` but ``leave``, cut off from everything but ``places``.

    ``project`` is its name, ``bridge`` the network interface on the host (at most 15 characters).
    """
    started = {name: s for name, s in _services(model).items() if name not in leave}
    dropped: list[str] = []
    live = str(model.get("name") or "")
    inline = {
        f"{k}/{n}": d["content"]
        for k in _FILES
        for n, d in (model.get(k) or {}).items()
        if "content" in (d or {})
    }
    files = {
        **{source: {"content": content} for source, content in inline.items()},
        **{source: {"file": _escaped(path)} for source, path in places.files.items()},
    }
    services = {name: _service(name, live, started, places, files, dropped) for name in started}
    for name, alias in _links(started):
        if "networks" in services[name]:
            services[name]["networks"] = {NETWORK: {"aliases": sorted({*_aliases(services[name]), alias})}}
    found: dict[str, Any] = {"name": project, "services": services, "networks": _networks(bridge)}
    volumes = {name: _volume(path) for name, path in places.volumes.items() if _uses(services, name)}
    if volumes:
        found["volumes"] = volumes
    for kind in _FILES:
        kept = {name: files[f"{kind}/{name}"] for k, name in _granted(services.values()) if k == kind}
        if kept:
            found[kind] = kept
    return Scratch(found, dropped)


def _networks(bridge: str) -> dict[str, Any]:
    return {
        NETWORK: {
            "driver": "bridge",
            "internal": True,
            "enable_ipv6": False,
            "driver_opts": {"com.docker.network.bridge.name": bridge},
        }
    }


def _volume(path: str) -> dict[str, Any]:
    """A named volume stays one, as Docker fills only volumes with what the image has in their place."""
    return {"driver": "local", "driver_opts": {"type": "none", "o": "bind", "device": _escaped(path)}}


def _service(
    name: str,
    live: str,
    started: Mapping[str, dict[str, Any]],
    places: Places,
    files: Collection[str],
    dropped: list[str],
) -> dict[str, Any]:
    old = started[name]
    new = {key: value for key, value in old.items() if key in KEPT and value is not None}
    new.setdefault("image", f"{live}-{name}")  # what Compose calls an image it built itself
    new |= {
        "restart": "no",
        "pull_policy": "never",
        # What runs here only proves something: it dies first when memory is short, and logs to this host alone.
        "oom_score_adj": 1000,
        "logging": {"driver": "json-file", "options": {"max-size": "1m", "max-file": "1"}},
    }
    new |= _network(old, started, name)
    optional = {
        "volumes": list(_volumes(name, old, places, dropped)),
        "volumes_from": _volumes_from(old, started),
        "depends_on": _depends(old, started),
        "secrets": list(_grants(old, "secrets", name, files, dropped)),
        "configs": list(_grants(old, "configs", name, files, dropped)),
        "cap_add": sorted(c for c in map(_capability, old.get("cap_add") or ()) if c in CAPABILITIES),
        "security_opt": [o for o in old.get("security_opt") or () if o in _NO_NEW],
        "deploy": _deploy(old),
    }
    new |= {key: value for key, value in optional.items() if value}
    dropped += [f"{name}: without {what}" for what in _missed(old)]
    return new


def _capability(name: object) -> str:
    return str(name).upper().removeprefix("CAP_")


def _missed(old: Mapping[str, Any]) -> Iterator[str]:
    """What an application may stumble over when it is gone."""
    for key in ("devices", "gpus", "privileged", "sysctls", "extra_hosts", "external_links", "runtime"):
        if old.get(key):
            yield key
    if old.get("network_mode") == "host":
        yield "the host's network"
    more = sorted(c for c in map(_capability, old.get("cap_add") or ()) if c not in CAPABILITIES)
    if more:
        yield f"capabilities {', '.join(more)}"


def _network(old: Mapping[str, Any], started: Mapping[str, Any], name: str) -> dict[str, Any]:
    mode = str(old.get("network_mode") or "")
    if mode == "none":
        return {"network_mode": "none"}
    kind, _, shared = mode.partition(":")
    if kind == "service" and shared in started and shared != name:
        return {"network_mode": mode}
    # Names outside are answered by nobody, at once: an old engine would ask the host's resolver for them.
    aliases = sorted({alias for alias in _names(old) if alias != name})
    return {"networks": {NETWORK: {"aliases": aliases} if aliases else {}}, "dns": ["127.0.0.1"]}


def _names(old: Mapping[str, Any]) -> list[str]:
    """What others in the project may call it."""
    names = [str(old["container_name"])] if old.get("container_name") else []
    networks = old.get("networks")
    for network in networks.values() if isinstance(networks, dict) else ():
        names += [str(alias) for alias in (network or {}).get("aliases") or ()]
    return names


def _links(started: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for service in started.values():
        for link in service.get("links") or ():
            name, _, alias = str(link).partition(":")
            if alias and name in started:
                yield name, alias


def _aliases(new: Mapping[str, Any]) -> list[str]:
    return list((new["networks"][NETWORK] or {}).get("aliases") or ())


def _volumes(
    name: str, old: Mapping[str, Any], places: Places, dropped: list[str]
) -> Iterator[dict[str, Any]]:
    for mount in old.get("volumes") or ():
        kind = mount.get("type") if isinstance(mount, dict) else None
        if kind == "bind":
            new = _bind(mount, places)
        elif kind == "volume":
            new = _named(mount, places)
        elif kind == "tmpfs":
            new = {key: mount[key] for key in ("type", "target", "tmpfs", "read_only") if key in mount}
        else:
            new = None
        if new is not None:
            yield new
        elif isinstance(mount, dict):
            dropped.append(f"{name}: without {plain(str(mount.get('source') or mount.get('target')))}")


def _bind(mount: Mapping[str, Any], places: Places) -> dict[str, Any] | None:
    source = plain(str(mount.get("source")))
    path = None if _never(source) else places.binds.get(source)
    if path is None:
        return None
    new = {key: mount[key] for key in ("type", "target", "read_only") if key in mount}
    return {**new, "source": _escaped(path), "bind": {"create_host_path": False}}


def _named(mount: Mapping[str, Any], places: Places) -> dict[str, Any] | None:
    new = {key: mount[key] for key in ("type", "source", "target", "read_only") if mount.get(key)}
    options = {
        key: mount["volume"][key] for key in ("nocopy", "subpath") if (mount.get("volume") or {}).get(key)
    }
    if mount.get("source") and mount["source"] not in places.volumes:
        return None
    return {**new, **({"volume": options} if options else {})}


def _uses(services: Mapping[str, Any], volume: str) -> bool:
    return any(
        m.get("type") == "volume" and m.get("source") == volume
        for service in services.values()
        for m in service.get("volumes") or ()
    )


def _volumes_from(old: Mapping[str, Any], started: Collection[str]) -> list[str]:
    entries = [str(entry) for entry in old.get("volumes_from") or ()]
    return [e for e in entries if not e.startswith("container:") and e.partition(":")[0] in started]


def _depends(old: Mapping[str, Any], started: Collection[str]) -> dict[str, Any]:
    depends = old.get("depends_on") or {}
    if not isinstance(depends, dict):
        depends = {name: {"condition": "service_started"} for name in depends}
    keys = ("condition", "required")
    return {
        name: {key: value for key, value in (rule or {}).items() if key in keys}
        for name, rule in depends.items()
        if name in started
    }


def _grants(
    old: Mapping[str, Any], kind: str, name: str, files: Collection[str], dropped: list[str]
) -> Iterator[dict[str, Any]]:
    for entry in old.get(kind) or ():
        grant = {"source": entry} if isinstance(entry, str) else dict(entry)
        if f"{kind}/{grant.get('source')}" in files:
            yield {
                key: value
                for key, value in grant.items()
                if key in ("source", "target", "uid", "gid", "mode")
            }
        else:
            dropped.append(f"{name}: without {kind[:-1]} {grant.get('source')}")


def _deploy(old: Mapping[str, Any]) -> dict[str, Any]:
    limits = ((old.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    kept = {key: limits[key] for key in ("cpus", "memory", "pids") if limits.get(key)}
    return {"resources": {"limits": kept}} if kept else {}
