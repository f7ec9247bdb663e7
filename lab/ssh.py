"""Keys, pinned host keys and commands: how the lab talks to its hosts, the same way as to real ones."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lab.settings import Settings
from lab.shell import Done, LabError, run

CONNECT_SECONDS = 5
SSHD_SECONDS = 60
BOOT_SECONDS = 90


def make_key(path: Path, comment: str) -> None:
    """An ed25519 key pair at `path` and `path`.pub, unless both are there."""
    if path.exists() and path.with_suffix(".pub").exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def known_hosts_line(address: str, public_key: str) -> str:
    """The known_hosts line that pins `public_key` (text of a .pub file) to `address`."""
    kind, key = public_key.split()[:2]
    return f"{address} {kind} {key}"


def pin_host_keys(settings: Settings, keys: dict[str, str]) -> None:
    """Writes known_hosts anew for `keys` (address -> text of the host's .pub file), atomically."""
    lines = [known_hosts_line(address, text) for address, text in sorted(keys.items())]
    write_atomically(settings.known_hosts, "".join(f"{line}\n" for line in lines))


def write_atomically(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def ssh_command(settings: Settings, address: str, *, terminal: bool = False) -> list[str]:
    """The ssh command line up to the remote command, with nothing of the user's own configuration."""
    options = {
        "UserKnownHostsFile": str(settings.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "LogLevel": "ERROR",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
    }
    flags = [flag for name, value in options.items() for flag in ("-o", f"{name}={value}")]
    return [
        "ssh",
        "-F",
        "none",
        *flags,
        "-i",
        str(settings.key),
        *(["-t"] if terminal else []),
        f"root@{address}",
    ]


def on_host(
    settings: Settings,
    address: str,
    command: str,
    *,
    stdin: str = "",
    timeout: float = 600,
    check: bool = True,
) -> Done:
    """Runs a shell command as root on the host; `timeout` is in seconds."""
    return run([*ssh_command(settings, address), command], stdin=stdin, timeout=timeout, check=check)


def wait_for_ssh(settings: Settings, address: str) -> None:
    """Returns once a login works; LabError after SSHD_SECONDS, at once for a wrong host key."""
    deadline = time.monotonic() + SSHD_SECONDS
    while True:
        done = on_host(settings, address, "true", check=False, timeout=CONNECT_SECONDS * 4)
        if done.returncode == 0:
            return
        said = done.stderr.strip()
        if "host key" in said.lower() or "Permission denied" in said or time.monotonic() > deadline:
            raise LabError(f"no login on {address} within {SSHD_SECONDS} s: {said or 'no answer'}")
        time.sleep(0.1)


# What a timer starts is not part of booting: a job that failed before must not hold a host back.
BOOTED = (
    "systemctl is-system-running --wait && exit; "
    "systemctl list-units --failed --plain --no-legend | while read -r unit rest; do "
    'systemctl -q is-enabled "${unit%.service}.timer" 2>/dev/null || echo "$unit"; done'
)


def wait_for_boot(settings: Settings, address: str) -> None:
    """Returns once systemd has started everything; LabError names the units that failed."""
    done = on_host(settings, address, BOOTED, timeout=BOOT_SECONDS)
    lines = done.stdout.split("\n")
    state, failed = lines[0].strip(), [line for line in lines[1:] if line.strip()]
    if state not in ("running", "degraded") or failed:
        raise LabError(f"the host at {address} booted {state}: {', '.join(failed) or 'no unit named'}")
