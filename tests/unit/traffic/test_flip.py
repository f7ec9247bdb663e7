"""Ownership changes hands through the real SDK against the emulator, also when answers are lost."""

from __future__ import annotations

import threading

import pytest

from understudy.agent.owner import record as ownership
from understudy.cloudflare import CloudflareError
from understudy.errors import Refused
from understudy.traffic import converge, flip, tunnels

from .world import Cloud


def owner_of(cloud: Cloud, group: str = "critical") -> ownership.Ownership:
    return ownership.parse(cloud.records()[f"TXT _understudy-claim-{group}.example.org"]["content"])


def served_by(cloud: Cloud, name: str) -> str:
    content = cloud.records()[f"CNAME {name}"]["content"]
    tunnel = cloud.state.data["tunnels"][content.removesuffix(".cfargotunnel.com")]
    return str(tunnel["name"]).rsplit("-", 1)[1]


def test_a_first_converge_claims_for_the_primary_and_a_second_writes_nothing(lab_cloud: Cloud) -> None:
    edge = lab_cloud.edge()
    done = converge.apply(edge)
    assert done.count() == 10  # two tunnels, four names, and two texts for each of two groups
    assert owner_of(lab_cloud) == ownership.Ownership("critical", "lemongrab", 1, owner_of(lab_cloud).nonce)
    assert {served_by(lab_cloud, name) for name in edge.world.names} == {"lemongrab"}
    before = len(lab_cloud.writes())
    again = converge.apply(lab_cloud.edge())
    assert (again.count(), len(lab_cloud.writes()) - before) == (0, 0)


def test_a_flip_moves_the_groups_names_and_no_others(lab_cloud: Cloud) -> None:
    edge = lab_cloud.edge()
    converge.apply(edge)
    held = flip.read(edge, ["critical"])
    new = flip.flip(edge, held, "standby", {"critical": "lemongrab:1:118"})["critical"]
    assert (new.owner, new.epoch, new.base) == ("standby", 2, "lemongrab:1:118")
    assert owner_of(lab_cloud) == new
    txt = lab_cloud.records()["TXT *._understudy-owner-critical.example.org"]
    assert ownership.parse(txt["content"]) == new and txt["ttl"] == 60
    assert served_by(lab_cloud, "vault.example.org") == served_by(lab_cloud, "example.org") == "standby"
    assert served_by(lab_cloud, "media.example.org") == "lemongrab"
    assert owner_of(lab_cloud, "rest").epoch == 1
    before = len(lab_cloud.writes())
    assert converge.apply(lab_cloud.edge()).count() == 0, (
        "a converge follows the owner, it never moves it back"
    )
    assert len(lab_cloud.writes()) == before


def test_who_read_earlier_and_sends_later_loses_and_changes_nothing(lab_cloud: Cloud) -> None:
    edge = lab_cloud.edge()
    converge.apply(edge)
    stale = flip.read(edge, ["critical"])
    flip.flip(edge, flip.read(edge, ["critical"]), "standby")
    records = lab_cloud.records()
    with pytest.raises(flip.FlipLost, match="critical: standby, epoch 2"):
        flip.flip(lab_cloud.edge(), stale, "lemongrab")
    assert lab_cloud.records() == records


def test_of_many_operators_at_once_exactly_one_wins(lab_cloud: Cloud) -> None:
    converge.apply(lab_cloud.edge())
    edges = [lab_cloud.edge() for _ in range(8)]
    held = [flip.read(edge, ["critical", "rest"]) for edge in edges]
    results: list[str] = []

    def race(number: int) -> None:
        try:
            flip.flip(edges[number], held[number], "standby", nonce=f"n{number}")
            results.append(f"n{number}")
        except flip.FlipLost:
            results.append("lost")

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results)[:7] == ["lost"] * 7
    assert owner_of(lab_cloud).nonce in results and owner_of(lab_cloud).epoch == 2
    assert owner_of(lab_cloud, "rest").nonce == owner_of(lab_cloud).nonce


@pytest.mark.parametrize("kind", ["lost", "silent-failure", "status", "reset", "hang"])
def test_after_a_lost_answer_the_nonce_is_read_back_and_nothing_is_sent_twice(
    lab_cloud: Cloud, kind: str
) -> None:
    converge.apply(lab_cloud.edge())
    edge = lab_cloud.edge(timeout=0.5)
    held = flip.read(edge, ["critical"])
    before = len(lab_cloud.writes())
    lab_cloud.fault(kind=kind, path="/batch", seconds=1.0 if kind == "hang" else 0.0)
    if kind == "lost":
        assert flip.flip(edge, held, "standby")["critical"].epoch == 2
    else:
        with pytest.raises(flip.FlipUnknown, match="may yet arrive"):
            flip.flip(edge, held, "standby")
        assert owner_of(lab_cloud).epoch == 1
    lab_cloud.calm()
    if kind != "hang":
        assert len(lab_cloud.writes()) - before == 1


def test_an_answer_that_comes_too_late_is_found_again(lab_cloud: Cloud) -> None:
    """The batch works at Cloudflare after we stopped waiting for it."""
    converge.apply(lab_cloud.edge())
    edge = lab_cloud.edge(timeout=0.3)
    held = flip.read(edge, ["critical"])
    lab_cloud.fault(kind="delay", path="/batch", seconds=0.4)
    assert flip.flip(edge, held, "standby")["critical"].owner == "standby"
    assert owner_of(lab_cloud).owner == "standby"


def test_a_refused_batch_is_said_as_it_is(lab_cloud: Cloud) -> None:
    converge.apply(lab_cloud.edge())
    edge = lab_cloud.edge(token=lab_cloud.token(("Zone Read", "DNS Read", "Tunnel Read")))
    with pytest.raises(CloudflareError, match="lacks Zone: DNS: Edit"):
        flip.flip(edge, flip.read(edge, ["critical"]), "standby")
    assert owner_of(lab_cloud).epoch == 1


def test_two_claims_are_refused(lab_cloud: Cloud) -> None:
    edge = lab_cloud.edge()
    converge.apply(edge)
    claim = lab_cloud.records()["TXT _understudy-claim-critical.example.org"]
    with lab_cloud.state.changing() as data:
        data["records"]["f" * 32] = {**claim, "id": "f" * 32, "content": claim["content"].replace("=1", "=2")}
    with pytest.raises(Refused, match="there twice"):
        flip.read(edge, ["critical"])


def test_a_converge_beside_a_flip_changes_nothing(lab_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """It compared before the flip and sends after it: its batch is tied to the claims that it read."""
    edge = lab_cloud.edge()
    converge.apply(edge)
    record = lab_cloud.records()["CNAME vault.example.org"]
    with lab_cloud.state.changing() as data:
        data["records"][record["id"]]["content"] = "elsewhere.example.net"
    slow = lab_cloud.edge()
    send = slow.account.batch

    def late(zone: object, batch: object) -> object:
        monkeypatch.setattr(slow.account, "batch", send)
        flip.flip(edge, flip.read(edge, ["critical"]), "standby")
        return send(zone, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(slow.account, "batch", late)
    with pytest.raises(Exception, match="changed hands"):
        converge.apply(slow)
    assert owner_of(lab_cloud).owner == "standby"
    assert served_by(lab_cloud, "vault.example.org") == "standby"


def test_a_fence_changes_the_secret_and_ends_the_connections(lab_cloud: Cloud) -> None:
    edge = lab_cloud.edge()
    converge.apply(edge)
    old, key = tunnels.token(edge, "lemongrab"), edge.tunnel_of("lemongrab").id
    tunnels.fence(edge, "lemongrab")
    assert tunnels.token(edge, "lemongrab") != old
    assert lab_cloud.hub.dropped == [key] and edge.tunnel_of("lemongrab").id == key
