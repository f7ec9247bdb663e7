"""Freshness as the repository shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from understudy.agent.repo.snapshots import Snapshot
from understudy.repository.freshness import judge, overdue, plain
from understudy.repository.retention import Owner

NOW = 1_800_000_000.0
OBJECTIVES = {"vault": 3600.0, "wiki": 7200.0}


def snapshot(
    seq: int, minutes_ago: float, *services: str, failed: tuple[str, ...] = (), **more: object
) -> Snapshot:
    base = Snapshot(
        f"{seq:064x}", "home", NOW - minutes_ago * 60, ("understudy",), "critical", "critical", 1, seq,
        services or ("vault", "wiki"), failed, (), 100, 1_000_000,
    )  # fmt: skip
    return replace(base, **more)  # type: ignore[arg-type]


def test_all_is_well() -> None:
    found = judge([snapshot(1, 30), snapshot(2, 15)], OBJECTIVES, NOW)
    assert [(one.service, one.seq, one.age, one.overdue) for one in found] == [
        ("vault", 2, 900.0, False),
        ("wiki", 2, 900.0, False),
    ]
    assert overdue(found) == []
    assert plain(found)[0]["missing"] is False


@pytest.mark.parametrize(
    ("snapshots", "words"),
    [
        ([], ["vault has no good snapshot", "wiki has no good snapshot"]),
        ([snapshot(1, 90)], ["vault was last backed up 1.5 h ago, where 1.0 h is the objective"]),
        (
            [snapshot(1, 30), snapshot(2, 15, "vault", failed=("wiki",))],
            ["wiki failed in the last tick"],
        ),
        (
            [snapshot(1, 60 * 24 * 17, "wiki"), snapshot(2, 5, "vault")],
            ["wiki was last backed up 17.0 d ago"],
        ),
        (
            [snapshot(1, 30), snapshot(2, 15, bytes=700_000)],
            ["vault shrank by 30 %", "wiki shrank by 30 %"],
        ),
        ([snapshot(1, 30), snapshot(2, 15, files=79)], ["vault shrank by 21 %", "wiki shrank by 21 %"]),
        ([snapshot(1, 30), snapshot(2, 15, bytes=900_000)], []),
        ([snapshot(1, 30), snapshot(2, 15, "vault", bytes=10), snapshot(3, 5)], []),
    ],
)
def test_what_is_wrong_is_said(snapshots: list[Snapshot], words: list[str]) -> None:
    told = overdue(judge(snapshots, OBJECTIVES, NOW))
    assert len(told) == len(words)
    assert all(word in sentence for sentence, word in zip(told, words, strict=True))


def test_one_dated_a_year_ahead_does_not_hide_that_backups_stopped() -> None:
    year = 365 * 86400
    found = judge([snapshot(1, 600), snapshot(2, 0, time=NOW + year)], {"vault": 3600.0}, NOW)
    assert found[0].seq == 2 and found[0].age == 36000 and found[0].overdue and found[0].ahead == year
    assert "365.0 d in the future" in overdue(found)[0]
    only = judge([snapshot(2, 0, time=NOW + year)], {"vault": 3600.0}, NOW)
    assert only[0].overdue and "only snapshots dated in the future" in overdue(only)[0]


def test_order_is_by_number_not_by_time() -> None:
    found = judge([snapshot(9, 50), snapshot(8, 10)], {"vault": 3600.0}, NOW)
    assert found[0].seq == 9 and found[0].age == 3000


def test_diverged_ones_count_for_nothing() -> None:
    foreign = snapshot(99, 1, host="replica")
    marked = snapshot(98, 1, tags=("understudy", "diverged:critical-1"))
    found = judge([snapshot(1, 90), foreign, marked], {"vault": 3600.0}, NOW, {1: Owner("home")})
    assert found[0].seq == 1 and found[0].overdue
