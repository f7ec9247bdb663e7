"""The guard exists only where another host of the inventory may own a group, and changes nothing of the owner's files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import NOTES, VARIABLES, Write

from understudy import compare, preflight, render
from understudy.catalog import Catalog
from understudy.desired import Desired
from understudy.errors import BadInput
from understudy.ownership import auto, enabling, watching_here
from understudy.ownership.files import owners
from understudy.ownership.held import held
from understudy.ownership.watching_here import Look
from understudy.settings import settings_of

SECRETS = {
    "notes": {"KEY": "k"},
    "cloudflared": {"TUNNEL_TOKEN": "t"},
    "lease": {"LEASE_KEY_ID": "id", "LEASE_KEY": "word"},
}
AUTO = {"auto": {"url": "s3:https://store.example/leases", "ttl": 600, "groups": ["critical"]}}
PAIR = {"box": {"role": "primary"}, "spare": {"role": "replica"}}
NATIVE = """
group: critical
native: {description: Pad, user: pad, exec: /usr/bin/pad, ports: [9100]}
"""


@pytest.fixture
def wanted(notes: Write, load: Callable[..., Catalog]) -> Callable[..., Desired]:
    notes("pad/understudy.yaml", NATIVE)
    notes("notes/compose.yaml", NOTES.replace("    ports:", "    restart: unless-stopped\n    ports:"))

    def _wanted(name: str = "box", **data: Any) -> Desired:
        values = {"domain": VARIABLES["DOMAIN"], "parts": {"proxy": False}, **data}
        return render.desired(load(), settings_of(name, values), SECRETS)

    return _wanted


def group_of(desired: Desired, service: str) -> str:
    return desired.catalog.services[service].block.group


def test_without_a_second_host_nothing_of_it_exists(wanted: Callable[..., Desired]) -> None:
    for peers in (
        {},
        {"box": {}},
        {"box": {}, "spare": {"may_own": False}},
        {"box": {}, "spare": {"groups": ["x"]}},
    ):
        alone = wanted(peers=peers)
        assert alone.guarded == frozenset()
        assert not [
            path for path in alone.tree.entries if "guard" in path or "owner" in path or "fence" in path
        ]
        assert len(alone.stacks["notes"].files) == 1
        assert b"ExecCondition" not in alone.tree.entries["/etc/systemd/system/pad.service"].content


def test_a_guarded_stack_gets_one_more_compose_file_and_keeps_its_own(wanted: Callable[..., Desired]) -> None:
    alone, paired = wanted(), wanted(peers=PAIR)
    stack = paired.stacks["notes"]
    assert stack.files == (*alone.stacks["notes"].files, "/etc/understudy/guard/notes.yaml")
    for path in alone.stacks["notes"].files:
        assert paired.tree.entries[path].content == alone.tree.entries[path].content
    extra = paired.tree.entries["/etc/understudy/guard/notes.yaml"].content.decode()
    names = paired.catalog.services["notes"].containers
    assert [line for line in extra.splitlines() if line.startswith("  ")] == [
        f'  "{name}": {{restart: "no"}}' for name in names
    ]


def test_only_the_groups_that_another_may_own_are_guarded(wanted: Callable[..., Desired]) -> None:
    paired = wanted(peers={"box": {}, "spare": {"role": "replica", "groups": ["critical"]}})
    assert paired.guarded == {"critical"} and group_of(paired, "notes") != "critical"
    assert len(paired.stacks["notes"].files) == 1
    assert b"ExecCondition=+/usr/bin/test -e /run/understudy/may/critical" in (
        paired.tree.entries["/etc/systemd/system/pad.service"].content
    )


def test_the_agents_plan_names_owners_policies_and_ports(wanted: Callable[..., Desired]) -> None:
    paired = wanted(
        "spare", peers=PAIR, ownership={"groups": {"critical": {"offline": "stay-down", "refresh": 300}}}
    )
    plan = json.loads(paired.tree.entries["/etc/understudy/owner.json"].content)
    group = group_of(paired, "notes")
    assert plan["groups"][group] == {
        "first": "box",
        "hosts": ["box", "spare"],
        "offline": "serve",
        "refresh": 3600,
        "slots": 2,
    }
    assert plan["groups"]["critical"] == {
        "first": "box",
        "hosts": ["box", "spare"],
        "offline": "stay-down",
        "refresh": 300,
        "slots": 2,
    }
    service = paired.catalog.services["notes"]
    assert plan["services"]["notes"]["restart"] == {"app": "unless-stopped"} and list(service.containers) == [
        "app"
    ]
    assert (plan["services"]["pad"]["unit"], plan["services"]["pad"]["ports"]) == ("pad.service", [9100])


def test_the_first_owner_is_a_primary_wherever_it_stands_in_the_inventory(
    wanted: Callable[..., Desired],
) -> None:
    peers = {"spare": {"role": "replica"}, "box": {"role": "primary"}}
    assert owners(wanted(peers=peers).settings, "critical") == ["box", "spare"]


CARD = """
services:
  player:
    image: "player:1"
    restart: always
    devices: ["/dev/dri:/dev/dri", "/dev/kvm"]
    deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}
  plain: {image: "plain:1", ports: ["127.0.0.1:8300:80"]}
"""


def test_a_replica_may_leave_devices_out(notes: Write, load: Callable[..., Catalog]) -> None:
    """The owner's file stays as it is: on the replica a file of ours takes them away again."""
    notes("player/compose.yaml", CARD)
    notes("player/understudy.yaml", "group: critical\nreplica: {without: [devices]}\n")
    path = "/etc/understudy/guard/player.yaml"
    found = {}
    for role, name in (("primary", "box"), ("replica", "spare")):
        values = {"domain": VARIABLES["DOMAIN"], "parts": {"proxy": False}, "role": role, "peers": PAIR}
        desired = render.desired(load(), settings_of(name, values), SECRETS)
        (text, devices) = desired.tree.entries[path].content.decode(), compare.devices(desired)
        found[role] = ([line.strip() for line in text.splitlines()[2:]], devices)
    assert found["primary"] == (
        ['"player": {restart: "no"}', '"plain": {restart: "no"}'],
        {"player": ["/dev/dri", "/dev/kvm"]},
    )
    reset = "devices: !reset [], deploy: {resources: {reservations: {devices: !reset []}}}"
    assert found["replica"] == ([f'"player": {{restart: "no", {reset}}}', '"plain": {restart: "no"}'], {})


def test_a_device_that_is_missing_is_said_before_a_promotion_needs_it(
    notes: Write, load: Callable[..., Catalog]
) -> None:
    notes("player/compose.yaml", CARD)
    notes("notes/understudy.yaml", "secrets: {KEY: {}}\nrequires: {devices: [/dev/ttyUSB0]}\n")
    values = {"domain": VARIABLES["DOMAIN"], "parts": {"proxy": False}}
    desired = render.desired(load(), settings_of("box", values), SECRETS)
    assert compare.request(desired)["devices"] == ["/dev/dri", "/dev/kvm", "/dev/ttyUSB0"]
    there = {"/dev/dri": True, "/dev/kvm": False, "/dev/ttyUSB0": False}
    runs = [{"project": "player", "state": "running", "service": "player", "name": "player-1"}]

    def missing(**seen: Any) -> list[str]:
        return list(preflight._devices(desired, seen))

    assert missing(devices=there | {"/dev/kvm": True, "/dev/ttyUSB0": True}, containers=[]) == []
    first, second = missing(devices=there, containers=[])
    assert first.startswith("notes needs /dev/ttyUSB0, which this host has not")
    assert (
        second.startswith("player needs /dev/kvm, which this host has not") and "without: [devices]" in second
    )
    assert missing(devices=there, containers=runs) == [first]  # it runs: its owner pulled the plug


def survey(**more: Any) -> dict[str, Any]:
    return {"containers": [], "images": {}, "stack_hashes": {}, **more}


def test_a_replica_is_never_started_by_a_converge_and_its_images_are_fetched(
    wanted: Callable[..., Desired],
) -> None:
    spare = wanted("spare", peers=PAIR)
    group = group_of(spare, "notes")
    for said in (None, {}, {"critical": "named"}):
        assert {"notes"} <= held(spare, survey(may=said))
        change = compare.stack_changes(spare, survey(may=said))[0]
        assert change.held and change.pull
    images = {image: "sha256:1" for _, image in spare.stacks["notes"].images}
    assert compare.stack_changes(spare, survey(may={}, images=images)) == []
    assert held(spare, survey(may={group: "named", "critical": "named"})) == frozenset()


def test_the_first_owner_is_started_before_it_has_a_guard_and_not_when_its_guard_says_no(
    wanted: Callable[..., Desired],
) -> None:
    box = wanted(peers=PAIR)
    assert held(box, survey(may=None)) == frozenset()
    assert {"notes", "pad"} <= held(box, survey(may={}))


def test_a_resolver_without_tls_is_refused() -> None:
    with pytest.raises(BadInput, match="not https"):
        settings_of(
            "box", {"domain": "example.org", "ownership": {"resolvers": ["http://1.1.1.1/dns-query"]}}
        )


def test_hosts_that_may_take_over_look_at_public_names_and_no_others_do(
    wanted: Callable[..., Desired],
) -> None:
    spare = wanted(
        "spare", peers=PAIR, edge="cloudflare", ownership={"watch": {"direct": {"box": "tcp://192.0.2.1:22"}}}
    )
    told = json.loads(spare.tree.entries["/etc/understudy/watch.json"].content)
    assert told["patience"] == 300 and told["host"] == "spare"
    for group in told["groups"].values():
        assert group["public"] and all(one["url"].startswith("https://") for one in group["public"])
        assert group["direct"] == {"box": "tcp://192.0.2.1:22"}
    assert "/etc/understudy/watch.json" not in wanted().tree.entries


def test_an_address_that_nobody_can_connect_to_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'192\.0\.2\.1' is not tcp://ADDRESS:PORT"):
        settings_of(
            "box", {"domain": "example.org", "ownership": {"watch": {"direct": {"box": "192.0.2.1"}}}}
        )


def test_auto_mode_brings_the_lease_its_key_and_a_timer_of_its_own(wanted: Callable[..., Desired]) -> None:
    paired = wanted(peers=PAIR, ownership=AUTO)
    plan = json.loads(paired.tree.entries["/etc/understudy/owner.json"].content)
    assert plan["auto"] == {
        "url": "s3:https://store.example/leases",
        "region": "",
        "seconds": 600,
        "groups": ["critical"],
        "key": "/etc/understudy/secrets/lease/aws",
    }
    assert plan["groups"]["critical"]["offline"] == "stay-down"
    assert plan["groups"][group_of(paired, "notes")]["offline"] == "serve", (
        "a group without a lease stays as it was"
    )
    key = paired.tree.entries["/etc/understudy/secrets/lease/aws"]
    assert key.mode == 0o600 and b"aws_secret_access_key = word" in key.content
    assert "/etc/systemd/system/understudy-lease.timer" in paired.tree.entries
    assert "understudy-lease.timer" in {wish.name for wish in paired.service_units}
    plain = wanted(peers=PAIR)
    assert not [path for path in plain.tree.entries if "lease" in path]
    assert "auto" not in json.loads(plain.tree.entries["/etc/understudy/owner.json"].content)


@pytest.mark.parametrize(
    ("ownership", "more", "words"),
    [
        ({**AUTO, "offline": "serve"}, {}, "auto and offline: serve contradict each other"),
        ({**AUTO, "groups": {"critical": {"offline": "serve"}}}, {}, "contradict each other"),
        ({"auto": {"url": "https://store.example/leases"}}, {}, "is not s3:https://HOST/BUCKET"),
        ({"auto": {**AUTO["auto"], "ttl": 60}}, {}, "greater than or equal to 240"),
        (AUTO, {"edge": "external"}, "moves public names by itself, and edge is external"),
    ],
)
def test_auto_mode_that_cannot_be_safe_is_refused(
    wanted: Callable[..., Desired], ownership: dict[str, Any], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        wanted(peers=PAIR, ownership=ownership, **more)


def test_auto_mode_is_not_switched_on_over_a_line_that_would_trigger_it(
    wanted: Callable[..., Desired], monkeypatch: pytest.MonkeyPatch
) -> None:
    paired = wanted(peers=PAIR, ownership=AUTO)
    monkeypatch.setattr(enabling, "_store", lambda *given: "")
    line = {"longest": 301.0, "at": 1_790_000_000.0, "auto": []}
    (said,) = enabling.reasons(paired, {"line": line})
    assert "was away for 301 s" in said and "ttl to at least 602" in said
    assert enabling.reasons(paired, {"line": {**line, "longest": 300.0}}) == []
    assert enabling.reasons(paired, {"line": {**line, "auto": ["critical"]}}) == [], "it is on already"
    assert enabling.reasons(wanted(peers=PAIR), {"line": line}) == []


def test_auto_mode_needs_a_store_that_can_be_asked(wanted: Callable[..., Desired]) -> None:
    auto = {"auto": {**AUTO["auto"], "url": "s3:http://127.0.0.1:9/leases"}}
    (said,) = enabling.reasons(wanted(peers=PAIR, ownership=auto), {"line": {}})
    assert said.startswith("auto mode: the store of the lease at 127.0.0.1:9 does not answer")


def look(cause: str = "host", seconds: float = 400, epoch: int = 3) -> Look:
    return Look("critical", "box", cause, seconds, "", epoch)  # type: ignore[arg-type]


def seen(**more: Any) -> auto.Sight:
    known = {"etag": '"1"', "since": 1000.0, "boot": "b", "owner": "box", "epoch": 3, "seconds": 420.0}
    return auto.Sight(**{**known, **more})


@pytest.mark.parametrize(
    ("found", "sight", "now", "words"),
    [
        (look("well"), seen(), 9000, "it is served"),
        (look(seconds=100), seen(), 9000, "not long enough"),
        (look("edge"), seen(), 9000, "it is served"),
        (look("own-line", 0), seen(), 9000, "it is served"),
        (look(), None, 9000, "never took one"),
        (look(epoch=0), seen(), 9000, "no resolver"),
        (look(), seen(), 1000 + 479, "may hold its lease for another 1 s"),
        (look(), seen(), 1000 + 480, ""),
        (look(), seen(seconds=900), 1000 + 959, "for another 1 s"),
        (look(), seen(owner="spare", epoch=4), 1001, ""),
        (look(), seen(owner="stranger", epoch=4), 1001, "the zone was set back"),
        (look(), seen(epoch=5), 9000, "the zone was set back"),
        (look(), seen(epoch=2), 1000 + 480, ""),
    ],
)
def test_what_a_watcher_waits_for(found: Look, sight: auto.Sight | None, now: float, words: str) -> None:
    why = auto.bars(found, sight, 420, 300, now, ("spare",))
    assert (words in why) if words else why == ""


def test_what_a_watcher_saw_outlives_it_and_no_reboot(tmp_path: Path) -> None:
    memory = tmp_path / "state/leases.json"
    assert auto.remembered(memory) == {}
    auto.remember({"critical": seen()}, memory)
    assert auto.remembered(memory) == {"critical": seen()}
    memory.write_text("{")
    assert auto.remembered(memory) == {}


def test_a_third_machine_trusts_its_own_file_for_the_resolvers(wanted: Callable[..., Desired]) -> None:
    box = wanted(peers=PAIR, ownership={"cacert": "/on/the/hosts"}, cloudflare={"cacert": "/on/this/machine"})
    one = watching_here._group("critical", box, [], [box])
    assert one.cacert == "/on/this/machine"
