"""/etc/docker/daemon.json: one file that several tools write, so ours is merged and never replaces it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import Refused, UnderstudyError
from ..settings import HostSettings

DAEMON_JSON = "/etc/docker/daemon.json"


class DaemonJsonError(UnderstudyError):
    """The live file cannot be merged; the message names it and what to do."""


def docker_keys(settings: HostSettings) -> dict[str, object]:
    """Our keys of daemon.json: containers outlive a restart of the engine, and logs have an end."""
    options = {"max-size": settings.docker_log_max_size, "max-file": str(settings.docker_log_max_files)}
    return {"live-restore": True, "log-driver": "json-file", "log-opts": options}


def merge_daemon_json(live: bytes | None, ours: Mapping[str, object]) -> bytes:
    """Put our keys over the live file's and keep all the others.

    ``live`` is the file as it is on the host, None when there is none. A live file that already says
    the same comes back byte for byte, so that nothing counts as changed. Raises DaemonJsonError for a
    file that is not a JSON object and Refused for ``iptables: false``.
    """
    present = _parse(live)
    _refuse_without_iptables({**present, **ours})
    merged = _merge(present, ours)
    if live is not None and merged == present:
        return live
    return (json.dumps(merged, indent=2) + "\n").encode()


def _parse(live: bytes | None) -> dict[str, Any]:
    if live is None or not live.strip():
        return {}
    try:
        parsed = json.loads(live)
    except UnicodeDecodeError as error:
        raise DaemonJsonError(
            f"{DAEMON_JSON} is not UTF-8 text: correct it on the host, then run again"
        ) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        message = (
            f"{DAEMON_JSON} is not valid JSON ({where}: {error.msg}): correct it on the host, then run again"
        )
        raise DaemonJsonError(message) from error
    if not isinstance(parsed, dict):
        raise DaemonJsonError(
            f"{DAEMON_JSON} holds a {type(parsed).__name__}, not an object: correct it on the host"
        )
    return parsed


def _refuse_without_iptables(keys: Mapping[str, object]) -> None:
    # Without its rules Docker publishes no port and containers have no network: the cure that once
    # made a firewall problem worse (origin.md I-03).
    for key in ("iptables", "ip6tables"):
        if keys.get(key) is False:
            raise Refused(
                f'{DAEMON_JSON} sets "{key}": false, which cuts containers off from the network: '
                "remove that line on the host (the firewall part works with Docker's own rules)"
            )


def _merge(present: dict[str, Any], ours: Mapping[str, object]) -> dict[str, Any]:
    merged: dict[str, Any] = {**present, **ours}
    driver = ours.get("log-driver")
    if "log-opts" in ours and present.get("log-driver", driver) == driver:
        # Options of another driver would keep Docker from starting, so they only survive with the driver.
        merged["log-opts"] = {**_options(present), **_options(ours)}
    return merged


def _options(keys: Mapping[str, Any]) -> dict[str, Any]:
    options = keys.get("log-opts")
    return dict(options) if isinstance(options, Mapping) else {}
