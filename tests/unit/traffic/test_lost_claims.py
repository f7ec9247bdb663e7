"""A zone that has lost its records: who owned a group comes back from what is left, and never begins at epoch 1 again."""

from __future__ import annotations

import pytest

from understudy.agent.owner.record import Ownership, claim_name, owner_name
from understudy.errors import UnderstudyError
from understudy.operations import session, traffic
from understudy.traffic import converge, flip
from understudy.traffic.converge import Memory

from .test_flip import owner_of, served_by
from .world import DOMAIN, Cloud

CLAIM, BROADCAST = claim_name("critical", DOMAIN), owner_name("critical", DOMAIN)


@pytest.fixture
def moved(lab_cloud: Cloud) -> Ownership:
    """The group critical has gone to the standby."""
    edge = lab_cloud.edge()
    converge.apply(edge)
    return flip.flip(edge, flip.read(edge, ["critical"]), "standby", {"critical": "lemongrab:1:118"})[
        "critical"
    ]


def lose(cloud: Cloud, *names: str) -> None:
    with cloud.state.changing() as data:
        data["records"] = {key: r for key, r in data["records"].items() if r["name"] not in names}


def test_a_lost_claim_is_made_from_what_hosts_are_told(lab_cloud: Cloud, moved: Ownership) -> None:
    lose(lab_cloud, CLAIM)
    done = converge.apply_records(lab_cloud.edge())
    assert owner_of(lab_cloud) == moved and served_by(lab_cloud, "vault.example.org") == "standby"
    assert [change.name for change in done.changes] == [CLAIM]
    assert done.notes == ("the zone has no claim of critical: it is made anew as it was, standby in epoch 2",)
    assert converge.apply_records(lab_cloud.edge()).count() == 0


def test_when_both_records_are_lost_the_hosts_remember(lab_cloud: Cloud, moved: Ownership) -> None:
    lose(lab_cloud, CLAIM, BROADCAST, "vault.example.org")
    converge.apply_records(lab_cloud.edge(), lambda: Memory({"critical": moved}))
    assert owner_of(lab_cloud) == moved and served_by(lab_cloud, "vault.example.org") == "standby"
    assert owner_of(lab_cloud, "rest").epoch == 1


def test_the_newest_counts(lab_cloud: Cloud, moved: Ownership) -> None:
    lose(lab_cloud, CLAIM)
    newer = Ownership("critical", "lemongrab", 3, "5f", "standby:2:9")
    converge.apply_records(lab_cloud.edge(), lambda: Memory({"critical": newer}))
    assert owner_of(lab_cloud) == newer and served_by(lab_cloud, "vault.example.org") == "lemongrab"


def test_a_host_that_cannot_say_stops_it(lab_cloud: Cloud, moved: Ownership) -> None:
    lose(lab_cloud, CLAIM, BROADCAST)
    before = lab_cloud.records()
    unread = Memory(unread={"standby": "critical.json is damaged"})
    with pytest.raises(UnderstudyError, match=r"no claim of critical, and standby cannot say.*is damaged"):
        converge.apply_records(lab_cloud.edge(), lambda: unread)
    assert lab_cloud.records() == before


def test_nobody_is_asked_while_the_claims_are_there(lab_cloud: Cloud, moved: Ownership) -> None:
    assert converge.apply_records(lab_cloud.edge(), lambda: pytest.fail("asked")).count() == 0


class Named:
    """Stands where pyinfra's host does."""

    def __init__(self, name: str) -> None:
        self.name = name


def test_of_all_hosts_of_a_run_the_newest_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def host(name: str, owners: dict[str, object] | None) -> session.Session:
        return session.Session(Named(name), None, owners=owners)  # type: ignore[arg-type]

    old = {"critical": {"owner": "lemongrab", "epoch": 1, "base": "", "nonce": "aa"}}
    new = {"critical": {"owner": "standby", "epoch": 2, "base": "lemongrab:1:7", "nonce": "bb"}}
    found = {
        "a": host("a", old),
        "b": host("b", new),
        "c": host("c", None),
        "d": host("d", {"unreadable": "x"}),
    }
    monkeypatch.setattr(found["c"], "survey", lambda: {"owners": {}})
    monkeypatch.setattr(session, "_sessions", found)
    newest = Ownership("critical", "standby", 2, "bb", "lemongrab:1:7")
    assert traffic.memory() == Memory({"critical": newest}, {"d": "x"})
