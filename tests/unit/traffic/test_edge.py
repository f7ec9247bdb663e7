"""The lab's edge: a name leads through record, tunnel and connector to the right host, and changes arrive late."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.edge.doh import Trouble
from understudy.agent.owner import doh
from understudy.traffic import converge, flip, tunnels

from .edge_world import EdgeWorld, edge_world, until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EdgeWorld]:
    with edge_world(tmp_path) as found:
        yield found


def connected(world: EdgeWorld, *hosts: str) -> None:
    edge = world.edge(*hosts)
    converge.apply(edge)
    for host in hosts:
        world.connect(host, tunnels.token(edge, host))
    until(lambda: set(world.place.control.connectors().values()) == {4})


def test_a_request_reaches_the_owners_host_and_after_a_flip_the_other(world: EdgeWorld) -> None:
    connected(world, "lemongrab", "standby")
    assert world.ask("vault.example.org") == (200, "lemongrab vault.example.org https")
    assert world.ask("nobody.example.org") == (530, "error code: 1016")
    big = b"x" * 300_000
    assert world.ask("vault.example.org", method="POST", body=big) == (200, big.decode())
    pieces = iter([b"one", b"two"])
    assert world.ask("vault.example.org", method="POST", body=pieces, chunked=True) == (200, "onetwo")
    edge = world.edge("lemongrab", "standby")
    flip.flip(edge, flip.read(edge, ["critical"]), "standby")
    for colo in ("ams", "fra", "vie"):
        assert world.ask("cloud.example.org", colo)[1].startswith("standby ")
    asked = [200, 530, 200, 200, 200, 200, 200]
    until(lambda: [row["status"] for row in world.place.control.requests()] == asked)


def test_a_tunnel_without_a_connector_and_one_that_is_killed(world: EdgeWorld) -> None:
    converge.apply(world.edge("lemongrab"))
    assert world.ask("vault.example.org") == (530, "error code: 1033")
    connected(world, "lemongrab")
    world.programs["lemongrab"].kill()
    until(lambda: world.ask("vault.example.org") == (530, "error code: 1033"))


def test_a_fenced_connector_is_dropped_and_stays_out(world: EdgeWorld) -> None:
    connected(world, "lemongrab")
    edge = world.edge("lemongrab")
    tunnels.fence(edge, "lemongrab")
    until(lambda: "Invalid tunnel secret" in world.log("lemongrab"))
    assert world.ask("vault.example.org") == (530, "error code: 1033")
    world.programs["lemongrab"].kill()
    world.connect("lemongrab", tunnels.token(edge, "lemongrab"))
    until(lambda: world.ask("vault.example.org")[0] == 200)


def test_connections_that_are_ended_come_back_while_the_secret_is_good(world: EdgeWorld) -> None:
    connected(world, "lemongrab")
    edge = world.edge("lemongrab")
    edge.account.disconnect(edge.zone, edge.tunnel_of("lemongrab").id)
    until(lambda: world.place.control.connectors() == {"understudy-lab-lemongrab": 4})
    assert world.ask("vault.example.org")[0] == 200


def test_a_change_arrives_at_each_colo_in_its_own_time_and_texts_on_their_own(world: EdgeWorld) -> None:
    connected(world, "lemongrab", "standby")
    world.place.control.delays(text=(0, 0), route=(0.4, 0.4))
    world.place.control.freeze("vie")
    edge = world.edge("lemongrab", "standby")
    new = flip.flip(edge, flip.read(edge, ["critical"]), "standby")["critical"]
    assert world.ask("vault.example.org")[1].startswith("lemongrab")
    assert ask_owner(world).answer == new, "the text is there before the route"
    until(lambda: world.ask("vault.example.org")[1].startswith("standby"))
    assert world.ask("vault.example.org", "vie")[1].startswith("lemongrab")
    world.place.control.freeze("vie", False)
    world.place.control.settle()
    assert world.ask("vault.example.org", "vie")[1].startswith("standby")


def ask_owner(world: EdgeWorld, *resolvers: int, group: str = "critical") -> doh.Heard:
    chosen = [world.place.resolvers[number] for number in resolvers or (0, 1)]
    return doh.ask(chosen, group, "example.org", str(world.place.authority), timeout=2.0)


def test_the_agents_question_is_answered_over_tls_and_from_no_cache(world: EdgeWorld) -> None:
    converge.apply(world.edge("lemongrab"))
    heard = ask_owner(world)
    assert heard.answer and (heard.answer.owner, heard.answer.epoch, heard.silent) == ("lemongrab", 1, {})
    ask_owner(world)
    assert world.place.control.ask("asked") == [{"asked": 2, "cached": 0}] * 2
    assert "NXDOMAIN" in str(ask_owner(world, group="nobody").silent)


def test_an_answer_that_nobody_signed_is_none(world: EdgeWorld) -> None:
    with pytest.raises(doh.NoAnswer, match="TLS"):
        doh.query(world.place.resolvers[0], "example.org", timeout=2.0)
    assert ssl.get_default_verify_paths()


@pytest.mark.parametrize("fail", ["servfail", "nxdomain", "http", "garbage", "hang"])
def test_a_resolver_in_trouble_gives_no_answer_and_the_other_one_does(world: EdgeWorld, fail: str) -> None:
    converge.apply(world.edge("lemongrab"))
    world.place.control.trouble(0, Trouble(fail))
    began = time.monotonic()
    heard = ask_owner(world)
    assert heard.answer and list(heard.silent) == [world.place.resolvers[0]]
    assert time.monotonic() - began < 4
    world.place.control.clear()


def test_a_resolver_that_is_behind_goes_on_with_the_old_owner(world: EdgeWorld) -> None:
    edge = world.edge("lemongrab", "standby")
    converge.apply(edge)
    world.place.control.trouble(0, Trouble("old"))
    flip.flip(edge, flip.read(edge, ["critical"]), "standby")
    old, new = ask_owner(world, 0).answer, ask_owner(world, 1).answer
    assert old and new and (old.epoch, new.epoch) == (1, 2)
    assert ask_owner(world).answer == new, "the highest epoch counts"


def test_json_answers_and_caches_for_the_ttl(world: EdgeWorld) -> None:
    import json
    import urllib.request

    converge.apply(world.edge("lemongrab"))
    context = ssl.create_default_context(cafile=str(world.place.authority))
    name = "_understudy-claim-critical.example.org"
    for _ in range(2):
        url = f"{world.place.resolvers[0]}?name={name}&type=TXT"
        with urllib.request.urlopen(url, context=context, timeout=5) as answer:
            body = json.loads(answer.read())
    assert body["Status"] == 0 and body["Answer"][0]["data"].startswith('"understudy=1 group=critical')
    assert 0 < body["Answer"][0]["TTL"] <= 60
    assert world.place.control.ask("asked")[0] == {"asked": 2, "cached": 1}
