"""What failed probes mean, and when a person is told: pure.

Probes of public names go through the edge; one of the owner itself, where the inventory gives an address that can be
reached from here, goes past it; others go to machines of the internet that have nothing to do with either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["SETTLED", "Incident", "Seen", "cause", "look", "sentence"]

Cause = Literal["well", "own-line", "service", "services", "uplink", "host", "edge"]
NO_CONNECTION = 530
"""Cloudflare's status for a tunnel that nothing is connected to (error 1033)."""
SETTLED = 60.0
"""Seconds for which all must be well before an incident is over."""


@dataclass(frozen=True)
class Seen:
    """One probe of a public name. ``status`` None: no answer at all."""

    name: str
    ok: bool
    status: int | None


def cause(line: bool, public: Sequence[Seen], direct: bool | None) -> Cause:
    """What the probes of one moment say together.

    ``line``: something of the internet answered. ``direct``: whether the owner answers past the edge; None where nobody
    can tell. An answer of the edge itself proves this host's line, whatever the references say.
    """
    if all(one.ok for one in public):
        return "well"
    answered = [one for one in public if one.status is not None]
    if not line and not answered:
        return "own-line"
    if any(one.ok for one in public):
        return "service"
    if not answered:
        return "host" if direct is False else "edge"
    if all(one.status == NO_CONNECTION for one in answered):
        return "uplink" if direct else "host"
    return "services"


@dataclass
class Incident:
    """What is not well, since when (CLOCK_BOOTTIME), whether a person was told, and since when it is well again (0: is not)."""

    cause: Cause = "well"
    since: float = 0.0
    told: str = ""
    well: float = 0.0
    names: list[str] = field(default_factory=list)

    def kept(self) -> dict[str, Any]:
        """As it is written down."""
        return asdict(self)


def look(
    known: Incident, found: Cause, names: Sequence[str], now: float, patience: float
) -> tuple[Incident, str]:
    """The incident after one more look, and what to tell: "", "begun" or "over".

    Losses shorter than ``patience`` pass untold. While this host's own line is dead nothing is known, and nothing
    changes. A cause that becomes another one is told anew.
    """
    if found == "own-line":
        return known, ""
    if found == "well":
        if known.cause == "well":
            return Incident(), ""
        known.well = known.well or now
        over = now - known.well >= SETTLED or not known.told
        return (Incident(), "over" if known.told else "") if over else (known, "")
    since = known.since if known.cause != "well" else now
    told = known.told if known.told == found else ""
    now_is = Incident(found, since, told, 0.0, list(names))
    if now - since < patience or told:
        return now_is, ""
    now_is.told = found
    return now_is, "begun"


def sentence(group: str, owner: str, here: str, incident: Incident, seconds: float) -> str:
    """What a person reads, with the command to run."""
    long, names = f"for {seconds / 60:.0f} min", ", ".join(incident.names)
    failover = f"understudy failover --to {here} --group {group}"
    if incident.cause == "host":
        return f"{owner} has not served {group} {long}: its tunnel has no connection. If it is dead or cut off: {failover}"
    if incident.cause == "uplink":
        return (
            f"{owner} answers, and {group} has not been reached {long}: its tunnel has no connection. "
            f"`systemctl restart cloudflared` there, or {failover}"
        )
    if incident.cause == "services":
        return (
            f"{owner} is connected, and nothing of {group} has served {long} ({names}): "
            f"`understudy status --limit {owner}` says more; {failover} if it cannot be mended"
        )
    if incident.cause == "service":
        return f"{names} of {group} on {owner} has not served {long}, the rest of it does: `understudy status --limit {owner}`"
    return (
        f"no public name of {group} has answered {long}, while the internet does: the edge or the DNS is ill. A failover "
        "would not help; wait, and look at the edge's own status page"
    )
