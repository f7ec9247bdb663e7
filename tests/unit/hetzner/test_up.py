"""`replica up` up to the first login: made once, whatever happens on the way, and nothing of others touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.hetzner.faults import Fault
from understudy.errors import BadInput, Refused, UnderstudyError
from understudy.hetzner import Hetzner
from understudy.replica import down, identity, up
from understudy.replica import labels as labelling
from understudy.replica.model import Server
from understudy.replica.wish import Wish, wish_of

from .conftest import Cloud

PUBLIC = identity.new_key("owner").public


def request(tmp_path: Path, hear: Callable[[str], None], **wishes: object) -> up.Request:
    wish = Wish.model_validate({"name": "spare", **wishes})
    return up.Request("home", wish, [PUBLIC], "root", "", lambda mark: tmp_path / mark, hear)


def made(api: Hetzner, asked: up.Request) -> Server:
    """`replica up` as far as it goes without a machine."""
    server, offers = up.look(api, asked)
    key, wall = up.ensure_key(api, asked), up.ensure_wall(api, asked)
    server = up.ensure_server(api, asked, server, offers, key, wall)
    return up.ensure_protected(api, asked, server, wall)


def everything(cloud: Cloud) -> dict[str, int]:
    data = cloud.api.projects["lab"].state.data
    return {kind: len(data[kind]) for kind in ("servers", "firewalls", "ssh_keys", "volumes", "primary_ips")}


def test_it_is_made_once_and_the_second_time_nothing_is_written(
    cloud: Cloud, tmp_path: Path, hear: Callable
) -> None:
    api, asked = cloud.client(), request(tmp_path, hear)
    server = made(api, asked)
    assert (server.type, server.location, server.protected) == ("cx23", "fsn1", True)
    assert labelling.ours(server.labels, "home", "spare")
    wall = api.wall_named("understudy-home-spare")
    assert wall and wall.id in server.walls and wall.rules == up.wanted_rules(asked.wish)
    cloud.api.calls.clear()
    assert made(api, asked).id == server.id
    assert cloud.writes == []
    assert everything(cloud) == {"servers": 1, "firewalls": 1, "ssh_keys": 1, "volumes": 0, "primary_ips": 2}


def test_no_secret_but_the_first_host_key_is_in_user_data(
    cloud: Cloud, tmp_path: Path, hear: Callable
) -> None:
    made(cloud.client(), request(tmp_path, hear))
    text = next(iter(cloud.api.projects["lab"].state.data["servers"].values()))["_user_data"]
    assert text.count("PRIVATE KEY-----") == 2 and "lab-owner" not in text


@pytest.mark.parametrize("path", ["/ssh_keys", "/firewalls", "/servers"])
@pytest.mark.parametrize("kind", ["lost", "twice"])
def test_a_lost_answer_or_a_double_create_ends_with_one_of_each(
    cloud: Cloud, tmp_path: Path, hear: Callable, path: str, kind: str
) -> None:
    cloud.faults(Fault(kind, "POST", path, times=1))  # type: ignore[arg-type]
    made(cloud.client(), request(tmp_path, hear))
    assert everything(cloud) == {"servers": 1, "firewalls": 1, "ssh_keys": 1, "volumes": 0, "primary_ips": 2}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("error", "POST", "/servers", status=503, code="unavailable", times=2),
        Fault("error", "POST", "", status=423, code="locked", times=3),
        Fault("error", "POST", "", status=429, code="rate_limit_exceeded", times=2),
        Fault("html", "GET", "", status=502, times=2),
        Fault("reset", "GET", "", times=2),
        Fault("error", "GET", "/actions/", status=503, times=2),
        Fault("slow", "POST", "/servers", seconds=0.5),
    ],
)
def test_what_passes_by_itself_is_waited_for(
    cloud: Cloud, tmp_path: Path, hear: Callable, fault: Fault
) -> None:
    cloud.faults(fault)
    made(cloud.client(patience=10), request(tmp_path, hear))
    assert everything(cloud)["servers"] == 1


def test_a_type_that_is_sold_out_gives_way_to_the_next(
    cloud: Cloud, tmp_path: Path, hear: Callable, heard: list[str]
) -> None:
    cloud.faults(
        Fault("capacity", type="cx23", location="fsn1"), Fault("capacity", type="cx23", location="nbg1")
    )
    server = made(cloud.client(), request(tmp_path, hear))
    assert (server.type, server.location) == ("cx23", "hel1")
    assert any("resource_unavailable" in line for line in heard)


def test_no_capacity_anywhere_is_said_with_what_was_tried(
    cloud: Cloud, tmp_path: Path, hear: Callable
) -> None:
    cloud.faults(Fault("capacity"))
    with pytest.raises(UnderstudyError, match="no capacity now for cx23 in fsn1"):
        made(cloud.client(), request(tmp_path, hear, max_monthly=6))
    assert everything(cloud)["servers"] == 0


@pytest.mark.parametrize("skip", [0, 1])
def test_a_server_whose_making_failed_is_made_anew(
    cloud: Cloud, tmp_path: Path, hear: Callable, skip: int
) -> None:
    cloud.faults(Fault("action", "POST", "/servers", code="server_error", times=1, skip=skip and 1))
    asked = request(tmp_path, hear)
    if skip:  # the first run is killed after its order, the second finds the failure
        cloud.faults(Fault("action", "POST", "/servers", code="server_error", times=1))
        api = cloud.client()
        key, wall = up.ensure_key(api, asked), up.ensure_wall(api, asked)
        with pytest.raises(UnderstudyError):
            up.placed(api, asked, up.quote(api, asked.wish)[0][0], key, wall)
    server = made(cloud.client(), asked)
    assert server.status == "running"
    assert everything(cloud) == {"servers": 1, "firewalls": 1, "ssh_keys": 1, "volumes": 0, "primary_ips": 2}


def test_an_api_that_was_restarted_meanwhile_finishes_what_it_began(
    cloud: Cloud, tmp_path: Path, hear: Callable
) -> None:
    cloud.faults(Fault("slow", "POST", "/servers", seconds=30))
    api, asked = cloud.client(), request(tmp_path, hear)
    key, wall = up.ensure_key(api, asked), up.ensure_wall(api, asked)
    offer = up.quote(api, asked.wish)[0][0]
    api.wait = lambda *_: None  # type: ignore[method-assign,assignment]
    up.placed(api, asked, offer, key, wall)
    for action in cloud.api.projects["lab"].state.data["actions"].values():
        action["_least"] = 0.05
    cloud.api.projects["lab"].state.save()
    cloud.stop()
    cloud.start()
    assert made(cloud.client(), asked).status == "running"
    assert everything(cloud)["servers"] == 1


def test_foreign_things_of_the_same_name_stay_untouched(cloud: Cloud, tmp_path: Path, hear: Callable) -> None:
    api, asked = cloud.client(), request(tmp_path, hear)
    foreign = api.add_wall("understudy-home-spare", up.wanted_rules(asked.wish), {"team": "others"})
    with pytest.raises(Refused, match="firewall named understudy-home-spare that Understudy did not make"):
        made(api, asked)
    assert [path for _, path, _ in cloud.writes] == ["/firewalls"]  # the foreign one
    api.delete("firewalls", foreign.id)
    offer = up.quote(api, asked.wish)[0][0]
    stranger = up.Request("other", asked.wish, [PUBLIC], "root", "", asked.pins, hear)
    key, wall = up.ensure_key(api, stranger), up.ensure_wall(api, stranger)
    up.placed(api, stranger, offer, key, wall)
    cloud.api.calls.clear()
    with pytest.raises(Refused, match="did not make for the stack home"):
        made(api, asked)
    assert cloud.writes == []
    with pytest.raises(Refused, match="stays untouched"):
        down.require_something(down.belongings(api, "home", "spare"), api, "home", "spare")


def test_ceiling_stops_before_anything_is_made(cloud: Cloud, tmp_path: Path, hear: Callable) -> None:
    with pytest.raises(Refused, match=r"costs 5\.99 EUR net a month and hetzner\.max_monthly is 5\.00"):
        made(cloud.client(), request(tmp_path, hear, max_monthly=5))
    assert cloud.writes == []


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"types": ["cx99"]}, "Hetzner has no server type 'cx99'"),
        ({"locations": ["mars"]}, "Hetzner has no location 'mars'"),
        ({"locations": ["ash"], "types": ["cx23"]}, "cx23 is not sold in ash"),
        ({"cores": 64}, "no server type in fsn1, nbg1, hel1 has 64 cores"),
    ],
)
def test_wishes_that_cannot_be_met(
    cloud: Cloud, tmp_path: Path, hear: Callable, wishes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        made(cloud.client(), request(tmp_path, hear, **wishes))
    assert cloud.writes == []


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ({"cors": 2}, r"hetzner\.cors in group_data/replica\.py"),
        ({"ssh_from": ["home"]}, r"hetzner\.ssh_from.*a network looks like"),
        ({"volume": 5}, "less than the 10 GB"),
        ({"name": "Re plica"}, r"hetzner\.name"),
        ({"name": "replica"}, "is a group of the inventory"),
        (["x"], "not a mapping"),
    ],
)
def test_wrong_group_data_is_named(block: object, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        wish_of({"hetzner": block})


def test_tokens_that_will_not_do(cloud: Cloud, tmp_path: Path, hear: Callable) -> None:
    with pytest.raises(BadInput, match="HCLOUD_TOKEN is not set"):
        cloud.client("")
    for token, sentence in (("lab-wrong", "does not know the token"), ("lab-reader", "may only read")):
        with pytest.raises(UnderstudyError, match=sentence) as caught:
            made(cloud.client(token), request(tmp_path, hear))
        assert caught.value.exit_code == 2
    assert everything(cloud) == dict.fromkeys(everything(cloud), 0)


def test_a_token_of_another_project_finds_nothing_and_touches_nothing(
    cloud: Cloud, tmp_path: Path, hear: Callable
) -> None:
    made(cloud.client(), request(tmp_path, hear))
    other = cloud.client("lab-stranger")
    with pytest.raises(BadInput, match="has no replica spare at Hetzner"):
        down.require_something(down.belongings(other, "home", "spare"), other, "home", "spare")
    assert everything(cloud)["servers"] == 1


def test_the_quota_is_named(cloud: Cloud, tmp_path: Path, hear: Callable) -> None:
    cloud.api.projects["lab"].servers.limits.servers = 0
    with pytest.raises(UnderstudyError, match=r"server limit exceeded.*the project's limit is reached"):
        made(cloud.client(), request(tmp_path, hear))
    assert everything(cloud)["servers"] == 0


def test_a_hung_api_and_one_that_is_not_there_end_in_a_sentence(cloud: Cloud) -> None:
    cloud.faults(Fault("hang", seconds=5))
    with pytest.raises(UnderstudyError, match="did not answer in time"):
        cloud.client(read=0.3, patience=0.5).offers()
    cloud.faults()
    gone = cloud.client(patience=0.5)
    cloud.stop()
    with pytest.raises(UnderstudyError, match="cannot be reached"):
        gone.offers()
    cloud.start()


def test_a_list_without_end_ends(cloud: Cloud, tmp_path: Path, hear: Callable) -> None:
    made(cloud.client(), request(tmp_path, hear))
    cloud.faults(Fault("sticky", "GET", "/servers"))
    with pytest.raises(UnderstudyError, match="repeats itself"):
        cloud.client().servers("")


def test_down_removes_ours_in_order_and_keeps_what_is_to_be_kept(
    cloud: Cloud, tmp_path: Path, hear: Callable
) -> None:
    api, asked = cloud.client(), request(tmp_path, hear, keep_address=True, volume=10)
    first = made(api, asked)
    api.add_wall("mine", up.wanted_rules(asked.wish), {})
    stays = down.down(api, down.belongings(api, "home", "spare"), False, hear)
    assert len(stays) == 2 and first.ip in stays[1]
    assert everything(cloud) == {"servers": 0, "firewalls": 1, "ssh_keys": 0, "volumes": 1, "primary_ips": 1}
    second = made(api, asked)
    assert second.ip == first.ip and second.volumes == first.volumes
    down.down(api, down.belongings(api, "home", "spare"), True, hear)
    assert everything(cloud) == {"servers": 0, "firewalls": 1, "ssh_keys": 0, "volumes": 0, "primary_ips": 0}


def test_a_changed_firewall_is_put_right(cloud: Cloud, tmp_path: Path, hear: Callable) -> None:
    api = cloud.client()
    made(api, request(tmp_path, hear))
    narrow = request(tmp_path, hear, ssh_from=["203.0.113.7/32", "2001:DB8::/32"])
    made(api, narrow)
    wall = api.wall_named("understudy-home-spare")
    assert wall and {source for rule in wall.rules for source in rule.sources} == {
        "203.0.113.7/32",
        "2001:db8::/32",
    }
    cloud.api.calls.clear()
    made(api, narrow)
    assert cloud.writes == []
