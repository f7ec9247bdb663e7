"""Everything that can be wrong at Cloudflare is one sentence, and nothing half-made is left."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from understudy.cloudflare import Access, Account, CloudflareError, Unsure, check_token
from understudy.errors import BadInput, Refused
from understudy.traffic import converge
from understudy.traffic.world import World

from .world import HOSTS, WORLD, Cloud

READER = ("Zone Read", "DNS Read", "Tunnel Read")


def refusal(cloud: Cloud, token: str, error: type[Exception] = CloudflareError, **more: object) -> str:
    """The sentence of a converge that has to fail; nothing may have been made by it."""
    before = cloud.state.data
    with pytest.raises(error) as caught:
        converge.apply(cloud.edge(token=token, **more))
    after = cloud.state.data
    assert all(before[kind] == after[kind] for kind in ("records", "tunnels"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_token(lab_cloud: Cloud) -> None:
    said = refusal(lab_cloud, "x" * 40)
    assert "does not know this token" in said and "secrets edit cloudflare" in said


def test_an_expired_token(lab_cloud: Cloud) -> None:
    assert "API Token is expired" in refusal(lab_cloud, lab_cloud.token(status="expired"))


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        (("DNS Write", "Tunnel Write"), "Zone: Zone: Read"),
        (("Zone Read", "Tunnel Write"), "Zone: DNS: Read"),
        (("Zone Read", "DNS Write"), "Account: Cloudflare Tunnel: Read"),
        (READER, "Zone: DNS: Edit"),
        (("Zone Read", "DNS Write", "Tunnel Read"), "Account: Cloudflare Tunnel: Edit"),
        (("Zone Read", "DNS Read", "Tunnel Write"), "Zone: DNS: Edit"),
    ],
)
def test_the_permission_that_is_missing_is_named(
    lab_cloud: Cloud, held: tuple[str, ...], missing: str
) -> None:
    assert missing in refusal(lab_cloud, lab_cloud.token(held))


def test_a_token_for_another_zone(lab_cloud: Cloud) -> None:
    lab_cloud.state.add_zone("example.net")
    said = refusal(lab_cloud, lab_cloud.token(zones=["example.net"]))
    assert "sees no zone for example.org" in said


def test_a_zone_of_another_account_has_no_tunnels_of_ours(lab_cloud: Cloud) -> None:
    lab_cloud.state.add_zone("example.net", "f" * 32)
    world = World("lab", "example.net", HOSTS, {"a.example.net": "critical"}, ("critical",))
    with pytest.raises(CloudflareError, match="lacks Account: Cloudflare Tunnel: Read"):
        converge.apply(lab_cloud.edge(world))


def test_a_configured_zone_with_a_hostname_outside_it(lab_cloud: Cloud) -> None:
    zone = lab_cloud.state.add_zone("example.net")
    said = refusal(lab_cloud, lab_cloud.token(), BadInput, zone=zone)
    assert said.startswith("example.org is not in the zone example.net: change `domain`")


@pytest.mark.parametrize(
    "name", ["CLOUDFLARE_API_KEY", "CLOUDFLARE_EMAIL", "CLOUDFLARE_API_USER_SERVICE_KEY"]
)
def test_a_global_key_in_the_environment_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"{name} is set: Understudy does not work with a global key"):
        check_token("x" * 40, {name: "something"})


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("0123456789abcdef0123456789abcdef01234", "global or origin key"),
        ("v1.0-abc", "global"),
        ("a b", "form"),
    ],
)
def test_what_is_no_api_token_is_refused_and_not_shown(token: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        check_token(token, {})
    assert token not in str(caught.value)


def test_a_foreign_record_of_the_same_name_is_named_and_not_touched(lab_cloud: Cloud) -> None:
    record = {"name": "vault", "type": "A", "content": "192.0.2.7", "proxied": True}
    account = lab_cloud.account()
    zone = account.zone("example.org")
    account.client.dns.records.create(zone_id=zone.id, ttl=1, **record)  # type: ignore[arg-type]
    said = refusal_without_tunnels(lab_cloud)
    assert "vault.example.org has a A record (192.0.2.7) that is not ours" in said
    assert set(lab_cloud.records()) == {"A vault.example.org"}


def refusal_without_tunnels(cloud: Cloud) -> str:
    with pytest.raises(Refused) as caught:
        converge.apply(cloud.edge())
    assert not cloud.state.data["tunnels"], "it looks before it makes anything"
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "rules", "why"),
    [
        ("local", [], "kept on a host"),
        ("cloudflare", [{"hostname": "x.example.org", "service": "http://localhost:1"}], "single hostnames"),
    ],
)
def test_a_foreign_tunnel_of_the_same_name(
    lab_cloud: Cloud, source: str, rules: list[dict[str, str]], why: str
) -> None:
    account = lab_cloud.account()
    zone = account.zone("example.org")
    tunnels = account.client.zero_trust.tunnels.cloudflared
    made = tunnels.create(account_id=zone.account, name="understudy-lab-lemongrab", config_src=source)  # type: ignore[arg-type]
    if rules:
        config = {"ingress": [*rules, {"service": "http_status:404"}]}
        tunnels.configurations.update(str(made.id), account_id=zone.account, config=config)  # type: ignore[arg-type]
    said = refusal(lab_cloud, lab_cloud.token(), Refused)
    assert "a tunnel understudy-lab-lemongrab that we did not make" in said and why in said


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/client/v4"


def test_an_api_that_hangs(silent: str) -> None:
    account = Account(Access("x" * 40, silent, timeout=0.3), {})
    began = time.monotonic()
    with pytest.raises(Unsure, match=r"could not look for the zone: Cloudflare did not answer within 0.3 s"):
        account.zone("example.org")
    assert time.monotonic() - began < 10


def test_an_api_that_cannot_be_reached() -> None:
    account = Account(Access("x" * 40, "http://127.0.0.1:9/client/v4", timeout=1), {})
    with pytest.raises(Unsure, match="Cloudflare's API cannot be reached"):
        account.zone("example.org")


def test_one_sporadic_refusal_is_asked_again_and_two_are_not(lab_cloud: Cloud) -> None:
    """Cloudflare refuses a right token now and then."""
    lab_cloud.fault(kind="forbidden", path="/dns_records", times=1)
    assert converge.look(lab_cloud.edge()).count() == 10
    lab_cloud.fault(kind="forbidden", path="/dns_records", method="GET", times=2)
    with pytest.raises(CloudflareError, match="lacks Zone: DNS: Read"):
        converge.look(lab_cloud.edge())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_read_is_tried_three_times(lab_cloud: Cloud, status: int) -> None:
    lab_cloud.fault(kind="status", status=status, times=2, method="GET", path="/dns_records")
    assert converge.look(lab_cloud.edge()).count() == 10
    lab_cloud.fault(kind="status", status=status, times=3, method="GET", path="/dns_records")
    with pytest.raises(CloudflareError):
        converge.look(lab_cloud.edge())


def test_a_list_that_says_nothing_is_no_empty_list(lab_cloud: Cloud) -> None:
    converge.apply(lab_cloud.edge())
    for path in ("/dns_records", "/cfd_tunnel"):
        lab_cloud.fault(kind="silent-failure", path=path, method="GET")
        with pytest.raises(Unsure, match="answered 200 without saying that it worked"):
            converge.apply(lab_cloud.edge())


def test_a_page_that_comes_again_and_again_ends(lab_cloud: Cloud) -> None:
    with lab_cloud.state.changing() as data:
        zone = next(iter(data["zones"]))
        for number in range(150):
            key = f"{number:032x}"
            data["records"][key] = record_of(zone, key, f"r{number}.example.org")
    edge = lab_cloud.edge()
    assert len(edge.account.records(edge.zone)) == 150
    lab_cloud.fault(kind="sticky")
    assert len(edge.account.records(edge.zone)) == 100


def record_of(zone: str, key: str, name: str) -> dict[str, object]:
    plain = {
        "content": "192.0.2.1",
        "ttl": 300,
        "proxied": False,
        "comment": None,
        "tags": [],
        "settings": {},
    }
    moment = {"created_on": "2026-11-01T00:00:00Z", "modified_on": "2026-11-01T00:00:00Z"}
    return {"id": key, "zone_id": zone, "name": name, "type": "A", **plain, **moment}


def test_a_lost_answer_to_the_creation_of_a_tunnel_makes_no_second_one(lab_cloud: Cloud) -> None:
    lab_cloud.fault(kind="lost", method="POST", path="/cfd_tunnel")
    converge.apply(lab_cloud.edge())
    names = sorted(tunnel["name"] for tunnel in lab_cloud.state.data["tunnels"].values())
    assert names == ["understudy-lab-lemongrab", "understudy-lab-standby"]


def test_killed_after_the_tunnel_it_goes_on_with_the_same_one(lab_cloud: Cloud) -> None:
    lab_cloud.fault(kind="status", method="PUT", path="/configurations")
    with pytest.raises(Unsure):
        converge.apply(lab_cloud.edge())
    made = set(lab_cloud.state.data["tunnels"])
    lab_cloud.calm()
    converge.apply(lab_cloud.edge())
    assert made <= set(lab_cloud.state.data["tunnels"]) and len(lab_cloud.state.data["tunnels"]) == 2


def test_what_others_changed_of_ours_is_put_right_and_what_is_theirs_stays(lab_cloud: Cloud) -> None:
    converge.apply(lab_cloud.edge())
    records = lab_cloud.records()
    with lab_cloud.state.changing() as data:
        one = records["CNAME vault.example.org"]
        data["records"][one["id"]] = {**one, "proxied": False, "ttl": 300}
        gone = records["CNAME media.example.org"]["id"]
        del data["records"][gone]
        data["records"]["a" * 32] = record_of(one["zone_id"], "a" * 32, "mine.example.org")
    found = converge.apply(lab_cloud.edge())
    lines = sorted((change.action, change.name) for change in found.changes)
    assert lines == [("create", "media.example.org"), ("update", "vault.example.org")]
    assert lab_cloud.records()["CNAME vault.example.org"]["proxied"] is True
    assert lab_cloud.records()["A mine.example.org"]["content"] == "192.0.2.1"


def test_the_record_of_a_retired_route_goes_and_no_other(lab_cloud: Cloud) -> None:
    converge.apply(lab_cloud.edge())
    names = {name: group for name, group in WORLD.names.items() if name != "media.example.org"}
    smaller = World(WORLD.stack, WORLD.domain, WORLD.hosts, names, WORLD.groups)
    found = converge.apply(lab_cloud.edge(smaller))
    assert [(c.action, c.name) for c in found.changes] == [("delete", "media.example.org")]
    assert "CNAME media.example.org" not in lab_cloud.records() and len(lab_cloud.records()) == 7


def test_an_owner_that_no_inventory_names_keeps_its_names(lab_cloud: Cloud) -> None:
    """The replica that was promoted, seen by an inventory that could not list it."""
    from understudy.traffic import flip

    edge = lab_cloud.edge()
    converge.apply(edge)
    flip.flip(edge, flip.read(edge, ["critical"]), "standby")
    before = lab_cloud.records()
    alone = World(WORLD.stack, WORLD.domain, WORLD.hosts[:1], WORLD.names, WORLD.groups)
    assert converge.apply(lab_cloud.edge(alone)).count() == 0
    assert lab_cloud.records() == before
