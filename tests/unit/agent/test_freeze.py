"""The freeze of a group as a lease: what renewing it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.agent.disk import Disk
from understudy.agent.errors import AgentError
from understudy.agent.owner import lease, thawing
from understudy.agent.owner.plan import Plan
from understudy.agent.root import Root

PLAN = Plan("lemongrab", "example.org", (), {}, {})


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(thawing, "listed", lambda exact: {})
    monkeypatch.setattr(thawing, "_arm", lambda group, seconds: None)
    return Disk(Root(str(tmp_path)))


def test_a_renewed_freeze_goes_on_from_its_beginning(disk: Disk) -> None:
    """The last snapshot was made under the first lease: what was frozen all along is no diverged data."""
    first = thawing.freeze(disk, PLAN, "critical", 180, id="9f3c")
    again = thawing.freeze(disk, PLAN, "critical", 180, servers=True, id="9f3c")
    assert again.since == first.since and again.until > first.until


def test_a_freeze_that_was_over_is_not_renewed_for_a_base_that_was_made_under_it(disk: Disk) -> None:
    first = thawing.freeze(disk, PLAN, "critical", 180, id="9f3c")
    assert (
        thawing.freeze(disk, PLAN, "critical", 180, servers=True, id="9f3c", again=True).since == first.since
    )
    first.until = 0.0
    lease.save(disk, first)
    for id in ("9f3c", "another"):
        with pytest.raises(AgentError, match="has thawed meanwhile"):
            thawing.freeze(disk, PLAN, "critical", 180, servers=True, id=id, again=True)
    lease.clear(disk.root, "critical")
    with pytest.raises(AgentError, match="has thawed meanwhile"):
        thawing.freeze(disk, PLAN, "critical", 180, servers=True, id="9f3c", again=True)


def test_a_freeze_that_was_over_begins_anew(disk: Disk) -> None:
    first = thawing.freeze(disk, PLAN, "critical", 180, id="9f3c")
    first.until, first.since = 0.0, 1.0
    lease.save(disk, first)
    assert thawing.freeze(disk, PLAN, "critical", 180, id="9f3c").since > 1.0
