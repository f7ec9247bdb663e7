"""The guard's table, every row and every combination: two hosts that follow it never both run on what a batch said."""

from __future__ import annotations

from itertools import product

import pytest

from understudy.agent.owner.decide import View, decide
from understudy.agent.owner.record import Ownership

ME, OTHER = "lemongrab", "standby"


def says(owner: str, epoch: int) -> Ownership:
    return Ownership("critical", owner, epoch, "9f3c", "")


def view(**more: object) -> View:
    return View(ME, ME, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("ready", [{"running": True}, {"ran": 4}, {"ran": 5}, {"grant": 5, "nonce": "9f3c"}])
@pytest.mark.parametrize("offline", ["serve", "stay-down"])
@pytest.mark.parametrize("seen", [0, 1, 4])
def test_named_with_a_higher_epoch_runs_and_is_remembered(
    seen: int, offline: str, ready: dict[str, object]
) -> None:
    verdict = decide(view(epoch=seen, owner=OTHER if seen else "", offline=offline, **ready), says(ME, 5))
    assert (verdict.action, verdict.learn) == ("run", True)


@pytest.mark.parametrize(
    "unready", [{}, {"ran": 3}, {"grant": 5, "nonce": "other"}, {"grant": 6, "nonce": "9f3c"}]
)
def test_named_without_the_owners_data_is_remembered_and_starts_nothing(unready: dict[str, object]) -> None:
    verdict = decide(view(epoch=4, owner=OTHER, **unready), says(ME, 5))
    assert (verdict.action, verdict.learn) == ("stop", True)
    after = view(epoch=5, owner=ME, up=999.0, **{k: v for k, v in unready.items() if k == "ran"})
    assert decide(after, None).action == "stay-down"


def test_named_with_the_epoch_that_is_known_to_be_ours_runs() -> None:
    assert decide(view(epoch=5, owner=ME, ran=5), says(ME, 5)).action == "run"


def test_the_first_host_needs_no_grant_for_the_first_epoch_and_no_other_host_goes_without() -> None:
    assert decide(View(ME, ME), says(ME, 1)).action == "run"
    assert decide(View(OTHER, ME), says(OTHER, 1)).action == "stop"


@pytest.mark.parametrize("epoch", [5, 6])
@pytest.mark.parametrize("running", [True, False])
def test_another_with_an_epoch_not_lower_stops_and_is_remembered_first(epoch: int, running: bool) -> None:
    verdict = decide(view(epoch=5, owner=ME, running=running), says(OTHER, epoch))
    assert (verdict.action, verdict.learn) == ("stop", True)


def test_the_epoch_of_another_is_not_ours_although_the_record_says_so() -> None:
    assert decide(view(epoch=5, owner=OTHER), says(ME, 5)).action == "stay-down"


@pytest.mark.parametrize("answer", [None, says(OTHER, 4), says(ME, 4)])
def test_old_and_missing_answers_are_the_same(answer: Ownership | None) -> None:
    for owner, running, up in product((ME, OTHER), (True, False), (0.0, 200.0)):
        state = view(epoch=5, owner=owner, running=running, up=up)
        assert decide(state, answer).action == decide(state, None).action


def test_no_answer_while_running_goes_on() -> None:
    for owner, up, offline in product((ME, OTHER), (0.0, 999.0), ("serve", "stay-down")):
        assert (
            decide(view(epoch=5, owner=owner, running=True, up=up, offline=offline), None).action == "go-on"
        )


def test_no_answer_after_a_boot_waits_two_minutes_then_serves_what_was_ours() -> None:
    at = {
        up: decide(view(epoch=5, owner=ME, ran=5, up=up), None).action for up in (0.0, 119.0, 120.0, 5000.0)
    }
    assert at == {0.0: "wait", 119.0: "wait", 120.0: "run", 5000.0: "run"}


def test_no_answer_after_a_boot_stays_down_where_the_owner_said_so_or_another_had_it() -> None:
    assert decide(view(epoch=5, owner=ME, ran=5, up=500.0, offline="stay-down"), None).action == "stay-down"
    assert decide(view(epoch=5, owner=OTHER, up=500.0), None).action == "stay-down"


def test_before_any_record_the_first_host_serves_and_no_other_does() -> None:
    first = View(ME, ME, up=200.0, offline="stay-down")
    second = View(OTHER, ME, up=200.0)
    assert decide(first, None).action == "run"
    assert decide(second, None).action == "stay-down"


def test_a_grant_holds_the_group_behind_its_fence_until_the_record_names_it() -> None:
    state = View(OTHER, ME, epoch=5, owner=ME, grant=6, nonce="9f3c")
    assert decide(state, None).action == "fenced"
    assert decide(state, says(ME, 5)).action == "fenced"
    assert decide(state, says(OTHER, 6)).action == "run"
    assert decide(state, says(ME, 6)).action == "stop"  # somebody else's batch won


def test_a_guard_that_is_off_runs_whatever_is_said() -> None:
    for answer in (None, says(OTHER, 9), says(ME, 1)):
        assert decide(view(epoch=5, owner=OTHER, off=True), answer).action == "run"


def test_of_two_hosts_told_the_same_at_most_one_may_start() -> None:
    """Whatever both remember of true batches, and whatever each hears of them, never do both start the group."""
    chain = {1: ME, 2: OTHER, 3: OTHER, 4: ME}  # epoch to owner: what the batches did
    heard = [None, *(says(owner, epoch) for epoch, owner in chain.items())]
    for newest in chain:
        for seen in range(newest + 1):
            for answer in (a for a in heard if a is None or a.epoch <= newest):
                wrong = OTHER if chain[newest] == ME else ME
                knows = View(wrong, ME, epoch=seen, owner=chain.get(seen, ""), up=999.0)
                if seen == newest or (answer and answer.epoch == newest):
                    assert decide(knows, answer).action in ("stop", "stay-down"), (knows, answer)


def test_every_combination_has_an_action_and_none_starts_another_hosts_group_unasked() -> None:
    answers = [None, *(says(owner, epoch) for owner, epoch in product((ME, OTHER), (1, 2, 3)))]
    for epoch, owner, running, up, offline, grant, answer in product(
        (0, 1, 2), (ME, OTHER), (True, False), (0.0, 121.0), ("serve", "stay-down"), (0, 1, 3), answers
    ):
        state = view(
            epoch=epoch, owner=owner if epoch else "", running=running, up=up, offline=offline, grant=grant
        )
        verdict = decide(state, answer)
        if verdict.action == "run" and not (answer and answer.owner == ME and answer.epoch >= epoch):
            assert state.mine and not running and up >= 120, (state, answer)
        if verdict.learn:
            assert answer is not None and answer.epoch >= epoch
