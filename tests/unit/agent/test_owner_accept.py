"""Which snapshots count: by the chain of epochs and bases, whatever their clocks say."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.agent.disk import Disk
from understudy.agent.errors import AgentError
from understudy.agent.owner.accept import base_of, judge, of_group
from understudy.agent.owner.state import Held, save
from understudy.agent.repo.snapshots import Snapshot
from understudy.agent.root import Root


def shot(host: str, epoch: int, seq: int, base: str = "", at: float = 0.0) -> Snapshot:
    return Snapshot(
        f"{host}{epoch}.{seq}", host, at, (), "rest", "t", epoch, seq, ("app",), (), (), base=base
    )


def verdicts(held: Held, *found: Snapshot) -> dict[str, str]:
    return {key: str(value) for key, value in judge(found, held).items()}


def test_before_any_record_everything_counts() -> None:
    assert set(verdicts(Held("rest"), shot("one", 1, 5), shot("two", 3, 1)).values()) == {"accepted"}


def test_the_open_epoch_is_its_owners_alone() -> None:
    held = Held("rest", 2, "two", "one:1:7")
    found = verdicts(held, shot("two", 2, 1), shot("one", 2, 9, at=9e9))
    assert found == {"two2.1": "accepted", "one2.9": "diverged"}


def test_a_closed_epoch_counts_up_to_its_base() -> None:
    held = Held("rest", 2, "two", "one:1:7")
    found = verdicts(
        held, *(shot("one", 1, seq, at=9e9 if seq > 7 else 0) for seq in (6, 7, 8, 9)), shot("two", 1, 3)
    )
    assert found == {
        "one1.6": "accepted", "one1.7": "accepted", "one1.8": "diverged", "one1.9": "diverged", "two1.3": "diverged",
    }  # fmt: skip


def test_the_chain_is_followed_through_what_the_snapshots_name() -> None:
    held = Held("rest", 3, "one", "two:2:4")
    found = verdicts(
        held,
        shot("one", 1, 7), shot("one", 1, 8), shot("two", 2, 3, "one:1:7"), shot("two", 2, 4, "one:1:7"),
        shot("two", 2, 5, "one:1:7"), shot("one", 3, 9, "two:2:4"),
    )  # fmt: skip
    assert found == {
        "one1.7": "accepted", "one1.8": "diverged", "two2.3": "accepted", "two2.4": "accepted", "two2.5": "diverged",
        "one3.9": "accepted",
    }  # fmt: skip


def test_an_epoch_that_the_next_owner_did_not_begin_from_diverged() -> None:
    """Two was promoted twice from one's data: what it wrote in epoch 2 is in nobody's epoch 3."""
    held = Held("rest", 3, "two", "one:1:7")
    assert verdicts(held, shot("two", 2, 1, "one:1:7"), shot("one", 1, 7)) == {
        "two2.1": "diverged",
        "one1.7": "accepted",
    }


def test_an_epoch_that_this_host_has_not_heard_of_waits() -> None:
    assert verdicts(Held("rest", 2, "two", "one:1:7"), shot("one", 3, 9)) == {"one3.9": "unknown"}


def test_what_a_later_epoch_wrote_is_not_left_out_in_silence(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    save(Disk(root), Held("rest", 1, "one"))
    mine = shot("one", 1, 3)
    assert of_group(root, "rest", [mine]) == [mine]
    with pytest.raises(AgentError, match=r"--snapshot two2\.7") as caught:
        of_group(root, "rest", [mine, shot("two", 2, 7), shot("two", 2, 6)])
    assert caught.value.kind == "refused" and "heard of epoch 1 at most" in caught.value.sentence


def test_a_chain_whose_links_were_forgotten_takes_old_epochs_of_one_host() -> None:
    held = Held("rest", 5, "two", "one:4:20")
    found = verdicts(held, shot("one", 4, 20), shot("one", 1, 2), shot("two", 2, 3), shot("one", 2, 4))
    assert found == {"one4.20": "accepted", "one1.2": "accepted", "two2.3": "diverged", "one2.4": "diverged"}


def test_a_base_that_leads_in_a_circle_ends() -> None:
    held = Held("rest", 3, "two", "one:2:5")
    assert verdicts(held, shot("one", 2, 5, "two:3:1"))["one2.5"] == "accepted"


def test_a_base_has_three_parts() -> None:
    assert base_of("standby:2:118") == ("standby", 2, 118)
    assert [base_of(text) for text in ("", "x", "x:1", ":1:2", "x:a:2", "x:1:")] == [None] * 6
