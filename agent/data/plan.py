"""The host's protection plan, as the control machine renders it to /etc/understudy/backup.json.

No secret stands in it: credentials are named, and found by agent/data/credentials.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ..errors import AgentError, because
from ..root import Root

__all__ = [
    "PLAN",
    "CopyJob",
    "Database",
    "Disk",
    "Hook",
    "Mount",
    "Plan",
    "Repository",
    "Rule",
    "Service",
    "Tier",
    "load",
]

PLAN = "/etc/understudy/backup.json"
FORMAT = 1


@dataclass(frozen=True)
class Rule:
    """A part of a mount that is not kept: ``path`` is relative to the mount, a glob; ``class_`` as in docs/services.md.

    ``keep`` are file name patterns that survive in a cache (Immich's ``.immich``).
    """

    path: str
    class_: str
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mount:
    """A folder or file of a service. ``key`` is where it stands in a snapshot: ``volumes/NAME``,

    ``files/RELATIVE`` (below the service's folder) or ``paths/ABSOLUTE``. ``kind`` is volume or bind; ``source``
    the volume's name or the absolute host path. ``class_`` is keep, cache, media, shared or none. ``required``:
    a source that is missing is an error. ``mounted_at``: a mount point that must be mounted, "" for none.
    ``targets`` are "CONTAINER:/path" wherever it is mounted.
    """

    key: str
    kind: str
    source: str
    class_: str = "keep"
    rules: tuple[Rule, ...] = ()
    required: bool = True
    mounted_at: str = ""
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Database:
    """One database of a service. ``kind`` is sqlite, postgres, mariadb or redis.

    SQLite: ``mount`` is a mount's key and ``path`` relative to it, which may be a glob. Servers: ``project`` and
    ``container`` (the Compose service) say where the server runs, ``database`` which one ("" for all of them),
    ``user`` the superuser's name ("" for the image's own). ``data_mount`` is the key of the mount that holds the
    server's or database's own files, which the file walk leaves out. ``besides``: databases that other services name,
    where this is all of a server. ``text``: dump as SQL text (churny SQLite).
    ``roles``: role name to the credential file that holds its current password.
    """

    name: str
    kind: str
    mount: str = ""
    path: str = ""
    project: str = ""
    container: str = ""
    database: str = ""
    user: str = ""
    data_mount: str = ""
    text: bool = False
    roles: dict[str, str] = field(default_factory=dict)
    besides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hook:
    """A command inside one container (protocol.md §5). ``timeout`` in seconds."""

    service: str
    run: tuple[str, ...]
    user: str = ""
    timeout: int = 300


@dataclass(frozen=True)
class Service:
    """One unit of backup and restore: a Compose project or a part of one, a native systemd unit, or plain host paths.

    ``containers`` are the Compose services of a part; empty where the whole project is this unit.
    ``compose`` is the argv every Compose command on it begins with (empty: none); ``unit`` the systemd unit of a
    native service. ``servers`` are its Compose services that are database servers. ``config`` are absolute paths of
    its own small files (Compose files, .env) kept under ``config/`` in a snapshot. ``probes`` are requests of the
    agent's probe verb. ``version`` has the keys rule, downgrade, major_step (docs/services.md).
    """

    name: str
    group: str
    tier: str
    path: str = ""
    project: str = ""
    compose: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    unit: str = ""
    images: dict[str, str] = field(default_factory=dict)
    servers: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    databases: tuple[Database, ...] = ()
    config: tuple[str, ...] = ()
    hooks: dict[str, tuple[Hook, ...]] = field(default_factory=dict)
    probes: tuple[dict[str, Any], ...] = ()
    needs: tuple[str, ...] = ()
    quiesce: str = ""
    version: dict[str, Any] = field(default_factory=dict)
    drill: dict[str, Any] = field(default_factory=dict)
    ports: tuple[int, ...] = ()

    def mount(self, key: str) -> Mount:
        """The mount with this key. Raises KeyError."""
        return {mount.key: mount for mount in self.mounts}[key]

    def has(self, container: str) -> bool:
        """Whether a Compose service of its project is its own."""
        return not self.containers or container in self.containers


@dataclass(frozen=True)
class Disk:
    """A removable disk: any of these file system labels, mounted at ``mount`` by the agent or by the owner."""

    labels: tuple[str, ...]
    mount: str


@dataclass(frozen=True)
class Repository:
    """A place for snapshots; each move group has a restic repository of its own at ``url/GROUP``.

    ``tiers`` are the tiers whose ticks write here; ``copy_from`` names the repository it is filled from instead.
    ``tamper`` is versions, append-only or none (protocol.md §4). ``credentials`` maps a purpose (password, aws,
    rest, ssh_key, known_hosts, environment) to the name of a credential file. ``options`` are restic's ``-o``.
    Limits in KiB/s, 0 for none. ``ssh``: user@host[:port] of a server where restic speaks to rclone over SSH.
    """

    name: str
    url: str
    tamper: str = "none"
    tiers: tuple[str, ...] = ()
    copy_from: str = ""
    credentials: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    limit_upload: int = 0
    limit_download: int = 0
    disk: Disk | None = None
    ssh: str = ""

    def of(self, group: str) -> str:
        """The restic repository of a move group."""
        return f"{self.url.rstrip('/')}/{group}"


@dataclass(frozen=True)
class Tier:
    """``every`` is the time between ticks and ``timeout`` the longest a tick may take, both in seconds."""

    name: str
    every: int
    timeout: int


@dataclass(frozen=True)
class CopyJob:
    """A folder that is copied elsewhere by timer (docs/jobs.md). ``tool`` is rclone or rsync, ``mode`` sync or copy.

    ``to`` is ``REMOTE:PATH`` or ``user@host:/``; ``local``: it is a folder of this host. ``marker``: a marker file
    must stand at its root. ``limit`` as both tools write it ("4M"), "" for none; ``timeout`` in seconds.
    ``credentials`` maps config, ssh_key, known_hosts to credential files.
    """

    name: str
    source: str
    to: str
    tool: str = "rclone"
    mode: str = "sync"
    mounted: str = ""
    exclude: tuple[str, ...] = ()
    keep_days: int = 60
    max_delete: int = 50
    shrink_percent: int = 20
    limit: str = ""
    timeout: int = 6 * 3600
    marker: bool = False
    local: bool = False
    fast_list: bool = False
    port: int = 22
    credentials: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Everything the agent protects on this host."""

    host: str
    services: dict[str, Service]
    repositories: dict[str, Repository]
    tiers: dict[str, Tier]
    settings: dict[str, Any] = field(default_factory=dict)
    jobs: dict[str, CopyJob] = field(default_factory=dict)

    def of_tier(self, tier: str) -> list[Service]:
        """The services of a tier, in the plan's order."""
        return [service for service in self.services.values() if service.tier == tier]

    def running(self, project: str, container: str) -> Service | None:
        """The service that a Compose service of a project belongs to; None when the plan has none."""
        found = (s for s in self.services.values() if s.compose and s.project == project and s.has(container))
        return next(found, None)


def load(root: Root) -> Plan:
    """Read the plan. Raises AgentError when there is none, or one of another format."""
    try:
        with open(root.at(PLAN), encoding="utf-8") as stream:
            raw = json.load(stream)
    except FileNotFoundError:
        raise AgentError(f"{PLAN} is not there: converge this host with the backup part on") from None
    except OSError as error:
        raise AgentError(f"{PLAN} cannot be read: {because(error)}", "io") from error
    except ValueError as error:
        raise AgentError(f"{PLAN} is damaged ({error}): converge again", "broken") from error
    if raw.get("format") != FORMAT:
        raise AgentError(f"{PLAN} is for another version of the agent: converge again", "broken")
    return parse(raw)


def parse(raw: dict[str, Any]) -> Plan:
    """The plan from its JSON form."""
    return Plan(
        raw["host"],
        {name: _service(name, value) for name, value in raw["services"].items()},
        {name: _repository(name, value) for name, value in raw["repositories"].items()},
        {name: Tier(name, int(t["every"]), int(t["timeout"])) for name, t in raw["tiers"].items()},
        raw.get("settings") or {},
        {name: _job(name, value) for name, value in (raw.get("jobs") or {}).items()},
    )


def _service(name: str, raw: dict[str, Any]) -> Service:
    values = dict(raw)
    values["mounts"] = tuple(_mount(mount) for mount in raw.get("mounts") or ())
    values["databases"] = tuple(
        Database(**{**database, "besides": tuple(database.get("besides") or ())})
        for database in raw.get("databases") or ()
    )
    values["hooks"] = {
        moment: tuple(Hook(**{**hook, "run": tuple(hook["run"])}) for hook in hooks)
        for moment, hooks in (raw.get("hooks") or {}).items()
    }
    for key in ("compose", "containers", "servers", "config", "probes", "needs", "ports"):
        values[key] = tuple(raw.get(key) or ())
    return Service(name, **values)


def _mount(raw: dict[str, Any]) -> Mount:
    rules = tuple(Rule(r["path"], r["class"], tuple(r.get("keep") or ())) for r in raw.get("rules") or ())
    values = {key: value for key, value in raw.items() if key not in ("rules", "class", "targets")}
    targets = tuple(raw.get("targets") or ())
    return Mount(**values, targets=targets, class_=raw.get("class", "keep"), rules=rules)


def _job(name: str, raw: dict[str, Any]) -> CopyJob:
    return CopyJob(name, **{**raw, "exclude": tuple(raw.get("exclude") or ())})


def _repository(name: str, raw: dict[str, Any]) -> Repository:
    values = dict(raw)
    disk = raw.get("disk")
    values["disk"] = Disk(tuple(disk["labels"]), disk["mount"]) if disk else None
    for key in ("tiers", "options"):
        values[key] = tuple(raw.get(key) or ())
    return Repository(name, **values)
