"""Copies of folders by rclone and rsync: what the inventory says of them, and what the host gets (docs/jobs.md)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..errors import BadInput
from ..spec import SecretSpec

if TYPE_CHECKING:
    from .policy import Policy

CONFIG = "rclone.conf"
"""The one credential file that all rclone jobs read; remotes and their keys stand nowhere else."""
BUCKETS = ("s3", "b2", "swift", "google cloud storage", "azureblob", "oracleobjectstorage")
SECRETS: dict[str, tuple[str, ...]] = {
    "s3": ("access_key_id", "secret_access_key"),
    "b2": ("account", "key"),
    "azureblob": ("key",),
    "swift": ("key",),
    "google cloud storage": ("service_account_credentials",),
    "sftp": ("key_pem",),
    "webdav": ("pass",),
    "smb": ("pass",),
    "ftp": ("pass",),
    "crypt": ("password",),
    "drive": ("token",),
    "dropbox": ("token",),
    "onedrive": ("token",),
    "local": (),
}
NEVER_PLAIN = {name for names in SECRETS.values() for name in names} | {
    "password2",
    "client_secret",
    "sas_url",
}
_NAME = re.compile(r"^[a-z][a-z0-9-]*$")
_DAY = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_AT = re.compile(rf"^({_DAY}(,{_DAY})* )?([01]\d|2[0-3]):[0-5]\d$")
_ACCOUNT = re.compile(r"^([a-z_][a-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:/$")


class RemoteSettings(BaseModel):
    """A place as rclone knows it: ``type`` and plain options by rclone's own names.

    ``secret`` names the options that come from ``secrets/backup.yaml`` as REMOTE_OPTION; known types need no list.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    secret: list[str] | None = None

    @model_validator(mode="after")
    def _plain(self) -> RemoteSettings:
        for name, value in self.options().items():
            if not re.match(r"^[a-z][a-z0-9_]*$", name):
                raise ValueError(f"{name!r} is no option of rclone: lower-case letters, digits and _ only")
            if name in NEVER_PLAIN or name in (self.secret or ()):
                raise ValueError(
                    f"{name} is a secret: it belongs in secrets/backup.yaml as REMOTE_{name.upper()}"
                )
            if "\n" in value:
                raise ValueError(f"{name} has a line break")
        if self.secret is None and self.type not in SECRETS:
            raise ValueError(
                f"say which options of type {self.type!r} are secrets: secret: [NAMES], or secret: []"
            )
        return self

    def options(self) -> dict[str, str]:
        """The plain options as rclone writes them."""
        return {name: _text(value) for name, value in (self.model_extra or {}).items()}

    def secrets(self) -> list[str]:
        """Names of the options that are secrets."""
        return list(SECRETS.get(self.type, ()) if self.secret is None else self.secret)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"{value!r} is neither text nor a number")


class JobSettings(BaseModel):
    """One copy: ``source`` to ``to``, daily ``at``. docs/jobs.md says what each key means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    to: str
    tool: Literal["rclone", "rsync"] = "rclone"
    mode: Literal["sync", "copy"] = "sync"
    mounted: str = ""
    at: str = "03:00"
    keep_days: int = Field(default=60, ge=30, le=90)
    max_delete: int = Field(default=50, ge=0)
    shrink_percent: int = Field(default=20, ge=1, le=99)
    exclude: list[str] = []
    limit: str = Field(default="", pattern=r"^(\d+(\.\d+)?[KMG])?$")
    timeout: int = Field(default=6 * 3600, ge=60, le=7 * 86400)
    marker: bool | None = None
    ssh_port: int = Field(default=22, ge=1, le=65535)

    @field_validator("source", "mounted")
    @classmethod
    def _path(cls, path: str) -> str:
        if path and (not path.startswith("/") or path == "/" or posixpath.normpath(path) != path):
            raise ValueError(f"{path!r} is not a plain absolute path")
        return path

    @field_validator("at")
    @classmethod
    def _moment(cls, at: str) -> str:
        if not _AT.match(at):
            raise ValueError(f"{at!r} is no time of day: 03:00, or Sun 04:30, or Mon,Thu 02:00")
        return at

    @field_validator("exclude")
    @classmethod
    def _patterns(cls, patterns: list[str]) -> list[str]:
        if any(not pattern or "\n" in pattern for pattern in patterns):
            raise ValueError("a pattern is empty or has a line break")
        return patterns

    @model_validator(mode="after")
    def _whole(self) -> JobSettings:
        if not self.source:
            raise ValueError("source is empty")
        if self.mounted and not _within(self.source, self.mounted):
            raise ValueError(f"source {self.source} is not below mounted {self.mounted}")
        if self.tool == "rsync":
            if not _ACCOUNT.match(self.to):
                raise ValueError(
                    f"{self.to!r} is not user@host:/ (the folder is named at the receiver, beside the key)"
                )
            if self.marker is False:
                raise ValueError("rsync never writes to a folder without its marker")
        elif ":" not in self.to:
            raise ValueError(f"{self.to!r} is not REMOTE:PATH, which rclone needs")
        parts = self.path.split("/")
        if ".." in parts or ".history" in parts or "//" in self.path:
            raise ValueError(f"{self.to!r}: no .., no // and no .history, where replaced files go")
        return self

    @property
    def remote(self) -> str:
        """The remote's name, or the receiver."""
        return self.to.partition(":")[0]

    @property
    def path(self) -> str:
        """The path at the destination, without a closing slash."""
        return self.to.partition(":")[2].rstrip("/")


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/") or folder == ""


def start(name: str) -> str:
    """How the secrets of a remote or job begin: ``my-nas`` → ``MY_NAS``."""
    return name.upper().replace("-", "_")


def check(
    jobs: Mapping[str, JobSettings], remotes: Mapping[str, RemoteSettings], repositories: Iterable[str]
) -> None:
    """Whatever is only wrong together. Raises ValueError."""
    for name in [*jobs, *remotes]:
        if not _NAME.match(name):
            raise ValueError(f"{name!r}: lower-case letters, digits and - only")
    taken = {start(name): f"repository {name}" for name in repositories} | {
        "PING": "a ping",
        "ALARM": "the alarm",
    }
    for name in remotes:
        if start(name) in taken or start(name).startswith("JOB_") or name == "job":
            raise ValueError(
                f"remote {name}: {taken.get(start(name), 'a job')} has secrets of that name; rename it"
            )
    for name, job in jobs.items():
        if f"JOB_{start(name)}" in taken:
            raise ValueError(f"job {name}: repository job-{name} has secrets of that name; rename one")
        if job.tool == "rclone":
            _reachable(name, job, remotes)
    _apart(jobs)


def _reachable(name: str, job: JobSettings, remotes: Mapping[str, RemoteSettings]) -> None:
    remote = remotes.get(job.remote)
    if remote is None:
        known = ", ".join(remotes) or "none"
        raise ValueError(f"job {name}: no remote is called {job.remote!r}; backup.remotes has: {known}")
    if remote.type in BUCKETS and "/" not in job.path.strip("/"):
        raise ValueError(f"job {name}: name a folder of the bucket ({job.to}/files): beside it lies .history")
    if remote.type == "local" and (not job.path.startswith("/") or job.path.count("/") < 2):
        raise ValueError(f"job {name}: {job.to!r} needs an absolute folder that is not at the root")
    if not job.path.strip("/"):
        raise ValueError(f"job {name}: {job.to!r} names no folder")
    if remote.type == "local" and (_within(job.path, job.source) or _within(job.source, job.path)):
        raise ValueError(f"job {name}: source and destination overlap")


def _apart(jobs: Mapping[str, JobSettings]) -> None:
    """Two jobs into each other would delete each other's files."""
    names = sorted(jobs)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            one, two = jobs[name], jobs[other]
            paths = one.path.strip("/"), two.path.strip("/")
            same = one.remote == two.remote and one.tool == two.tool == "rclone"
            if same and (_within(*paths) or _within(*reversed(paths))):
                raise ValueError(f"jobs {name} and {other}: {one.to} and {two.to} overlap")


def host_specs(policy: Policy) -> dict[str, SecretSpec]:
    """Secret name to its declaration, for what jobs use."""
    specs: dict[str, SecretSpec] = {}
    for name in used_remotes(policy):
        for option in policy.remotes[name].secrets():
            why = f"option {option} of the rclone remote {name} (docs/jobs.md)"
            specs[f"{start(name)}_{option.upper()}"] = SecretSpec(why=why)
    for name, job in policy.jobs.items():
        if job.tool == "rsync":
            specs[f"JOB_{start(name)}_SSH_KEY"] = SecretSpec(
                why=f"the private SSH key with which job {name} writes to {job.remote}, and may do nothing else"
            )
            specs[f"JOB_{start(name)}_KNOWN_HOSTS"] = SecretSpec(why=f"the known_hosts line of {job.remote}")
    return specs


def used_remotes(policy: Policy) -> list[str]:
    """Remotes of the jobs of this host, and those that they wrap (crypt names another one)."""
    found = [job.remote for job in policy.jobs.values() if job.tool == "rclone"]
    for name in found:
        inner = policy.remotes[name].options().get("remote", "").partition(":")[0]
        if inner in policy.remotes and inner not in found:
            found.append(inner)
    return list(dict.fromkeys(found))


def credential_files(policy: Policy, values: Mapping[str, str]) -> dict[str, str]:
    """File name below the credential folder to its content."""
    files = {CONFIG: config(policy, values)} if used_remotes(policy) else {}
    for name, job in policy.jobs.items():
        if job.tool == "rsync":
            files[f"job-{name}-ssh-key"] = _line_end(values.get(f"JOB_{start(name)}_SSH_KEY", ""))
            files[f"job-{name}-known-hosts"] = _line_end(values.get(f"JOB_{start(name)}_KNOWN_HOSTS", ""))
    return {name: content for name, content in files.items() if content}


def config(policy: Policy, values: Mapping[str, str]) -> str:
    """rclone.conf. Raises BadInput for a value that its form cannot carry."""
    return "\n".join(_section(name, policy.remotes[name], values) for name in used_remotes(policy))


def _section(name: str, remote: RemoteSettings, values: Mapping[str, str]) -> str:
    # A host's key may not make buckets, and a misspelt name must be an error.
    given = {"no_check_bucket": "true"} if remote.type == "s3" else {}
    options = {"type": remote.type, **given, **remote.options()}
    for option in remote.secrets():
        secret = f"{start(name)}_{option.upper()}"
        if secret in values:
            options[option] = _on_one_line(secret, option, values[secret])
    return "".join([f"[{name}]\n", *(f"{option} = {value}\n" for option, value in options.items())])


def _on_one_line(secret: str, option: str, value: str) -> str:
    """A key file travels on one line, as rclone's documentation of key_pem says; nothing else has line breaks."""
    if option == "key_pem":
        return value.strip().replace("\n", "\\n")
    # rclone's reader fills %(name)s in and takes quotes and blanks at the ends off.
    spoilt = value[:1] in ('"', "`", "'") or value != value.strip(" \t") or re.search(r"%\(.*\)s", value)
    if "\n" in value.strip("\n") or spoilt:
        raise BadInput(
            f"{secret} in secrets/backup.yaml cannot stand in rclone.conf: it has a line break, %(...)s, or quotes or blanks at an end"
        )
    return value.strip("\n")


def _line_end(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def rendered(policy: Policy) -> dict[str, Any]:
    """``jobs`` of backup.json, as agent/data/plan.py reads it."""
    return {name: _entry(policy, name, job) for name, job in policy.jobs.items()}


def _entry(policy: Policy, name: str, job: JobSettings) -> dict[str, Any]:
    values = job.model_dump(exclude={"at", "marker", "ssh_port"})
    values["to"] = f"{job.remote}:{job.path}"
    values["port"] = job.ssh_port
    if job.tool == "rsync":
        keys = {"ssh_key": f"job-{name}-ssh-key", "known_hosts": f"job-{name}-known-hosts"}
        return {**values, "marker": True, "credentials": keys}
    kind = policy.remotes[job.remote].type
    local = kind == "local"
    return {
        **values,
        "local": local,
        "fast_list": kind in BUCKETS,
        "marker": local if job.marker is None else job.marker,
        "credentials": {"config": CONFIG},
    }


def packages(policy: Policy) -> list[str]:
    """Debian packages that the jobs need on the host."""
    tools = {job.tool for job in policy.jobs.values()}
    return [
        *(["rclone"] if "rclone" in tools else []),
        *(["rsync", "openssh-client"] if "rsync" in tools else []),
    ]
