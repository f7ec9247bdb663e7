"""The files and units that protect a host: its plan, its credentials, its timers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..baseline import AGENT
from ..desired import UnitWish, Validator
from ..jinja import render
from ..tree import Entry, directory
from . import jobs as copying
from . import secrets
from .plan import plan
from .policy import ALL_TIERS, DAY, HOUR, MINUTE, Policy

if TYPE_CHECKING:
    from ..desired import Desired

PLAN = "/etc/understudy/backup.json"
UNITS = "/etc/systemd/system"
RELOAD = "systemd"
"""The reaction of a unit that nothing runs permanently: systemd reads it again, nothing restarts."""


@dataclass(frozen=True)
class Job:
    """One thing the agent does by timer. ``every`` in seconds, or ``calendar`` as systemd writes it."""

    name: str
    words: str
    description: str
    timeout: int
    every: int = 0
    calendar: str = ""
    jitter: int = MINUTE
    lift: bool = False

    @property
    def unit(self) -> str:
        """The service's unit name."""
        return f"understudy-{self.name}.service"

    @property
    def timer(self) -> str:
        """The timer's unit name."""
        return f"understudy-{self.name}.timer"


def add(result: Desired, values: Mapping[str, str]) -> None:
    """Add everything that protects this host; nothing when the part is off or no repository is declared.

    ``values`` are the secrets of ``secrets/backup.yaml``.
    """
    policy = result.settings.backup
    if not result.settings.parts.backup or not policy.repositories:
        return
    files = secrets.credential_files(policy, values)
    content = plan(result, policy, files)
    result.tree.add(*_entries(content, files, policy))
    result.service_packages += [name for name in packages(policy) if name not in result.service_packages]
    for job in jobs(policy, content):
        result.service_units.append(UnitWish(job.timer))
    result.service_units.append(UnitWish("understudy-lift.service", running=False))
    result.service_validators += _validators(policy, content)


def kept_services(result: Desired) -> set[str]:
    """Services of the host's plan."""
    entry = result.tree.entries.get(PLAN)
    return set(json.loads(entry.content)["services"]) if entry else set()


def packages(policy: Policy) -> list[str]:
    """Debian packages that backups need on the host."""
    needed = [] if policy.restic else ["restic"]  # what the host's own is replaced by: pinned.py
    remote = {repository.scheme for repository in policy.repositories.values()}
    if remote & {"sftp", "rclone"}:
        needed.append("openssh-client")
    if any(repository.copy_from for repository in policy.repositories.values()):
        needed.append("rclone")  # the way to a second S3 account in one call
    return list(dict.fromkeys([*needed, *copying.packages(policy)]))


def jobs(policy: Policy, content: Mapping[str, Any]) -> list[Job]:
    """What runs by timer on this host."""
    return list(_jobs(policy, content))


def _jobs(policy: Policy, content: Mapping[str, Any]) -> Iterator[Job]:
    used = {service["tier"] for service in content["services"].values()}
    for name in ALL_TIERS:
        if name in used:
            tier = policy.tier(name)
            yield Job(
                f"backup-{name}",
                f"backup {name}",
                f"back up the {name} tier",
                tier.timeout,
                every=tier.every,
                jitter=min(5 * MINUTE, tier.every // 15),
                lift=True,
            )
    yield Job(
        "verify",
        "verify",
        "read a part of every repository back",
        6 * HOUR,
        calendar="Sun 04:00",
        jitter=HOUR,
    )
    if "critical" in used:
        yield Job(
            "drill",
            "drill",
            "restore every critical service into a scratch copy",
            12 * HOUR,
            calendar="*-*-* 02:30",
            jitter=15 * MINUTE,
            lift=True,
        )
    if any(repository.copy_from for repository in policy.repositories.values()):
        yield Job(
            "copies", "copies", "copy snapshots to further repositories", DAY, calendar="03:00", jitter=HOUR
        )
    for title, copy in policy.jobs.items():
        # systemd's limit comes after the agent's own, which leaves a record.
        yield Job(
            f"job-{title}",
            f"jobs {title}",
            f"copy {copy.source} to {copy.to}",
            copy.timeout + 5 * MINUTE,
            calendar=copy.at,
        )


def _entries(content: Mapping[str, Any], files: Mapping[str, str], policy: Policy) -> Iterator[Entry]:
    body = json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
    yield Entry(PLAN, mode=0o600, content=body)
    yield directory(secrets.FOLDER, 0o700)
    for name, text in files.items():
        yield Entry(f"{secrets.FOLDER}/{name}", mode=0o400, content=text.encode(), secret=True)
    for job in jobs(policy, content):
        yield _unit(
            job.unit,
            "agent.service.j2",
            RELOAD,
            agent=AGENT,
            words=job.words,
            description=job.description,
            timeout=job.timeout,
            lift=job.lift,
            credentials=secrets.FOLDER,
            alarm=True,
        )
        yield _unit(
            job.timer,
            "timer.j2",
            f"unit:{job.timer}",
            unit=job.unit,
            description=job.description,
            every=job.every,
            first=2 * MINUTE,
            calendar=job.calendar,
            jitter=job.jitter,
        )
    yield _unit(
        "understudy-alarm@.service",
        "agent.service.j2",
        RELOAD,
        agent=AGENT,
        words="alarm %i",
        description="tell the owner that %i failed",
        timeout=5 * MINUTE,
        lift=False,
        credentials=secrets.FOLDER,
        alarm=False,
    )
    yield _unit("understudy-lift.service", "lift.service.j2", RELOAD, agent=AGENT)


def _unit(name: str, template: str, reaction: str, **values: object) -> Entry:
    content = render(f"backup/{template}", **values).encode()
    return Entry(f"{UNITS}/{name}", content=content, reaction=reaction)


def _validators(policy: Policy, content: Mapping[str, Any]) -> Iterator[Validator]:
    for job in jobs(policy, content):
        paths = (f"{UNITS}/{job.unit}", f"{UNITS}/{job.timer}")
        argv = ("systemd-analyze", "verify", "--recursive-errors=no", *(f"{{stage}}{path}" for path in paths))
        yield Validator(f"systemd-analyze verify ({job.timer})", argv, paths)
