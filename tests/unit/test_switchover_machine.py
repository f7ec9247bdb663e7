"""A switchover's steps: the order when all goes well, and what becomes of each way in which it does not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from understudy.errors import Refused, UnderstudyError
from understudy.switchover import journal, machine
from understudy.switchover.drive import Driver, Stopped
from understudy.switchover.machine import Journey, Outcome, Step
from understudy.switchover.refusal import Facts, reasons

START = Journey("9f3c", "critical", "lemongrab", "standby", 1, "claim-1")
PLANNED = [
    "admit", "copy", "freeze", "base", "stop", "refresh", "promote", "flip", "settle", "lift", "probe", "retire",
]  # fmt: skip


@dataclass
class Stage:
    """Does nothing and says what it is told to: ``says`` maps a step to its outcomes, one a time, or to an error."""

    says: dict[str, list[Outcome | Exception]] = field(default_factory=dict)
    lease: float = 180.0
    done: list[str] = field(default_factory=list)

    def left(self) -> float:
        return self.lease

    def perform(self, step: Step, journey: Journey) -> Outcome:
        self.done.append(step)
        waiting = self.says.get(step) or []
        said = waiting.pop(0) if waiting else Outcome("won" if step == "flip" else "done")
        if isinstance(said, Exception):
            raise said
        return said


def drive(stage: Stage, journey: Journey = START) -> tuple[Journey, list[Journey]]:
    kept: list[Journey] = []
    driver = Driver(stage, kept.append, lambda step, text: None, pause=lambda seconds: None)
    return driver.run(journey), kept


def test_a_planned_one_does_each_step_once_in_order() -> None:
    stage = Stage()
    ended, _ = drive(stage)
    assert (stage.done, ended.ended) == (PLANNED, "moved")


@pytest.mark.parametrize("mode", ["planned", "forced"])
def test_with_load_balancers_their_pools_are_put_in_order_once_the_batch_has_won(mode: Any) -> None:
    stage = Stage()
    ended, _ = drive(stage, machine.start(replace(START, mode=mode, balanced=True)))
    at = stage.done.index("flip")
    assert stage.done[at : at + 3] == ["flip", "order", "settle"] and ended.ended == "moved"
    again = Stage({"flip": [Outcome("unknown")], "read": [Outcome("won")]})
    drive(again, machine.start(replace(START, mode=mode, balanced=True)))
    assert again.done[again.done.index("read") + 1] == "order"
    plain = Stage()
    drive(plain, machine.start(replace(START, mode=mode)))
    assert "order" not in plain.done


@pytest.mark.parametrize("mode", ["planned", "forced"])
def test_who_is_refused_before_the_first_step_leaves_no_journey_behind(mode: Any) -> None:
    """The second of two operators: the target keeps the journal of the first."""
    kept: list[Journey] = []

    def keep(journey: Journey) -> None:
        kept.append(journey)
        raise UnderstudyError("another switchover is open here")

    stage = Stage()
    with pytest.raises(Refused, match="another switchover"):
        Driver(stage, keep, lambda step, text: None).run(replace(START, mode=mode))
    assert stage.done == [] and kept[-1].ended == "taken back"
    with pytest.raises((Refused, UnderstudyError)):
        Driver(stage, keep, lambda step, text: None, again=True).run(replace(START, mode=mode))
    assert (kept[-1].ended == "") is (mode == "forced")


def test_copies_go_on_until_one_is_quick() -> None:
    stage = Stage({"copy": [Outcome(seconds=40), Outcome(seconds=9), Outcome(seconds=4)]})
    drive(stage)
    assert stage.done.count("copy") == 3


def test_copies_end_when_only_what_each_one_costs_is_left() -> None:
    stage = Stage({"copy": [Outcome(seconds=40), Outcome(seconds=9), Outcome(seconds=8), Outcome(seconds=8)]})
    drive(stage)
    assert stage.done.count("copy") == 3


def test_a_forced_one_fences_before_it_promotes_and_freezes_nothing() -> None:
    stage = Stage(lease=0.0)
    ended, _ = drive(stage, Journey("9f3c", "critical", "lemongrab", "standby", 1, "claim-1", mode="forced"))
    assert stage.done == ["admit", "fence", "refresh", "promote", "flip", "settle", "lift", "probe", "retire"]
    assert ended.ended == "moved"


def test_without_a_zone_nothing_is_fenced_or_flipped_and_the_owner_is_told_last() -> None:
    stage = Stage()
    drive(stage, machine.start(machine.replace(START, edge=False)))
    assert not {"fence", "flip", "admit"} & set(stage.done)
    assert stage.done[-4:] == ["settle", "lift", "point", "retire"]


@pytest.mark.parametrize("step", ["base", "stop", "refresh", "promote", "flip"])
def test_no_step_under_the_freeze_begins_with_too_little_time_left(step: Step) -> None:
    journey = machine.replace(START, at=step, base="lemongrab:1:4")
    assert machine.next_step(journey, machine.NEEDED[step]) == step
    assert machine.next_step(journey, machine.NEEDED[step] - 0.1) == "withdraw"


def test_the_batch_is_never_sent_with_less_than_a_minute_left() -> None:
    assert machine.NEEDED["flip"] >= 60


@pytest.mark.parametrize("left", [-1e6, 0.0, 10.0])
@pytest.mark.parametrize("step", ["admit", "copy", "freeze", "withdraw", "thaw"])
def test_steps_outside_the_freeze_need_no_lease(step: Step, left: float) -> None:
    assert machine.next_step(machine.replace(START, at=step), left) == step


def test_the_journal_knows_of_the_batch_before_it_is_sent() -> None:
    _, kept = drive(Stage())
    at = [journey.flip for journey in kept if journey.at == "flip"]
    assert at == ["", "sent"]  # after promote; before the flip is done


def test_a_lost_answer_is_read_back_and_found() -> None:
    stage = Stage({"flip": [Outcome("unknown")], "read": [Outcome("won")]})
    ended, _ = drive(stage)
    assert ended.ended == "moved" and stage.done.count("flip") == 1


def test_a_batch_that_did_not_arrive_is_cancelled_before_the_source_is_thawed() -> None:
    stage = Stage({"flip": [Outcome("unknown")], "read": [Outcome("open")], "cancel": [Outcome("cancelled")]})
    ended, _ = drive(stage)
    assert stage.done[-4:] == ["read", "cancel", "withdraw", "thaw"] and ended.ended == "taken back"


def test_the_operator_who_was_too_late_changes_nothing() -> None:
    stage = Stage({"flip": [Outcome("lost")]})
    ended, _ = drive(stage)
    assert stage.done[-2:] == ["withdraw", "thaw"] and ended.ended == "lost"


def test_a_grant_that_ended_too_early_asks_whether_the_source_has_served() -> None:
    late = [Outcome("expired")]
    served = Stage(
        {
            "settle": [Outcome("served")],
            "lift": list(late),
            "weigh": [Outcome("served")],
            "return": [Outcome("won")],
        }
    )
    ended, _ = drive(served)
    assert ended.ended == "taken back" and "newer data" in ended.why
    still = Stage({"settle": [Outcome("unreachable")], "lift": list(late), "weigh": [Outcome()]})
    assert drive(still)[0].ended == "moved"


def test_a_step_that_fails_before_the_batch_takes_everything_back() -> None:
    stage = Stage({"promote": [UnderstudyError("no room")]})
    ended, _ = drive(stage)
    assert stage.done[-2:] == ["withdraw", "thaw"] and ended.why == "no room"


def test_a_first_step_that_fails_is_a_refusal_and_nothing_was_changed() -> None:
    with pytest.raises(Refused, match="nothing was changed"):
        drive(Stage({"copy": [UnderstudyError("the repository is full")]}))


def test_after_the_batch_a_failure_waits_for_a_person_who_is_told_the_ways_on() -> None:
    with pytest.raises(Stopped, match="--resume --force"):
        drive(Stage({"lift": [UnderstudyError("standby gave no answer")]}))


@pytest.mark.parametrize("edge", [True, False])
def test_killed_before_the_batch_it_begins_again_and_after_it_goes_on(edge: bool) -> None:
    begun = machine.start(replace(START, edge=edge))
    _, kept = drive(Stage(), begun)
    for journey in kept:
        stage = Stage({"read": [Outcome("won")]})
        ended, _ = drive(stage, machine.resumed(journey))
        assert ended.ended == "moved", journey
        if not journey.flip:  # no copy is made of databases that a freeze has stopped
            frozen = journey.at not in ("admit", "copy")
            anew = [step for step in PLANNED if edge or step != "admit"]
            assert stage.done[:3] == (["withdraw", "thaw", "copy"] if frozen else anew[:3])


def test_it_can_be_taken_back_until_the_batch_has_won() -> None:
    _, kept = drive(Stage())
    for journey in kept:
        if journey.flip == "won":
            with pytest.raises(ValueError, match="moved already"):
                machine.abandon(journey)
        else:
            stage = Stage({"read": [Outcome("open")], "cancel": [Outcome("cancelled")]})
            assert drive(stage, machine.abandon(journey))[0].ended == "taken back"


def test_a_journal_reads_back_what_was_written(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    journal.write(START)
    assert journal.open_journeys() == [START]
    journal.write(machine.replace(START, ended="moved"))
    assert journal.open_journeys() == []


WELL = Facts(
    "critical", "lemongrab", "standby", "lemongrab", 3, {"epoch": 3, "may": "named"}, {"epoch": 3, "may": ""}
)
NOT_SO = {
    "standby owns critical already": {"owner": "standby"},
    "standby does not answer": {"target": None, "silent": "no route"},
    "does not carry nextcloud": {"missing": ("nextcloud",)},
    "differs from its description in 4 things": {"pending": 4},
    "the zone was set back": {"epoch": 2},
    "another switchover of critical is open": {"journey": {"id": "aa", "at": "copy", "ended": ""}},
    "understudy failover --to standby": {"source": None, "source_silent": "no answer"},
    "critical does not run on lemongrab": {"source": {"epoch": 3, "may": ""}},
}


def test_nothing_speaks_against_a_switchover_between_two_hosts_that_are_well() -> None:
    assert reasons(WELL, forced=False) == [] and reasons(WELL, forced=True) == []


@pytest.mark.parametrize(("words", "change"), NOT_SO.items(), ids=NOT_SO)
def test_each_reason_names_what_is_wrong(words: str, change: dict[str, object]) -> None:
    found = reasons(machine.replace(WELL, **change), forced=False)  # type: ignore[type-var]
    assert len(found) == 1 and words in found[0]


def test_a_copy_that_is_too_old_is_not_promoted_by_force_unless_said() -> None:
    old = machine.replace(WELL, stale=("nextcloud",))
    assert "--stale" in reasons(old, forced=True)[0] and reasons(old, forced=False) == []


@pytest.mark.parametrize(
    ("deaf", "forced", "said"),
    [
        ("source", False, "no resolver has answered the guard of lemongrab for 20 min"),
        ("target", False, "no resolver has answered the guard of standby for 20 min"),
        ("target", True, "no resolver has answered the guard of standby for 20 min"),
        ("source", True, ""),
    ],
)
def test_a_guard_that_hears_nothing_is_no_base_for_a_move(deaf: str, forced: bool, said: str) -> None:
    hears = {"at": 5000.0, "silence": 10.0, "may": "named", "epoch": 3}
    both = {"source": dict(hears), "target": dict(hears)}
    both[deaf]["silence"] = 1200.0
    found = reasons(Facts("critical", "lemongrab", "standby", "lemongrab", 3, **both), forced=forced)
    assert ("; ".join(found).startswith(said) and bool(found)) if said else found == []


def test_a_guard_that_never_heard_anything_says_so() -> None:
    never = {"at": 5000.0, "silence": None, "may": "named", "epoch": 3}
    found = reasons(Facts("critical", "lemongrab", "standby", "lemongrab", 3, never, never), forced=False)
    assert any(
        "the guard of standby since its boot, so it would not learn who owns critical" in one for one in found
    )
