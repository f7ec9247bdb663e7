"""What failed probes mean, and when a person is told: pure.

Probes of public names go through the edge; one of the owner itself, where the inventory gives an address that can be
reached from here, goes past it; others go to machines of the internet that have nothing to do with either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

__all__ = ["FAMILIES", "GAP", "SETTLED", "Incident", "Seen", "cause", "look", "sentence"]

Cause = Literal["well", "own-line", "service", "services", "uplink", "host", "edge"]
NO_CONNECTION = 530
"""Cloudflare's status for a tunnel that nothing is connected to (error 1033)."""
FAMILIES: dict[str, str] = {
    "host": "nothing", "uplink": "nothing", "services": "nothing", "service": "some", "edge": "edge",
}  # fmt: skip
"""Causes that are one loss to whoever asks: a group that is down stays down while the reason flickers."""
GAP = 120.0
"""Seconds between two looks after which nobody can say what was in between."""
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
    """What is not well. Times by CLOCK_BOOTTIME, 0 for none.

    ``kind``: of FAMILIES; ``since``: when its unbroken run began; ``told``: kinds of this incident that a person was told;
    ``well``: since when all is well again; ``last``: the look before; ``retry``: not told again before.
    """

    cause: Cause = "well"
    kind: str = ""
    since: float = 0.0
    told: list[str] = field(default_factory=list)
    well: float = 0.0
    last: float = 0.0
    retry: float = 0.0
    names: list[str] = field(default_factory=list)

    def kept(self) -> dict[str, Any]:
        """As it is written down."""
        return asdict(self)


def look(
    known: Incident, found: Cause, names: Sequence[str], now: float, patience: float
) -> tuple[Incident, str]:
    """The incident after one more look, and what to tell: "", "begun" or "over".

    Told once an unbroken run of one kind has lasted ``patience`` seconds, each kind once an incident. Looks that saw
    nothing (the own line is dead) or did not happen end a run: time nobody looked at is no loss.
    """
    kind, gap = FAMILIES.get(found, ""), bool(known.last) and now - known.last > GAP
    if found == "own-line":
        return replace(known, since=0.0, kind="", well=0.0, last=now), ""
    if found == "well":
        well = now if gap else known.well or now
        if not known.told or now - well >= SETTLED:
            return Incident(last=now), "over" if known.told else ""
        return replace(known, cause=found, kind="", since=0.0, well=well, last=now), ""
    since = known.since if known.kind == kind and known.since and not gap else now
    after = replace(known, cause=found, kind=kind, since=since, well=0.0, last=now, names=list(names))
    if kind in known.told or now - since < patience or now < known.retry:
        return after, ""
    return replace(after, told=[*known.told, kind]), "begun"


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
            f"every public name of {group} has answered with an error {long} ({names}): the services, their proxy on {owner}, or "
            f"the edge itself. `understudy status --limit {owner}` says more; only if that host cannot be mended: {failover}"
        )
    if incident.cause == "service":
        return f"{names} of {group} on {owner} has not served {long}, the rest of it does: `understudy status --limit {owner}`"
    return (
        f"no public name of {group} has answered {long}, while the internet does: the edge or the DNS is ill. A failover "
        "would not help; wait, and look at the edge's own status page"
    )
