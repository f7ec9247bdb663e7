"""The protocol's promises, in every state that the model can reach; and that the model notices when a rule is broken.

The guard's table and the switchover's step machine are the product's own. tests/measure/model.py explores further.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.explore import explore
from tests.model.world import Faults, Rules, World, begin, good, steps
from understudy.agent.owner.decide import Verdict, View, decide
from understudy.agent.owner.record import Ownership
from understudy.switchover import machine
from understudy.switchover.machine import Journey, Outcome, Step

MOST = 60_000
PLANNED, FORCED = ("op", "B", False), ("op", "B", True)

WORLDS = {
    "nothing goes wrong": begin(PLANNED, writes=2),
    "an answer of the API is lost": begin(PLANNED, faults=Faults(lost=1), writes=1),
    "the control machine is killed": begin(PLANNED, faults=Faults(kill=1), writes=1),
    "resolvers say what was": begin(PLANNED, faults=Faults(stale=1), writes=1),
    "the owner is dead or cut off, and runs on": begin(FORCED, faults=Faults(cut=1), writes=1, lan=1),
}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_one_writer_nothing_lost_everything_kept_and_always_a_way_on(world: World) -> None:
    found = explore(world, steps(Rules()), good, MOST)
    assert found.complete, f"more than {MOST} states"
    assert not found.broken and not found.stuck, found.story()


def test_a_batch_that_arrives_after_the_freeze_loses_nothing() -> None:
    world = begin(PLANNED, faults=Faults(lost=1, late=1), writes=1)
    found = explore(world, steps(Rules(prompt=False)), good, MOST)
    assert found.complete and not found.broken and not found.stuck, found.story()


@pytest.mark.parametrize("kill", [0, 1])
def test_a_clock_that_is_a_sixth_off_changes_nothing(kill: int) -> None:
    """Half of what the batch must find left of a freeze. The hosts' own time of day is in no rule at all."""
    world = begin(PLANNED, faults=Faults(skew=1, kill=kill), writes=1)
    found = explore(world, steps(Rules(lease=6)), good, 4 * MOST)
    assert found.complete and not found.broken and not found.stuck, found.story()


# --- broken on purpose


def ignores_epochs(view: View, answer: Ownership | None) -> Verdict:
    """A guard that believes whatever it hears, however old."""
    return decide(replace(view, epoch=0, ran=9) if answer and answer.owner == view.host else view, answer)


def runs_when_named(view: View, answer: Ownership | None) -> Verdict:
    """A guard that does not ask whose data is here."""
    mine = answer is not None and answer.owner == view.host and answer.epoch >= view.epoch
    return Verdict("run", "named", learn=True) if mine else decide(view, answer)


def never_withdraws(journey: Journey, left: float = 0.0) -> Step | None:
    """An operator that does not look at the lease."""
    return machine.next_step(journey, 999.0)


def sends_again(journey: Journey, step: Step, outcome: Outcome) -> Journey:
    """An operator that takes a lost answer for a failure, and lets the source go on."""
    if step == "flip" and outcome.word == "unknown":
        return replace(machine.after(journey, step, Outcome("cancelled")))
    return machine.after(journey, step, outcome)


BROKEN = {
    "a guard that ignores epochs": (Rules(decide=ignores_epochs), begin(PLANNED, faults=Faults(stale=1), writes=2)),
    "a guard that runs on any data": (Rules(decide=runs_when_named, prompt=False), begin(PLANNED, faults=Faults(lost=1, late=1), writes=1)),
    "an operator that ignores the lease": (Rules(next_step=never_withdraws), begin(PLANNED, writes=1)),
    "a lost answer taken for a failure": (Rules(after=sends_again), begin(PLANNED, faults=Faults(lost=1), writes=1)),
    "no fence before a forced move": (Rules(fences=False), begin(FORCED, faults=Faults(cut=0), writes=2)),
    "a freeze that a reboot ends": (Rules(forgets_freezes=True), begin(PLANNED, faults=Faults(crash=1), writes=1)),
    "a freeze that anybody ends": (Rules(named_freezes=False), begin(PLANNED, ("oq", "B", False), writes=1)),
    "clocks a third off": (Rules(), begin(PLANNED, faults=Faults(skew=1), writes=1)),
    "grants that never end": (Rules(grants_end=False, prompt=False), begin(PLANNED, faults=Faults(lost=1, late=1), writes=1)),
    "data that is not kept aside": (Rules(keeps_aside=False), begin(FORCED, faults=Faults(cut=1), writes=1, lan=1)),
    "a batch without a condition": (Rules(conditional=False), begin(PLANNED, ("oq", "B", True), writes=1)),
}  # fmt: skip


@pytest.mark.parametrize(("rules", "world"), BROKEN.values(), ids=BROKEN)
def test_the_model_notices(rules: Rules, world: World) -> None:
    found = explore(world, steps(rules), None, 4 * MOST)
    assert found.broken, f"nothing was noticed in {found.states} states"
