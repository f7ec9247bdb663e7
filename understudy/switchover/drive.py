"""Drives one group's journey to its end: keeps it, does a step, keeps what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..errors import Refused, UnderstudyError
from . import machine
from .machine import Journey, Outcome, Step

__all__ = ["Driver", "Stopped", "boottime"]

_PATIENCE = 6
"""Times that a step without progress is tried again before a person is asked."""
_PAUSE = 5.0


class Stopped(UnderstudyError):
    """It cannot go on by itself; the message names the ways on."""


class Performer(Protocol):
    """Does steps. ``left``: seconds of the source's lease that are certain. Raises UnderstudyError."""

    def left(self) -> float: ...

    def perform(self, step: Step, journey: Journey) -> Outcome: ...


def boottime() -> float:
    """Seconds that also count while this machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Driver:
    """``keep`` writes the journey down wherever it is kept; ``say`` tells a person (step, text)."""

    performer: Performer
    keep: Callable[[Journey], None]
    say: Callable[[str, str], None]
    pause: Callable[[float], None] = time.sleep
    again: bool = False
    """Whether the journey was interrupted before: a fence may stand already."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """What was done: {"step", "word", "seconds", "at": seconds from the start to its end}."""
    began: float = field(default_factory=boottime)

    def run(self, journey: Journey) -> Journey:
        """To the end. Raises Stopped, or the error of a step that changed nothing that matters."""
        stuck, kept = 0, None
        while step := machine.next_step(journey, self.performer.left()):
            doing = machine.before(journey, step)
            if doing != kept:
                self._kept(doing, step)
            began = boottime()
            try:
                outcome = self.performer.perform(step, doing)
            except UnderstudyError as error:
                journey = kept = self._failed(doing, step, error)
                continue
            after = kept = machine.after(doing, step, outcome)
            self.keep(after)
            self._told(doing, after, step, outcome, boottime() - began)
            stuck = stuck + 1 if after == journey else 0
            if stuck > _PATIENCE:
                raise Stopped(f"{step} does not get on: {ways_on(after)}")
            if stuck:
                self.pause(_PAUSE)
            journey = after
        return journey

    def _kept(self, journey: Journey, step: Step) -> None:
        """Written down. Whoever is refused before the first step (another one is under way) leaves no journey behind."""
        try:
            self.keep(journey)
        except UnderstudyError as error:
            if self._begins(journey, step):
                with suppress(UnderstudyError):
                    self.keep(replace(journey, ended="taken back", why=str(error)))
                raise Refused(str(error)) from error
            raise

    def _begins(self, journey: Journey, step: Step) -> bool:
        """Whether nothing was done yet that would have to be taken back."""
        forced = journey.mode == "forced" and self.again
        return step in ("admit", "copy") and not (forced or journey.flip or journey.back)

    def _told(self, before: Journey, after: Journey, step: Step, outcome: Outcome, seconds: float) -> None:
        words = "" if outcome.word == "done" else f" {outcome.word}"
        note = f", base {after.base}" if after.base and after.base != before.base else ""
        self.say(step, f"{seconds:.1f} s{words}{note}")
        at = round(boottime() - self.began, 2)
        self.steps.append({"step": step, "word": outcome.word, "seconds": round(seconds, 2), "at": at})

    def _failed(self, journey: Journey, step: Step, error: UnderstudyError) -> Journey:
        """Before the batch, a planned switchover takes itself back; anything else waits for a person."""
        self.say(step, str(error))
        if self._begins(journey, step):
            self.keep(replace(journey, ended="taken back", why=str(error)))
            raise Refused(f"{error}; nothing was changed") from error
        if journey.back or journey.flip or journey.mode == "forced":
            raise Stopped(f"{error}\n{ways_on(journey)}") from error
        taken = replace(machine.abandon(journey), why=str(error))
        self.keep(taken)
        return taken


def ways_on(journey: Journey) -> str:
    """What a person may do now."""
    ways = ["`understudy switchover --resume` tries again"]
    if journey.flip == "won":
        if journey.mode == "planned":
            ways.append(
                f"`--resume --force` goes on without {journey.source}, whose last writes may then be lost"
            )
    else:
        ways.append("`--abort` takes it back")
    return "; ".join(ways)
