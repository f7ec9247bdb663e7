"""The baseline's files, as entries of the host's tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from .. import firewall
from ..jinja import render
from ..settings import HostSettings
from ..tree import Entry, Tree, directory
from .daemon import DAEMON_JSON, docker_keys, merge_daemon_json
from .ssh import SSHD_DROP_IN, permit_root

AGENT = "/usr/lib/understudy/agent.pyz"
SYSCTL_DROP_IN = "/etc/sysctl.d/99-understudy.conf"

# One value for the tunnel's UDP buffers: QUIC asks for 7.5 MB; three scripts once set three others (I-14).
UDP_BUFFER_BYTES = 8 * 1024 * 1024
SYSCTL = {
    "net.core.rmem_max": str(UDP_BUFFER_BYTES),
    "net.core.wmem_max": str(UDP_BUFFER_BYTES),
    "vm.swappiness": "10",
    "vm.overcommit_memory": "1",
    "fs.inotify.max_user_watches": "524288",
    "fs.inotify.max_user_instances": "1024",
}

# What an unattended upgrade must not touch: a new engine restarts under running containers.
KEEP_RUNNING = ("docker", "containerd", "runc")


def tree(
    settings: HostSettings,
    *,
    live_daemon_json: bytes | None = None,
    model: firewall.FirewallModel | None = None,
    agent: bytes = b"",
    os_id: str = "debian",
) -> Tree:
    """The entries as a tree; see :func:`entries`."""
    result = Tree()
    result.extend(entries(settings, live_daemon_json=live_daemon_json, model=model, agent=agent, os_id=os_id))
    return result


def entries(
    settings: HostSettings,
    *,
    live_daemon_json: bytes | None = None,
    model: firewall.FirewallModel | None = None,
    agent: bytes = b"",
    os_id: str = "debian",
) -> list[Entry]:
    """Every file and directory the baseline of this host consists of.

    ``live_daemon_json`` is the host's /etc/docker/daemon.json (None: absent); ``model`` is what the
    firewall lets in (None: SSH alone); ``agent`` is the zipapp (b"" leaves it out); ``os_id`` is ID of
    /etc/os-release. Raises DaemonJsonError or Refused for a daemon.json that cannot be merged.
    """
    found = [*_own_directories(), *_agent(agent)]
    for part, build in _PARTS.items():
        if getattr(settings.parts, part):
            found.extend(build(settings))
    if settings.parts.updates:
        found.extend(_updates(settings, os_id))
    if settings.parts.docker:
        merged = merge_daemon_json(live_daemon_json, docker_keys(settings))
        found.append(Entry(DAEMON_JSON, content=merged, reaction="docker"))
    if settings.parts.firewall:
        found.extend(firewall.entries(model or firewall.FirewallModel(tuple(settings.ssh_ports))))
    if settings.fail2ban:
        found.extend(_fail2ban(settings))
    return found


def _file(path: str, template: str, reaction: str = "", **values: object) -> Entry:
    return Entry(path, content=render(template, **values).encode(), reaction=reaction)


def _own_directories() -> Iterator[Entry]:
    yield directory("/etc/understudy")
    yield directory("/etc/understudy/secrets", 0o700)
    yield directory("/var/lib/understudy", 0o700)
    yield directory("/usr/lib/understudy")
    yield _file("/etc/tmpfiles.d/understudy.conf", "host/tmpfiles.conf.j2")


def _agent(agent: bytes) -> Iterator[Entry]:
    if agent:
        yield Entry(AGENT, mode=0o755, content=agent)
        unit = "understudy-recover.service"
        yield _file(f"/etc/systemd/system/{unit}", f"units/{unit}.j2", agent=AGENT)


def _system(settings: HostSettings) -> Iterator[Entry]:
    yield directory("/etc/systemd/journald.conf.d")
    journald = "/etc/systemd/journald.conf.d/60-understudy.conf"
    yield _file(journald, "host/journald.conf.j2", "journald", max_use=settings.journal_max_use)
    keys: Mapping[str, str] = {**SYSCTL, **settings.sysctl}
    yield _file(SYSCTL_DROP_IN, "host/sysctl.conf.j2", "sysctl", keys=keys)


def _docker(settings: HostSettings) -> Iterator[Entry]:
    yield directory("/etc/docker")


def _ssh_hardening(settings: HostSettings) -> Iterator[Entry]:
    yield _file(SSHD_DROP_IN, "host/sshd.conf.j2", "sshd", permit_root=permit_root(settings))


def _updates(settings: HostSettings, os_id: str) -> Iterator[Entry]:
    # A file of our own: 20auto-upgrades belongs to the package, and 52 is read after it.
    values = {"reboot": settings.automatic_reboot, "keep": KEEP_RUNNING, "os_id": os_id}
    yield _file("/etc/apt/apt.conf.d/52understudy", "host/apt-upgrades.conf.j2", "apt", **values)
    if os_id == "ubuntu":
        # Only Ubuntu restarts services by itself after an upgrade.
        yield directory("/etc/needrestart")
        yield directory("/etc/needrestart/conf.d")
        yield _file(
            "/etc/needrestart/conf.d/60-understudy.conf", "host/needrestart.conf.j2", keep=KEEP_RUNNING
        )


def _fail2ban(settings: HostSettings) -> Iterator[Entry]:
    values = {"ports": settings.ssh_ports, "ignore": ["127.0.0.0/8", "::1", *settings.lan_networks]}
    yield _file("/etc/fail2ban/jail.d/60-understudy.conf", "host/fail2ban.conf.j2", "fail2ban", **values)


_PARTS: dict[str, Callable[[HostSettings], Iterator[Entry]]] = {
    "system": _system,
    "docker": _docker,
    "ssh_hardening": _ssh_hardening,
}
