"""The plan's probes, put to the scratch copy instead of the live service."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["PATIENCE", "Question", "questions", "rewritten"]

PATIENCE = 120.0
"""Seconds that a probe is repeated for: the copy has just started."""

Question = tuple[str, int, dict[str, Any]]
"""Compose service, port inside its container, the probe."""


def questions(
    probes: Sequence[Mapping[str, Any]], doors: Mapping[int, tuple[str, int]], hosts: Sequence[str]
) -> tuple[list[Question], list[str]]:
    """Where each probe leads inside the project, and the names of those that lead nowhere in it.

    ``doors``: published port to service and port; ``hosts``: services that live in the host's network, where the
    port on the host is their own.
    """
    found: list[Question] = []
    lost: list[str] = []
    for probe in probes:
        port = _port(str(probe.get("url") or ""))
        if port is not None and port in doors:
            found.append((*doors[port], dict(probe)))
        elif port is not None and len(hosts) == 1:
            found.append((hosts[0], port, dict(probe)))
        else:
            lost.append(str(probe.get("name") or probe.get("url")))
    return found, lost


def _port(url: str) -> int | None:
    try:
        place = urllib.parse.urlsplit(url)
        return place.port or (80 if place.scheme == "http" else None)
    except ValueError:
        return None


def rewritten(probe: Mapping[str, Any], address: str, port: int) -> dict[str, Any]:
    """The same request to another address; the application sees the host name that it knows."""
    place = urllib.parse.urlsplit(str(probe["url"]))
    patient = max(float(probe.get("wait") or 0), PATIENCE)
    return {
        **probe,
        "url": place._replace(netloc=f"{address}:{port}").geturl(),
        "host": probe.get("host") or place.netloc,
        "wait": patient,
    }
