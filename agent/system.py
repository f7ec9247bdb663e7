"""The machine, its packages, units and users."""

from __future__ import annotations

import grp
import os
import platform
import pwd
import re
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from . import process
from .parts import Unreadable

__all__ = ["READERS", "packages", "units", "users"]

_TIMEOUT = 20
_PROPERTIES = {
    "LoadState": "load",
    "ActiveState": "active",
    "SubState": "sub",
    "UnitFileState": "enabled",
    "NeedDaemonReload": "need_daemon_reload",
    "Result": "result",
    "NRestarts": "n_restarts",
    "ExecMainStartTimestampMonotonic": "main_pid_started_monotonic",
}


def units(names: list[str]) -> dict[str, dict[str, Any]]:
    """State of each unit from one ``systemctl show``; a unit that does not exist has load "not-found".

    main_pid_started_monotonic is in microseconds of CLOCK_MONOTONIC, 0 when it never ran.
    """
    if not names:
        return {}
    wanted = ",".join(["Id", "Names", *_PROPERTIES])
    ended = process.run(["systemctl", "show", "--no-pager", f"--property={wanted}", "--", *names], _TIMEOUT)
    blocks = [_block(text) for text in re.split(r"\n\s*\n", ended.out.strip()) if text.strip()]
    if not ended.ok or len(blocks) != len(names):
        raise Unreadable(f"systemctl show: {ended.why()}")
    return {name: _unit(block) for name, block in zip(names, blocks, strict=True)}


def _block(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition("=") for line in text.splitlines())}


def _unit(block: dict[str, str]) -> dict[str, Any]:
    state: dict[str, Any] = {name: block.get(key, "") for key, name in _PROPERTIES.items()}
    state["need_daemon_reload"] = state["need_daemon_reload"] == "yes"
    for number in ("n_restarts", "main_pid_started_monotonic"):
        state[number] = int(state[number]) if state[number].isdigit() else 0
    return state


def packages(names: list[str]) -> dict[str, str | None]:
    """Installed version of each Debian package, None where it is not installed, from one ``dpkg-query``."""
    if not names:
        return {}
    form = r"${Package}\t${db:Status-Status}\t${Version}\n"
    ended = process.run(["dpkg-query", "--show", f"--showformat={form}", "--", *names], _TIMEOUT)
    # Status 1: some names are unknown, which is an answer.
    if ended.code not in (0, 1):
        raise Unreadable(f"dpkg-query: {ended.why()}")
    rows = [line.split("\t") for line in ended.out.splitlines()]
    installed = {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}
    return {name: installed.get(name.partition(":")[0]) for name in names}


def users(names: Iterable[str]) -> dict[str, dict[str, Any] | None]:
    """uid, gid and all group names of each user, None where there is no such user."""
    return {name: _account(name) for name in names}


def _account(name: str) -> dict[str, Any] | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    groups = sorted(
        group.gr_name for group in grp.getgrall() if name in group.gr_mem or group.gr_gid == entry.pw_gid
    )
    return {
        "uid": entry.pw_uid,
        "gid": entry.pw_gid,
        "groups": groups,
        "home": entry.pw_dir,
        "shell": entry.pw_shell,
    }


def _os() -> dict[str, str]:
    release = _release()
    kernel = os.uname()
    return {
        "id": release.get("ID", ""),
        "version_id": release.get("VERSION_ID", ""),
        "codename": release.get("VERSION_CODENAME", ""),
        "arch": kernel.machine,
        "kernel": kernel.release,
        "python": platform.python_version(),
        "hostname": kernel.nodename,
    }


def _release() -> dict[str, str]:
    with open("/etc/os-release", encoding="utf-8") as stream:
        return {key: value.strip("\"'") for key, _, value in (line.strip().partition("=") for line in stream)}


def _cpu_flags() -> list[str]:
    """Flags of the first processor (x86 "flags", ARM "Features")."""
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        for line in stream:
            key, _, value = line.partition(":")
            if key.strip().lower() in ("flags", "features"):
                return sorted(value.split())
    raise Unreadable("/proc/cpuinfo names no flags")


def _memory() -> int:
    with open("/proc/meminfo", encoding="utf-8") as stream:
        fields = dict(line.split(":", 1) for line in stream)
    return int(fields["MemTotal"].split()[0]) * 1024


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as stream:
        return stream.read().strip()


def _virtualization() -> str:
    """ "none", "kvm", "docker", ... as systemd names it."""
    if not shutil.which("systemd-detect-virt"):
        raise Unreadable("systemd-detect-virt is not installed")
    return process.run(["systemd-detect-virt"], _TIMEOUT).out.strip()


READERS: dict[str, Callable[[], Any]] = {
    "os": _os,
    "cpu_flags": _cpu_flags,
    "memory_bytes": _memory,
    "boot_id": _boot_id,
    "virtualization": _virtualization,
}
"""Parts of the survey that need no request."""
