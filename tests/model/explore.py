"""An exhaustive explorer: every state that can be reached, the shortest way to one that breaks a promise, and whether

from every state there is a way on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


class Broken(Exception):
    """A promise does not hold in this step; the message says which."""


@dataclass(frozen=True)
class Event(Generic[S]):
    """One step. ``fault``: the world's doing; nobody can count on it, and nobody needs it to go on."""

    name: str
    state: S
    fault: bool = False


@dataclass
class Found(Generic[S]):
    """``states`` seen; ``broken``: the first promise that did not hold, with the way there; ``stuck``: a state with no way on."""

    states: int = 0
    broken: str = ""
    way: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    complete: bool = True

    def story(self) -> str:
        """For a failing test."""
        return f"{self.broken or 'no way on'}, after:\n  " + "\n  ".join(self.way or self.stuck)


def explore(
    start: S,
    steps: Callable[[S], Iterable[Event[S]]],
    good: Callable[[S], bool] | None = None,
    most: int = 400_000,
) -> Found[S]:
    """Breadth first. ``steps`` raises Broken inside its iteration. With ``good``: from every state one must be reachable

    by steps that are no faults."""
    found: Found[S] = Found()
    known: dict[S, int] = {start: 0}
    states, came, names, back = [start], [-1], [""], [list[int]()]
    at = 0
    while at < len(states):
        try:
            for event in steps(states[at]):
                to = known.setdefault(event.state, len(states))
                if to == len(states):
                    states.append(event.state)
                    came.append(at)
                    names.append(event.name)
                    back.append([])
                if good and not event.fault:
                    back[to].append(at)
        except Broken as broken:
            found.states, found.broken = len(states), str(broken)
            found.way = [*_way(came, names, at), "… and then the next step"]
            return found
        at += 1
        if len(states) > most:
            found.complete = False
            break
    found.states = len(states)
    if good and found.complete:
        lost = _lost(states, back, good)
        found.stuck = [] if lost is None else [*_way(came, names, lost), repr(states[lost])]
    return found


def _way(came: list[int], names: list[str], at: int) -> list[str]:
    way: list[str] = []
    while at > 0:
        way.append(names[at])
        at = came[at]
    return list(reversed(way))


def _lost(states: list[S], back: list[list[int]], good: Callable[[S], bool]) -> int | None:
    """The first state from which no good one can be reached."""
    can = {number for number, state in enumerate(states) if good(state)}
    todo = list(can)
    while todo:
        new = [before for before in back[todo.pop()] if before not in can]
        can.update(new)
        todo += new
    return next((number for number in range(len(states)) if number not in can), None)


def walk(
    start: S, steps: Callable[[S], Iterable[Event[S]]], choose: Callable[[int], int], length: int
) -> Iterator[str]:
    """One random way of at most ``length`` steps. Raises Broken."""
    state = start
    for _ in range(length):
        events = list(steps(state))
        if not events:
            return
        event = events[choose(len(events))]
        yield event.name
        state = event.state
