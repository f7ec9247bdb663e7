"""Units that must run, and the host's own tools that check our files before they go live."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from .. import firewall
from ..desired import UnitWish, Validator
from ..settings import HostSettings
from .daemon import DAEMON_JSON
from .ssh import SSHD_DROP_IN

TIME_DAEMONS = ("chrony", "ntp", "ntpsec", "openntpd")


def other_time_daemon(installed: Collection[str]) -> str:
    """The clock service the owner chose, "" for none. Installing ours would remove it."""
    return next((name for name in TIME_DAEMONS if name in installed), "")


def units(settings: HostSettings, *, agent: bool = False, installed: Collection[str] = ()) -> list[UnitWish]:
    """Units to enable, and start where that is safe. ``installed``: Debian package names on the host.

    The firewall's unit is not here: firewall.disarm_command enables it once a ruleset has proven itself.
    """
    return list(_units(settings, agent, installed))


def _units(settings: HostSettings, agent: bool, installed: Collection[str]) -> Iterator[UnitWish]:
    parts = settings.parts
    if agent:
        yield UnitWish("understudy-recover.service", running=False)
    if parts.docker:
        yield UnitWish("docker.service")
    if parts.system and not other_time_daemon(installed):
        # Its own condition holds it back in a container, where the clock is the machine's.
        yield UnitWish("systemd-timesyncd.service", may_be_skipped=True)
    if parts.updates:
        yield UnitWish("apt-daily.timer")
        yield UnitWish("apt-daily-upgrade.timer")
    if settings.fail2ban:
        yield UnitWish("fail2ban.service")


def validators(settings: HostSettings, *, agent: bool = False) -> list[Validator]:
    """Checks of the staged files; ``{stage}`` is the staged tree's root."""
    return list(_validators(settings, agent))


def _validators(settings: HostSettings, agent: bool) -> Iterator[Validator]:
    parts = settings.parts
    if parts.docker:
        yield Validator(
            "dockerd --validate",
            ("dockerd", "--validate", f"--config-file={{stage}}{DAEMON_JSON}"),
            (DAEMON_JSON,),
        )
    if parts.ssh_hardening:
        # A socket-activated sshd has no /run/sshd until its first connection, and -t insists on it.
        script = f"mkdir -p -m 0755 /run/sshd && /usr/sbin/sshd -t -f '{{stage}}{SSHD_DROP_IN}'"
        yield Validator("sshd -t", ("sh", "-c", script), (SSHD_DROP_IN,))
    if parts.updates:
        apt = "/etc/apt/apt.conf.d/52understudy"
        yield Validator("apt-config", ("apt-config", "-c", f"{{stage}}{apt}", "shell"), (apt,))
    if parts.firewall:
        yield Validator(
            "nft --check", ("nft", "--check", "--file", f"{{stage}}{firewall.RULESET}"), (firewall.RULESET,)
        )
        yield _unit(firewall.UNIT)
    if agent:
        yield _unit("understudy-recover.service")


def _unit(name: str) -> Validator:
    path = f"/etc/systemd/system/{name}"
    argv = ("systemd-analyze", "verify", "--recursive-errors=no", f"{{stage}}{path}")
    return Validator(f"systemd-analyze verify ({name})", argv, (path,))
