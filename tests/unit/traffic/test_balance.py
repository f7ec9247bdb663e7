"""Load Balancer mode: monitors, pools and load balancers through the real SDK; the edge goes only where the group runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.cloudflare.place import BALANCING, OWNER
from lab.cloudflare.state import ALL
from understudy.cloudflare import CloudflareError
from understudy.errors import Refused
from understudy.traffic import balance, converge, flip, tunnels
from understudy.traffic.edge import Edge
from understudy.traffic.policy import Balancer
from understudy.traffic.world import Health, World

from .edge_world import EdgeWorld, edge_world, until
from .world import WORLD, Cloud

HEALTH = {
    "critical": Health("vault.example.org", "/alive", "200"),
    "rest": Health("media.example.org", "/health", "200,204"),
}
BALANCED = replace(WORLD, balancer=Balancer(), health=HEALTH)


def named(cloud: Cloud, kind: str) -> dict[str, dict[str, object]]:
    return {str(item.get("name") or item["description"]): item for item in cloud.state.data[kind].values()}


def led(cloud: Cloud, name: str) -> list[str]:
    """The pools of a name in their order, and its fallback."""
    pools = {key: str(pool["name"]) for key, pool in cloud.state.data["pools"].items()}
    found = named(cloud, "load_balancers")[name]
    return [pools[key] for key in [*found["default_pools"], found["fallback_pool"]]]  # type: ignore[misc]


def test_without_it_cloudflare_is_not_even_asked(lab_cloud: Cloud) -> None:
    converge.apply(lab_cloud.edge())
    assert not [call for call in lab_cloud.api.calls if "load_balancers" in call["path"]]


def test_a_converge_makes_all_of_it_and_a_second_one_writes_nothing(lab_cloud: Cloud) -> None:
    shown = converge.look(lab_cloud.edge(BALANCED))
    assert not lab_cloud.writes()
    done = converge.apply(lab_cloud.edge(BALANCED))
    # As a plan before there are tunnels cannot know more, groups wait for their owner's.
    assert {change.name for change in shown.changes} < {change.name for change in done.changes}
    assert set(named(lab_cloud, "pools")) == {
        "understudy-lab-critical-lemongrab",
        "understudy-lab-critical-standby",
        "understudy-lab-rest-lemongrab",
    }
    monitor = named(lab_cloud, "monitors")["understudy/lab: monitor of critical"]
    assert (monitor["path"], monitor["header"], monitor["interval"]) == (
        "/alive",
        {"Host": ["vault.example.org"]},
        60,
    )
    assert set(named(lab_cloud, "load_balancers")) == set(WORLD.names)
    owner, other = "understudy-lab-critical-lemongrab", "understudy-lab-critical-standby"
    assert led(lab_cloud, "cloud.example.org") == [owner, other, owner]
    assert led(lab_cloud, "media.example.org") == ["understudy-lab-rest-lemongrab"] * 2
    before = len(lab_cloud.writes())
    again = converge.apply(lab_cloud.edge(BALANCED))
    assert (again.count(), len(lab_cloud.writes()) - before) == (0, 0)


def test_the_order_follows_the_claim_and_a_converge_never_moves_it_back(lab_cloud: Cloud) -> None:
    edge = lab_cloud.edge(BALANCED)
    converge.apply(edge)
    flip.flip(edge, flip.read(edge, ["critical"]), "standby")
    assert balance.order(edge, "critical", "standby") == 3
    owner, other = "understudy-lab-critical-standby", "understudy-lab-critical-lemongrab"
    assert led(lab_cloud, "vault.example.org") == [owner, other, owner]
    assert led(lab_cloud, "media.example.org") == ["understudy-lab-rest-lemongrab"] * 2
    assert balance.order(edge, "critical", "standby") == 0, "twice is the same as once"
    assert converge.apply(lab_cloud.edge(BALANCED)).count() == 0


def test_a_changed_interval_is_one_change_and_a_pool_that_somebody_switched_off_another(
    lab_cloud: Cloud,
) -> None:
    converge.apply(lab_cloud.edge(BALANCED))
    pool = next(iter(lab_cloud.state.data["pools"].values()))
    pool["enabled"] = False
    hurried = replace(BALANCED, balancer=Balancer(interval=15))
    changes = converge.look(lab_cloud.edge(hurried)).changes
    assert sorted((change.name, change.why) for change in changes) == [
        ("monitor of critical", "monitor: interval"),
        ("monitor of rest", "monitor: interval"),
        (pool["name"], "pool: enabled"),
    ]
    converge.apply(lab_cloud.edge(hurried))
    assert converge.look(lab_cloud.edge(hurried)).count() == 0


def test_switched_off_all_of_ours_goes_in_an_order_that_the_api_takes(lab_cloud: Cloud) -> None:
    converge.apply(lab_cloud.edge(BALANCED))
    lab_cloud.state.data["pools"]["theirs"] = {"id": "theirs", "name": "theirs", "description": "", "origins": [],
                                              "monitor": None, "enabled": True, "owner": _account(lab_cloud)}  # fmt: skip
    off = replace(BALANCED, balancer=Balancer(enabled=False))
    done = converge.apply(lab_cloud.edge(off))
    assert {change.action for change in done.changes} == {"delete"} and done.count() == 2 + 3 + 4
    assert list(named(lab_cloud, "pools")) == ["theirs"]
    assert not named(lab_cloud, "load_balancers") and not named(lab_cloud, "monitors")
    assert lab_cloud.records()["CNAME vault.example.org"], (
        "the names lead to the owner by their records again"
    )
    assert converge.apply(lab_cloud.edge(off)).count() == 0


def _account(cloud: Cloud) -> str:
    return str(next(iter(cloud.state.data["pools"].values()))["owner"])


def test_a_stranger_with_one_of_our_names_is_named_and_left(lab_cloud: Cloud) -> None:
    converge.apply(lab_cloud.edge())
    edge = lab_cloud.edge(BALANCED)
    body = {
        "name": "vault.example.org",
        "default_pools": ["p"],
        "fallback_pool": "p",
        "description": "by hand",
    }
    lab_cloud.state.data["pools"]["p"] = {
        "id": "p",
        "name": "p",
        "origins": [],
        "owner": "x",
        "enabled": True,
    }
    edge.account.make(edge.zone, "load_balancers", body)
    with pytest.raises(
        Refused, match=r"load balancer vault\.example\.org that is not ours: delete it there, or give it"
    ):
        converge.apply(lab_cloud.edge(BALANCED))
    assert named(lab_cloud, "load_balancers")["vault.example.org"]["description"] == "by hand"


def test_a_token_without_the_right_is_told_which(lab_cloud: Cloud) -> None:
    rights = tuple(right for right in ALL if "alanc" not in right and "Monitor" not in right)
    assert len(rights) < len(ALL)
    with pytest.raises(CloudflareError, match="lacks Account: Load Balancing: Monitors and Pools"):
        converge.apply(lab_cloud.edge(BALANCED, token=lab_cloud.token(rights)))


def test_a_host_without_a_pool_cannot_be_put_first(lab_cloud: Cloud) -> None:
    edge = lab_cloud.edge(BALANCED)
    with pytest.raises(
        Refused, match="standby has no pool for the group critical at Cloudflare: converge first"
    ):
        balance.order(edge, "critical", "standby")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EdgeWorld]:
    with edge_world(tmp_path) as found:
        yield found


def balanced(world: EdgeWorld) -> Edge:
    world.place.control.token((*OWNER, *BALANCING), value=world.place.owner_token())
    edge = world.edge("lemongrab", "standby", balancer=Balancer(interval=15))
    converge.apply(edge)
    for host in ("lemongrab", "standby"):
        world.connect(host, tunnels.token(edge, host))
    until(lambda: set(world.place.control.connectors().values()) == {4})
    return edge


def served_by(world: EdgeWorld) -> tuple[int, str]:
    """What a visitor gets and from whom, once the monitors have had their look."""
    world.cloud.prober.step()
    status, text = world.ask("vault.example.org")
    return status, text.split(" ")[0]


def test_the_edge_goes_where_the_group_runs_whatever_the_order_says(world: EdgeWorld) -> None:
    world.origin("standby").status = 502  # behind its fence
    edge = balanced(world)
    until(lambda: served_by(world) == (200, "lemongrab"))
    world.origin("lemongrab").status, world.origin("standby").status = 502, 200
    until(lambda: served_by(world) == (200, "standby"))
    assert isinstance(edge.world, World)


def test_after_a_flip_the_order_leads_before_any_monitor_has_looked(world: EdgeWorld) -> None:
    edge = balanced(world)
    flip.flip(edge, flip.read(edge, ["critical"]), "standby")
    assert world.ask("vault.example.org")[1].startswith("lemongrab"), (
        "the load balancer goes before the CNAME"
    )
    balance.order(edge, "critical", "standby")
    assert world.ask("vault.example.org")[1].startswith("standby")
    world.programs["standby"].kill()
    until(lambda: served_by(world) == (200, "lemongrab"))


def test_with_nobody_healthy_the_owner_is_asked_and_nobody_else(world: EdgeWorld) -> None:
    edge = balanced(world)
    flip.flip(edge, flip.read(edge, ["critical"]), "standby")
    balance.order(edge, "critical", "standby")
    for name in ("lemongrab", "standby"):
        world.origin(name).status = 503
    until(lambda: served_by(world) == (503, "standby"))
