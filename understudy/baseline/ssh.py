"""sshd without passwords, and the proof that nobody was locked out by it."""

from __future__ import annotations

from ..settings import HostSettings

SSHD_DROP_IN = "/etc/ssh/sshd_config.d/10-understudy.conf"


def permit_root(settings: HostSettings) -> str:
    """Root may come in with a key while we connect as root ourselves; otherwise not at all."""
    return "prohibit-password" if settings.ssh_user == "root" else "no"


def sshd_problems(effective: str, settings: HostSettings) -> list[str]:
    """Compare the output of ``sshd -T`` with what the drop-in asks for; one sentence per difference.

    An old sshd_config without ``Include`` reads no drop-in at all: the file is there and means nothing.
    """
    lines = [line.split(None, 1) for line in effective.lower().splitlines()]
    live: dict[str, list[str]] = {}
    for line in lines:
        if len(line) == 2:
            live.setdefault(line[0], []).append(line[1].strip())
    wanted = {
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "permitrootlogin": permit_root(settings),
        "x11forwarding": "no",
    }
    found = [
        f"sshd still has {key} {live.get(key, ['unset'])[0]} instead of {value}: "
        "does /etc/ssh/sshd_config include /etc/ssh/sshd_config.d/*.conf on its first lines?"
        for key, value in wanted.items()
        if _spelling(live.get(key, ["unset"])[0]) != value
    ]
    missing = [str(port) for port in settings.ssh_ports if str(port) not in live.get("port", ["22"])]
    if missing:
        found.append(
            f"sshd does not listen on port {', '.join(missing)}, which the inventory gives as ssh_ports"
        )
    return found


def connection_faults(settings: HostSettings, *, password: bool, key_present: bool) -> list[str]:
    """Reasons why hardening this host now would lock its owner out; empty when it is safe.

    ``password``: we are connected with a password; ``key_present``: the connection user has at least
    one line in authorized_keys (or the connection itself used a key).
    """
    if key_present and not password:
        return []
    who = f"{settings.ssh_user}@{settings.name}"
    return [f"{who} has no SSH key yet: run `ssh-copy-id {who}` first, or switch the part ssh_hardening off"]


def _spelling(value: str) -> str:
    # sshd -T prints the old word for the same thing.
    return "prohibit-password" if value == "without-password" else value
