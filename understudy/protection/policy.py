"""What the inventory says about backups of one host."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from . import jobs as copying

TierName = Literal["critical", "important", "optional"]
ALL_TIERS: tuple[TierName, ...] = ("critical", "important", "optional")
SCHEMES = ("s3:", "sftp:", "rclone:", "rest:", "/")
MINUTE, HOUR, DAY = 60, 3600, 86400
SHORTEST_TICK = 5 * MINUTE


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DiskSettings(_Model):
    """Removable disks that take turns: file system labels, and where the one that is plugged in is mounted."""

    labels: list[str] = Field(min_length=1)
    mount: str


class RepositorySettings(_Model):
    """One store; each move group has a restic repository of its own below ``url``.

    ``tamper``: what the store does against a thief with the host's key (docs/backups.md). ``copy_from``: filled by
    ``restic copy`` from that repository instead of by ticks. Limits in KiB/s, 0 for none.
    """

    url: str
    tamper: Literal["versions", "append-only", "none"] = "none"
    tiers: list[TierName] | None = None
    copy_from: str | None = None
    options: list[str] = []
    limit_upload: int = Field(default=0, ge=0)
    limit_download: int = Field(default=0, ge=0)
    disk: DiskSettings | None = None
    admin_url: str | None = None
    ssh: str | None = None

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        if url.startswith("b2:"):
            raise ValueError(
                "restic advises Backblaze's S3 endpoint: s3:https://s3.REGION.backblazeb2.com/BUCKET"
            )
        if not url.startswith(SCHEMES):
            raise ValueError(f"{url!r} is none of s3:, sftp:, rclone:, rest:, or an absolute path")
        if re.match(r"^rest:https?://[^/]*@", url):
            raise ValueError("the user and password belong in the secrets file, not in the address")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _filled_one_way(self) -> RepositorySettings:
        if self.copy_from and self.tiers:
            raise ValueError("give tiers (ticks write here) or copy_from, not both")
        if self.scheme == "rclone" and not self.ssh:
            raise ValueError("rclone: is for a server that starts rclone itself: give ssh USER@HOST")
        if self.disk and not self.url.startswith("/"):
            raise ValueError("disk is for a repository on a local path")
        return self

    @property
    def scheme(self) -> str:
        """``s3``, ``sftp``, ``rclone``, ``rest`` or ``local``."""
        return "local" if self.url.startswith("/") else self.url.split(":", 1)[0]

    @property
    def tamper_tested(self) -> bool:
        """Whether `repo tamper` is for this store: it promises something, and is one that can be attacked from here."""
        return self.tamper != "none" and self.scheme in ("s3", "rest")

    @property
    def written_by_ticks(self) -> list[TierName]:
        """The tiers whose ticks write here."""
        if self.copy_from:
            return []
        return list(ALL_TIERS) if self.tiers is None else self.tiers


class TierSettings(_Model):
    """Seconds between ticks and the longest one may take."""

    every: int = Field(ge=SHORTEST_TICK)
    timeout: int = Field(default=6 * HOUR, ge=MINUTE)


DEFAULT_TIERS: dict[TierName, TierSettings] = {
    "critical": TierSettings(every=15 * MINUTE, timeout=2 * HOUR),
    "important": TierSettings(every=HOUR, timeout=6 * HOUR),
    "optional": TierSettings(every=DAY, timeout=12 * HOUR),
}


class Keep(_Model):
    """How long snapshots stay (protocol.md §4): all for ``hours``, then one an hour, a day, a week."""

    hours: int = 48
    hourly_days: int = 7
    daily_days: int = 30
    weekly_days: int = 90


class Fetched(_Model):
    """A program that the control machine fetches and sends; ``sha256`` is that of the file at ``url``."""

    url: str = Field(pattern=r"^https?://")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Policy(_Model):
    """The backup policy of one host: ``backup`` in its inventory or group_data.

    ``restic``: a path on the host, or one to be fetched (protection/pinned.py); by default the distribution's, and where
    that is too old the one of programs.yaml.
    """

    repositories: dict[str, RepositorySettings] = {}
    tiers: dict[TierName, TierSettings] = {}
    keep: Keep = Keep()
    host_paths: list[str] = ["/etc", "/usr/local/bin", "/usr/local/sbin", "/var/spool/cron"]
    verify_weeks: int = Field(default=8, ge=1)
    quiesce_window: str = Field(
        default="02:00-05:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
    )
    first_backup_limit_gib: float = 10.0
    drill_budget_gib: float = 20.0
    shrink_percent: int = Field(default=20, ge=1, le=100)
    store_patience: int = Field(default=120, ge=15)  # seconds a run goes on with a store that gives nothing
    restic: str | Fetched | None = None
    jobs: dict[str, copying.JobSettings] = {}
    remotes: dict[str, copying.RemoteSettings] = {}

    @field_validator("repositories")
    @classmethod
    def _names(cls, repositories: dict[str, RepositorySettings]) -> dict[str, RepositorySettings]:
        for name, repository in repositories.items():
            if not re.match(r"^[a-z][a-z0-9-]*$", name):
                raise ValueError(f"{name!r}: lower-case letters, digits and - only")
            if repository.copy_from and repository.copy_from not in repositories:
                raise ValueError(f"{name}: copy_from names no repository {repository.copy_from!r}")
        return repositories

    @model_validator(mode="after")
    def _jobs(self) -> Policy:
        if self.jobs and not self.repositories:
            raise ValueError("jobs copy files, which is no backup: declare a repository too")
        copying.check(self.jobs, self.remotes, self.repositories)
        return self

    def tier(self, name: TierName) -> TierSettings:
        """The settings of a tier."""
        return self.tiers.get(name, DEFAULT_TIERS[name])
