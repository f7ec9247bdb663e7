"""What an owner may write about a service: the schema of ``x-understudy`` and ``understudy.yaml``.

Every key is optional; an unknown key is an error. design.md ("One service") is the source of the
names; docs/services.md explains each to an owner.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

DataClass = Literal["keep", "cache", "media", "shared", "none"]
Tier = Literal["critical", "important", "optional"]
Generate = Literal["alnum32", "hex32", "hex64", "base64-32", "none"]
NAME = re.compile(r"^[a-z0-9][a-z0-9_-]*$")
LABEL = re.compile(r"^(@|[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)$")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Model(BaseModel):
    """Strict base: unknown keys are refused so that a typing error never silently changes nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Probe(Model):
    """An HTTP request and what its answer must contain. A status alone is not proof (I-52)."""

    to: str | None = None
    path: str = "/"
    method: Literal["GET", "POST", "HEAD", "PUT"] = "GET"
    body: str | None = None
    headers: dict[str, str] = {}
    status: list[int] = [200]
    text: str | None = None
    json_: dict[str, Any] = Field(default={}, alias="json")
    content_type: str | None = None
    timeout: float = 10.0
    wait: float = 120.0

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        if not path.startswith("/"):
            raise ValueError("must start with /")
        return path

    @property
    def checks_content(self) -> bool:
        """True when the probe looks at more than the status code."""
        return bool(self.text or self.json_ or self.content_type or self.method == "POST")


class Route(Model):
    """A public hostname and where the proxy sends it, with the proxy quirks that client needs."""

    host: Annotated[list[str], BeforeValidator(_as_list)]
    to: str
    probe: Probe | None = None
    compression: bool = False
    forwarded_https: bool = False
    host_header: bool = False
    bare: bool = False
    request_headers: dict[str, str] = {}
    response_headers: dict[str, str] = {}
    max_body: str | None = None
    lan: bool = False

    @field_validator("host")
    @classmethod
    def _labels(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not LABEL.match(host):
                raise ValueError(f"{host!r} is not a label under the domain (use @ for the domain itself)")
        return hosts

    @field_validator("to", mode="before")
    @classmethod
    def _to(cls, to: Any) -> str:
        return str(to)


class DataRule(Model):
    """The class of a mount, with patterns that survive in a cache that is recreated empty."""

    class_: DataClass = Field(alias="class")
    keep: list[str] = []


def _data_rule(value: Any) -> Any:
    return {"class": value} if isinstance(value, str) else value


class ServerDatabase(Model):
    """A database inside a server container; ``service`` may be ``UNIT/SERVICE`` of another unit."""

    service: str
    database: str | None = None
    user: str | None = None


class RedisDatabase(Model):
    """A Redis or Valkey server that holds state."""

    service: str


class Database(Model):
    """Exactly one of the four kinds.

    For recipes: ``unless_env`` names variables that choose another database; ``optional`` is a file that many
    installations do not have.
    """

    sqlite: str | None = None
    text: bool = False
    postgres: ServerDatabase | None = None
    mariadb: ServerDatabase | None = None
    redis: RedisDatabase | None = None
    unless_env: list[str] = []
    optional: bool = False

    @model_validator(mode="after")
    def _one(self) -> Database:
        given = [
            kind for kind in ("sqlite", "postgres", "mariadb", "redis") if getattr(self, kind) is not None
        ]
        if len(given) != 1:
            raise ValueError("needs exactly one of sqlite, postgres, mariadb, redis")
        if self.text and self.sqlite is None:
            raise ValueError("text is for sqlite: the servers' dumps are stable already")
        return self

    @property
    def kind(self) -> str:
        """``sqlite``, ``postgres``, ``mariadb`` or ``redis``."""
        return next(
            kind for kind in ("sqlite", "postgres", "mariadb", "redis") if getattr(self, kind) is not None
        )


class Hook(Model):
    """A command run inside one container (protocol.md §5)."""

    service: str
    run: list[str] = Field(min_length=1)
    user: str | None = None
    timeout: int = 300


class Hooks(Model):
    """The moments at which a service may run commands of its own."""

    before_dump: list[Hook] = []
    after_dump: list[Hook] = []
    after_load: list[Hook] = []
    after_rollback: list[Hook] = []
    after_promote: list[Hook] = []


class SecretSpec(Model):
    """One secret of a service: how it is made when missing and who may read its file (0400)."""

    generate: Generate = "none"
    uid: int = 0
    gid: int = 0
    optional: bool = False
    why: str | None = None


class Requires(Model):
    """What a host must have for this service to run."""

    cpu_flags: list[str] = []
    arch: list[str] = []
    devices: list[str] = []
    mounts: list[str] = []


class Replica(Model):
    """What a replica leaves out: its hardware is rarely the primary's."""

    without: list[Literal["devices"]] = []


class Program(Model):
    """A program of the owner's own that must be on the host already, and where it comes from."""

    path: str
    source: str
    sha256: str | None = None


class Native(Model):
    """A systemd service that is not a container."""

    user: str = "root"
    exec: str
    workdir: str | None = None
    environment: dict[str, str] = {}
    credentials: list[str] = []
    environment_from_credentials: list[str] = []
    writable: list[str] = []
    ports: list[int] = []
    file: str | None = None
    packages: list[str] = []
    hardening: bool = True
    program: Program | None = None
    after: list[str] = []
    description: str | None = None


class VersionRule(Model):
    """What an application allows between versions (protocol.md §10)."""

    rule: str = ""
    downgrade: Literal["refused", "allowed"] = "refused"
    major_step: int | None = None


class Drill(Model):
    """What a scratch copy leaves out."""

    without: list[str] = []


class Common(Model):
    """Keys that a recipe and a block share; the block overrides the recipe key by key."""

    data: dict[str, Annotated[DataRule, BeforeValidator(_data_rule)]] = {}
    databases: list[Database] = []
    hooks: Hooks = Hooks()
    probe: Probe | None = None
    requires: Requires = Requires()
    drill: Drill = Drill()
    version: VersionRule = VersionRule()
    quiesce: Literal["daily"] | None = None


class Live(Model):
    """What a container ran when it was imported: a record for a rebuild, not an order."""

    image: str
    digest: str | None = None
    id: str | None = None
    version: str | None = None


class App(Common):
    """One application of several in a file: a unit of its own for backup, restore, drill and routes.

    What belongs to the file (path, secrets, profiles, the move group) stays with the file.
    """

    services: list[str] = Field(min_length=1)
    recipe: str | None = None
    tier: Tier | None = None
    needs: list[str] = []
    routes: list[Route] = []


class Block(Common):
    """The owner's block for one service."""

    recipe: str | None = None
    files: list[str] = []
    variables: dict[str, str] = {}
    env_files: dict[str, str] = {}
    anonymous: dict[str, str] = {}
    images: dict[str, Live] = {}
    project: str | None = None
    path: str | None = None
    tier: Tier = "important"
    group: str = "rest"
    needs: list[str] = []
    routes: list[Route] = []
    secrets_env: list[str] = []
    secrets: dict[str, SecretSpec] = {}
    replica: Replica = Replica()
    expose: Literal["loopback", "lan"] = "loopback"
    profiles: list[str] = []
    native: Native | None = None
    apps: dict[str, App] = {}
    reload: dict[str, list[str]] = {}
    timeout: int = 180

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        if path is not None and (not path.startswith("/") or ".." in path.split("/")):
            raise ValueError("must be an absolute path without ..")
        return path.rstrip("/") if path else path

    @field_validator("apps")
    @classmethod
    def _app_names(cls, apps: dict[str, App]) -> dict[str, App]:
        for name in apps:
            if not NAME.match(name):
                raise ValueError(
                    f"{name!r}: lower-case letters, digits, - and _ only, starting with a letter or digit"
                )
        return apps

    @field_validator("project", "group")
    @classmethod
    def _plain_name(cls, name: str | None) -> str | None:
        if name is not None and not NAME.match(name):
            raise ValueError("lower-case letters, digits, - and _ only, starting with a letter or digit")
        return name


class Recipe(Common):
    """Facts that are true of an application everywhere, chosen by image name."""

    images: list[str]
    source: list[str] = []
    checked: date | None = None
    """When its paths, variables and probe were last compared with the application's own code and documents."""
    why: str | None = None
