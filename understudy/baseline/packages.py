"""Package names by system, from understudy/platforms.yaml."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import UnderstudyError
from ..settings import HostSettings
from .system import TIME_DAEMONS, other_time_daemon

PLATFORMS = Path(__file__).resolve().parent.parent / "platforms.yaml"


class PlatformError(UnderstudyError):
    """This system cannot take a part; the message says which systems can, or what to install first."""


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(PLATFORMS.read_text(encoding="utf-8"))
    return data


def packages(
    settings: HostSettings,
    host_os: Mapping[str, Any],
    *,
    installed: Collection[str] = (),
    has_docker: bool = False,
    has_compose: bool = False,
) -> list[str]:
    """Debian packages the parts of a host need on its system, sorted.

    ``host_os``: ``{"id": "debian", "version_id": "13"}``. ``installed``: names already there;
    ``has_docker``/``has_compose``: ``docker version`` and ``docker compose version`` answer, whoever
    installed them (Docker's own packages and the distribution's exclude each other). Raises PlatformError.
    """
    found = platform(host_os)
    wanted = set(_of_parts(settings))
    if settings.parts.docker:
        wanted.update(_docker(found, installed, has_docker, has_compose))
    if other_time_daemon(installed):
        wanted.discard("systemd-timesyncd")
    return sorted(wanted)


def candidates(settings: HostSettings) -> list[str]:
    """Every package name :func:`packages` could return or has to know of: what a survey asks about."""
    wanted = {*_of_parts(settings), *TIME_DAEMONS, "docker-ce", "docker-compose-plugin"}
    for one in _data()["platforms"]:
        wanted.update(one["docker"], one["compose"])
    return sorted(wanted)


def _of_parts(settings: HostSettings) -> Iterator[str]:
    by_part: dict[str, list[str]] = _data()["parts"]
    switched_on = ["base", *settings.parts.switched_on(), *(["fail2ban"] if settings.fail2ban else [])]
    for part in switched_on:
        yield from by_part.get(part, [])


def platform(host_os: Mapping[str, Any]) -> dict[str, Any]:
    """What platforms.yaml says of a system. Raises PlatformError for one that nobody has tested."""
    known: list[dict[str, Any]] = _data()["platforms"]
    for one in known:
        if (one["id"], one["version"]) == (host_os.get("id"), host_os.get("version_id")):
            return one
    names = ", ".join(one["name"] for one in known)
    given = f"{host_os.get('id') or 'an unknown system'} {host_os.get('version_id') or ''}".strip()
    raise PlatformError(f"this host runs {given}, which is not supported: use one of {names}")


def _docker(
    platform: dict[str, Any], installed: Collection[str], has_docker: bool, has_compose: bool
) -> list[str]:
    if has_docker and has_compose:
        return []
    if "docker-ce" in installed:
        return ["docker-compose-plugin"]
    if not platform["compose"]:
        raise PlatformError(
            f"{platform['name']} has no package of Docker Compose v2: install Docker and its Compose plugin "
            "from Docker's own repository first, then run again"
        )
    engine: list[str] = [] if has_docker else platform["docker"]
    compose: list[str] = [] if has_compose else platform["compose"]
    return [*engine, *compose]
