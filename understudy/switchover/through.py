"""What a switchover asks of the public side and of a replica: the tunnel's token, probes through the edge, slots."""

from __future__ import annotations

import os
import time
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

from ..agent import probe as asking
from ..agent.root import Root
from ..errors import UnderstudyError
from ..traffic import tunnels
from ..traffic.edge import Edge
from .hosts import Remote

__all__ = ["ADDRESS", "admit", "asked", "probed", "published", "tell_token"]

ADDRESS = "UNDERSTUDY_EDGE"
"""Practice only: ``http://ADDRESS:PORT`` of an edge that no DNS leads to; the name goes as the Host header."""
_TOKEN = "/etc/understudy/secrets/cloudflared/TUNNEL_TOKEN"  # noqa: S105 - a path
_WRITE = (
    f"umask 077; new={_TOKEN}.new; mkdir -p $(dirname {_TOKEN}); cat > $new && chmod 0400 $new || exit 1; "
    f"if cmp -s $new {_TOKEN}; then rm $new; echo same; else mv $new {_TOKEN} && "
    "systemctl try-restart cloudflared.service && echo written; fi"
)


def admit(edge: Edge, host: Remote, say: Callable[[str], None]) -> None:
    """Give the host the token that its tunnel has now: a fenced one is let in again. Raises UnderstudyError."""
    if tell_token(host, tunnels.token(edge, host.name)) == "written":
        say(f"{host.name} has the new token of its tunnel")


def tell_token(host: Remote, token: str) -> str:
    """ "same" or "written". The token travels on standard input. Raises UnderstudyError."""
    said = host.run(_WRITE, token, 60).strip()
    if said not in ("same", "written"):
        raise UnderstudyError(f"{host.name} did not take the token of its tunnel: converge it")
    return said


def asked(probes: Iterable[dict[str, Any]]) -> list[str]:
    """Ask once through the edge. Returns what is wrong, a sentence each."""
    requests = [_through(probe) for probe in probes]
    found = asking.run({"probes": requests}, Root())["results"]
    return [f"{one['name']}: {one['error']}" for one in found if not one["ok"]]


def _through(probe: dict[str, Any]) -> dict[str, Any]:
    practice, name = os.environ.get(ADDRESS, ""), str(probe["name"])
    path = urllib.parse.urlsplit(str(probe["url"])).path or "/"
    if practice:
        return {**probe, "url": f"{practice.rstrip('/')}{path}", "host": name, "wait": 0}
    return {**probe, "url": f"https://{name}{path}", "host": None, "wait": 0}


def probed(edge: Edge, probes: Iterable[dict[str, Any]], wait: float) -> None:
    """Ask until everything is right. Raises UnderstudyError after ``wait`` seconds."""
    wanted, until = list(probes), time.monotonic() + wait
    while wrong := asked(wanted):
        if time.monotonic() > until:
            raise UnderstudyError(f"through the edge, after {wait:g} s: {'; '.join(wrong)}")
        time.sleep(0.5)


def published(host: Remote, group: str) -> dict[str, dict[str, Any]]:
    """Service to {"name", "time", "rows"} of what the host could promote now; {} when nothing is published."""
    slots = host.ask("journey", {"group": group}, 60)["offered"]
    found: dict[str, dict[str, Any]] = slots[0]["services"] if slots and slots[0]["published"] else {}
    return found
