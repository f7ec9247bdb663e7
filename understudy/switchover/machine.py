"""The step machine of one group's switchover, pure: what was done so far in, the next step out.

Planned: admit (the target's tunnel has its token) → copy (until a round is quick) → freeze → base → stop → refresh →
promote → flip → settle → lift → probe → retire. Forced, with nothing to freeze: admit → fence → refresh → promote → flip
and on. Whoever performs a step first keeps ``before(journey, step)``, then does it, then keeps ``after(journey, step,
outcome)``; killed in between, ``resumed`` says where to go on. Every step can be done twice.

Before the batch is sent everything can be taken back (withdraw, thaw, and readmit for a source that was fenced). While
it is unknown whether it arrived, ``read`` looks and ``cancel`` claims the group for its old owner anew: of the two
batches only one can win. After it has won the way is forward: ``settle`` tells the source, ``lift`` the target. Only
where the target's grant ended before it saw itself named (the batch arrived after the freeze), ``weigh`` asks whether
the source stood still all the time. If it did, the target is given leave without end; if not, its data is the newer
one and ``return`` gives the group back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "LEASE",
    "NEEDED",
    "Journey",
    "Outcome",
    "Step",
    "abandon",
    "after",
    "before",
    "force",
    "next_step",
    "order",
    "resumed",
    "start",
]

Step = Literal[
    "copy", "freeze", "base", "stop", "fence", "refresh", "admit", "promote", "flip", "order", "point", "settle", "lift", "probe", "retire",
    "read", "cancel", "withdraw", "thaw", "weigh", "return", "readmit",
]  # fmt: skip
Mode = Literal["planned", "forced"]

LEASE = 180.0
"""Seconds for which the source is frozen."""
NEEDED: dict[str, float] = {"base": 90, "stop": 75, "refresh": 70, "promote": 65, "flip": 60, "settle": 60}
"""Seconds of the lease that must be left when a step begins: the batch is sent with a minute left (protocol.md §2)."""
QUICK = 5.0
WORTH = 0.7
"""A copy that took this much of the one before is made again; otherwise only what every copy costs is left."""
MOST_ROUNDS = 5
MOST_TRIES = 2

_PLANNED: tuple[Step, ...] = (
    "admit", "copy", "freeze", "base", "stop", "refresh", "promote", "flip", "settle", "lift", "probe", "retire",
)  # fmt: skip
# Without an edge, telling the source is what decides: until then it stands still at this step too.
_FROZEN: tuple[Step, ...] = ("freeze", "base", "stop", "refresh", "promote", "flip", "settle")
_FORCED: tuple[Step, ...] = (
    "admit",
    "fence",
    "refresh",
    "promote",
    "flip",
    "settle",
    "lift",
    "probe",
    "retire",
)


@dataclass(frozen=True)
class Journey:
    """One group on its way. ``id`` is the operator's random word, which is the claim's nonce when the flip wins.

    ``epoch`` is the one that ends. ``edge``: the names are moved by us; ``balanced``: load balancers lead to the hosts, whose
    pools are put in order once the batch has won. ``at`` is the step to do next. ``flip``: "",
    "sent", "won", "lost". ``claim``: the id of the claim that was read at the start. ``settled``: the source stood still
    until it was told. ``back``: it is to be taken back. ``ended``: "", "moved", "taken back", "lost". ``copied``:
    seconds of the last copy that was followed by another. ``tries``: how often the lease was too short.
    """

    id: str
    group: str
    source: str
    target: str
    epoch: int
    claim: str = ""
    mode: Mode = "planned"
    edge: bool = True
    balanced: bool = False
    at: Step = "admit"
    base: str = ""
    rounds: int = 0
    copied: float = 0.0
    tries: int = 0
    flip: str = ""
    settled: bool = False
    back: bool = False
    ended: str = ""
    why: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a step. ``word``: "done", or for flip, read, cancel and return: "won", "lost", "unknown", "open",
    "cancelled"; for settle and weigh: "done" (it stood still), "served", "unreachable"; for lift: "expired".
    ``base``: the snapshot that a step made or chose.
    """

    word: str = "done"
    base: str = ""
    seconds: float = 0.0


def order(journey: Journey) -> tuple[Step, ...]:
    """The steps of this journey when nothing goes wrong.

    Where the names are the owner's to move there is no batch: telling the source is what cannot be taken back, and he
    is told where to point once the target serves.
    """
    steps = _FORCED if journey.mode == "forced" else _PLANNED
    if journey.edge:
        at = steps.index("settle")
        return (*steps[:at], "order", *steps[at:]) if journey.balanced else steps
    left = [step for step in steps if step not in ("admit", "fence", "flip", "probe")]
    return (*left[:-1], "point", left[-1])


def next_step(journey: Journey, left: float = 0.0) -> Step | None:
    """The step to do now; None at the end. ``left``: seconds of the source's lease, as far as is certain."""
    if journey.ended:
        return None
    if journey.flip == "sent" and journey.at not in ("cancel",):
        return "read"
    leased = journey.mode == "planned" and not journey.flip and journey.at in order(journey)
    needed = NEEDED.get(journey.at, 0.0) if leased else 0.0
    return "withdraw" if needed and left < needed else journey.at


def before(journey: Journey, step: Step) -> Journey:
    """What is kept before a step is done: a batch that may arrive is remembered before it is sent."""
    if step == "flip":
        return replace(journey, at=step, flip="sent")
    decides = step == "settle" and not journey.edge
    return replace(journey, at=step, flip="won" if decides else journey.flip)


def after(journey: Journey, step: Step, outcome: Outcome) -> Journey:
    """What is known once a step has an outcome."""
    if step in ("flip", "read", "cancel"):
        return _after_batch(journey, step, outcome.word)
    if step == "copy" and _again(journey, outcome.seconds):
        return replace(journey, rounds=journey.rounds + 1, copied=outcome.seconds)
    if step == "withdraw":
        return replace(journey, at="thaw")
    if step in ("thaw", "readmit"):
        return _after_thaw(journey, step)
    if step == "settle" and journey.edge:
        return replace(journey, at="lift", settled=journey.settled or outcome.word == "done")
    if step == "lift" and outcome.word == "expired":
        # With leave it would run if its data were ours: then another switchover has put its own there.
        return replace(journey, at="promote" if journey.settled else "weigh")
    if step in ("settle", "weigh"):
        return _after_weigh(journey, outcome.word)
    if step == "return":
        return _after_return(journey, outcome.word)
    if step == "retire":
        return replace(journey, ended="moved")
    return replace(journey, at=_following(journey, step), base=outcome.base or journey.base)


def _again(journey: Journey, seconds: float) -> bool:
    """Whether one more copy would make what is left for the freeze smaller."""
    shrinks = not journey.copied or seconds < WORTH * journey.copied
    return seconds > QUICK and shrinks and journey.rounds + 1 < MOST_ROUNDS


def _following(journey: Journey, step: Step) -> Step:
    if journey.flip == "won" and step in ("fence", "promote"):
        return "weigh" if step == "fence" else "lift"
    steps = order(journey)
    return steps[steps.index(step) + 1]


def _after_batch(journey: Journey, step: Step, word: str) -> Journey:
    if word == "won":
        return replace(journey, flip="won", back=False, at="order" if journey.balanced else "settle")
    if word == "cancelled":
        why = journey.why or "the batch did not arrive in time"
        return replace(journey, flip="", back=True, at="withdraw", why=why)
    if word == "lost":
        return replace(
            journey, flip="lost", back=True, at="withdraw", why="somebody else has moved the group meanwhile"
        )
    # Unknown: look; still as it was: see to it that the batch can never arrive.
    return replace(journey, at="cancel" if step == "read" and word == "open" else "read")


def _after_thaw(journey: Journey, step: Step) -> Journey:
    if step == "thaw" and journey.mode == "forced" and journey.edge and journey.flip != "lost":
        return replace(journey, at="readmit")
    if journey.flip == "lost":
        return replace(journey, ended="lost")
    if journey.back or journey.tries + 1 >= MOST_TRIES:
        why = journey.why or "the freeze was too short for what had to be done under it"
        return replace(journey, ended="taken back", why=why)
    return replace(journey, tries=journey.tries + 1, rounds=0, copied=0.0, base="", at="copy")


def _after_weigh(journey: Journey, word: str) -> Journey:
    if word == "done" or journey.mode == "forced":
        return replace(journey, at="lift", settled=True)
    return replace(journey, at="return" if word == "served" else journey.at)


def _after_return(journey: Journey, word: str) -> Journey:
    if word == "won":
        why = f"{journey.source} had served again before the batch arrived: it has the newer data"
        return replace(journey, ended="taken back", why=why)
    return replace(journey, at="return") if word == "unknown" else replace(journey, ended="lost")


def start(journey: Journey) -> Journey:
    """At its first step."""
    return replace(journey, at=order(journey)[0])


def resumed(journey: Journey) -> Journey:
    """Where to go on after the one who drove it was killed.

    Under a lease that somebody else held nothing is certain: until the batch was sent, it begins again with the copy.
    What was frozen is thawed first, as a copy is not made of databases that stand still.
    """
    if journey.ended or journey.flip or journey.back or journey.at in ("withdraw", "thaw"):
        return journey
    if journey.mode == "planned" and journey.at in _FROZEN:
        return replace(journey, at="withdraw", tries=journey.tries - 1)
    return start(replace(journey, base="", rounds=0, copied=0.0))


def abandon(journey: Journey) -> Journey:
    """Take it back; ValueError once the batch has won."""
    if journey.flip == "won" or journey.ended == "moved":
        raise ValueError("the group has moved already: switch it back instead")
    if journey.flip == "sent":
        return replace(journey, back=True, at="read")
    # The source is let in again only after a batch of our own: whoever else has fenced it meanwhile must lose.
    first: Step = "cancel" if journey.mode == "forced" and journey.edge else "withdraw"
    return replace(journey, back=True, at=first, why="taken back on request")


def force(journey: Journey) -> Journey:
    """Go on without the source, whose last writes may be lost: it is fenced first. ValueError while it is given back."""
    if journey.at == "return":
        raise ValueError(
            f"the group goes back to {journey.source}, which has newer data; then move it with force"
        )
    if journey.flip == "won":
        return replace(journey, mode="forced", at="fence" if journey.edge else "weigh")
    return replace(journey, mode="forced", at="fence" if journey.edge else "refresh", base="")
