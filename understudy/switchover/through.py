"""What a switchover asks of the public side and of a replica: the tunnel's token, probes through the edge, slots."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from ..agent import probe as asking
from ..agent.root import Root
from ..errors import UnderstudyError
from ..traffic import tunnels
from ..traffic.edge import Edge
from .hosts import Remote

__all__ = ["TOKEN", "admit", "asked", "probed", "published", "tell_token"]

TOKEN = "/etc/understudy/secrets/cloudflared/TUNNEL_TOKEN"  # noqa: S105 - a path
_WRITE = (
    f"umask 077; new={TOKEN}.new; mkdir -p $(dirname {TOKEN}); cat > $new && chmod 0400 $new || exit 1; "
    f"if cmp -s $new {TOKEN}; then rm $new; echo same; else mv $new {TOKEN} && "
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


def asked(requests: Iterable[dict[str, Any]]) -> list[str]:
    """Ask once, each as probes.public makes it. Returns what is wrong, a sentence each."""
    found = asking.run({"probes": list(requests)}, Root())["results"]
    return [f"{one['name']}: {one['error']}" for one in found if not one["ok"]]


def probed(requests: Iterable[dict[str, Any]], wait: float) -> None:
    """Ask until everything is right. Raises UnderstudyError after ``wait`` seconds."""
    wanted, until = list(requests), time.monotonic() + wait
    while wrong := asked(wanted):
        if time.monotonic() > until:
            raise UnderstudyError(f"through the edge, after {wait:g} s: {'; '.join(wrong)}")
        time.sleep(0.5)


def published(host: Remote, group: str) -> dict[str, dict[str, Any]]:
    """Service to {"name", "time", "rows"} of what the host could promote now; {} when nothing is published."""
    slots = host.ask("journey", {"group": group}, 60)["offered"]
    found: dict[str, dict[str, Any]] = slots[0]["services"] if slots and slots[0]["published"] else {}
    return found
