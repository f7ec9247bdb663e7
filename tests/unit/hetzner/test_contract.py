"""Every answer of the emulated Hetzner against the published API description, and read by the SDK itself."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import hcloud
import jsonschema
import pytest
import requests
from hcloud.actions import ActionFailedException
from hcloud.firewalls import FirewallResource, FirewallRule
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType
from hcloud.servers import Server

from lab.hetzner.faults import Fault

from .conftest import Cloud

ROOT = Path(__file__).resolve().parents[3]
CANDIDATES = [os.environ.get("UNDERSTUDY_SPECS") or "", str(ROOT.parent / "shared" / "specs")]
SPECS = next((Path(text) for text in CANDIDATES if text and Path(text).is_dir()), None)
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVuZGVyc3R1ZHktbGFiLWtleS1mb3ItdGVzdHMtMDAx lab"
needs_specs = pytest.mark.skipif(
    SPECS is None, reason="shared/specs is not beside this clone (UNDERSTUDY_SPECS)"
)


@cache
def description() -> dict[str, Any]:
    assert SPECS
    found: dict[str, Any] = json.loads((SPECS / "hetzner-cloud.pruned.json").read_text())
    return found


def schema_of(method: str, path: str, status: int) -> Any:
    """The published schema of an answer, None for one without a body."""
    for pattern, verbs in description()["paths"].items():
        exact = re.fullmatch(re.sub(r"\{[^}]+\}", r"\\d+", pattern), path)
        if exact and method.lower() in verbs:
            answers = verbs[method.lower()]["responses"]
            answer = answers.get(str(status)) or answers.get(f"{status // 100}xx")
            assert answer, f"{method} {path} is not known to answer {status}"
            return ((answer.get("content") or {}).get("application/json") or {}).get("schema")
    raise AssertionError(f"{method} {path} is not in the published description")


class Checked:
    """Requests whose answers are held against the description."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.seen = cloud, set[tuple[str, str, int]]()

    def __call__(
        self, method: str, path: str, body: object = None, token: str = "lab-owner", status: int = 0
    ) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.cloud.endpoint}{path}"
        answer = requests.request(method, url, json=body, headers=headers, timeout=10)
        assert not status or answer.status_code == status, answer.text
        schema = schema_of(method, path.split("?")[0], answer.status_code)
        if schema is None:
            assert answer.content == b""
            return None
        jsonschema.Draft202012Validator(schema).validate(answer.json())
        self.seen.add((method, re.sub(r"\d+", "{id}", path.split("?")[0]), answer.status_code))
        return answer.json()


@pytest.fixture
def ask(cloud: Cloud) -> Checked:
    return Checked(cloud)


def ordered(ask: Checked, **more: object) -> dict[str, Any]:
    body = {"name": "r", "server_type": "cx23", "image": "debian-13", "location": "fsn1", **more}
    found: dict[str, Any] = ask("POST", "/servers", body, status=201)
    return found


def settle(ask: Checked) -> None:
    import time

    while any(a["status"] == "running" for a in ask("GET", "/servers/actions?per_page=50")["actions"]):
        time.sleep(0.05)


@needs_specs
@pytest.mark.parametrize("kind", ["locations", "server_types", "images"])
def test_what_is_on_offer(ask: Checked, kind: str) -> None:
    rows = ask("GET", f"/{kind}?per_page=2")[kind]
    assert len(rows) == 2
    ask("GET", f"/{kind}/{rows[0]['id']}", status=200)
    assert ask("GET", f"/{kind}?name={rows[1]['name']}")[kind][0]["name"] == rows[1]["name"]
    ask("GET", f"/{kind}/9", status=404)


@needs_specs
def test_prices(ask: Checked) -> None:
    assert ask("GET", "/pricing", status=200)["pricing"]["currency"] == "EUR"


@needs_specs
def test_the_life_of_a_server(ask: Checked) -> None:
    key = ask("POST", "/ssh_keys", {"name": "k", "public_key": PUBLIC, "labels": {"a": "b"}}, status=201)[
        "ssh_key"
    ]
    rules = [{"direction": "in", "protocol": "tcp", "port": "22", "source_ips": ["0.0.0.0/0"]}]
    wall = ask("POST", "/firewalls", {"name": "w", "rules": rules}, status=201)["firewall"]
    ask.cloud.faults(
        Fault("slow", "POST", "/servers", seconds=1, times=1)
    )  # so that it is seen while it is locked
    made = ordered(ask, ssh_keys=["k"], firewalls=[{"firewall": wall["id"]}], user_data="#cloud-config\n{}\n")
    number = made["server"]["id"]
    assert made["root_password"] is None and made["action"]["status"] == "running"
    ask("GET", f"/servers/{number}", status=200)
    ask("POST", f"/servers/{number}/actions/poweroff", {}, status=423)
    settle(ask)
    assert ask("GET", f"/servers/{number}")["server"]["status"] == "running"
    ask("GET", f"/servers/{number}/actions/{made['action']['id']}", status=200)
    ask("GET", f"/actions/{made['action']['id']}", status=200)
    ask("GET", f"/actions?id={made['action']['id']}", status=200)
    ask("GET", "/actions", status=410)
    ask("PUT", f"/servers/{number}", {"labels": {"c": "d"}}, status=200)
    for deed, body in (
        ("change_protection", {"delete": True, "rebuild": True}),
        ("enable_backup", {}),
        ("disable_backup", {}),
        ("reboot", {}),
        ("poweroff", {}),
        ("change_type", {"server_type": "cx33", "upgrade_disk": False}),
        ("poweron", {}),
        ("shutdown", {}),
    ):
        ask("POST", f"/servers/{number}/actions/{deed}", body, status=201)
        settle(ask)
    ask("POST", f"/servers/{number}/actions/rebuild", {"image": "debian-13"}, status=423)
    ask("DELETE", f"/servers/{number}", status=423)
    ask(
        "POST",
        f"/servers/{number}/actions/change_protection",
        {"delete": False, "rebuild": False},
        status=201,
    )
    ask("POST", f"/servers/{number}/actions/rebuild", {"image": "debian-13"}, status=201)
    settle(ask)
    ask("DELETE", f"/firewalls/{wall['id']}", status=422)
    ask("DELETE", f"/servers/{number}", status=200)
    ask("GET", f"/servers/{number}")
    settle(ask)
    ask("GET", f"/servers/{number}", status=404)
    ask("DELETE", f"/firewalls/{wall['id']}", status=204)
    ask("DELETE", f"/ssh_keys/{key['id']}", status=204)
    assert ask("GET", "/primary_ips")["primary_ips"] == []


@needs_specs
def test_addresses_volumes_firewalls_groups(ask: Checked) -> None:
    address = ask(
        "POST",
        "/primary_ips",
        {"name": "a", "type": "ipv4", "assignee_type": "server", "location": "fsn1"},
        status=201,
    )["primary_ip"]
    volume = ask(
        "POST", "/volumes", {"name": "v", "size": 10, "location": "fsn1", "format": "ext4"}, status=201
    )["volume"]
    group = ask("POST", "/placement_groups", {"name": "g", "type": "spread"}, status=201)["placement_group"]
    made = ordered(ask, volumes=[volume["id"]], public_net={"ipv4": address["id"], "enable_ipv6": True})
    number = made["server"]["id"]
    settle(ask)
    for kind, row in (("primary_ips", address), ("volumes", volume), ("placement_groups", group)):
        ask("GET", f"/{kind}", status=200)
        ask("GET", f"/{kind}/{row['id']}", status=200)
        ask("PUT", f"/{kind}/{row['id']}", {"labels": {"x": "y"}}, status=200)
    assert ask("GET", f"/servers/{number}")["server"]["public_net"]["ipv4"]["ip"] == address["ip"]
    ask("DELETE", f"/primary_ips/{address['id']}", status=422)
    ask("DELETE", f"/volumes/{volume['id']}", status=422)
    ask("POST", f"/volumes/{volume['id']}/actions/resize", {"size": 20}, status=201)
    ask("POST", f"/volumes/{volume['id']}/actions/detach", {}, status=201)
    ask("POST", f"/volumes/{volume['id']}/actions/attach", {"server": number, "automount": False}, status=201)
    ask("POST", f"/primary_ips/{address['id']}/actions/change_protection", {"delete": True}, status=201)
    ask("DELETE", f"/primary_ips/{address['id']}", status=423)
    wall = ask("POST", "/firewalls", {"name": "w"}, status=201)["firewall"]
    target = [{"type": "server", "server": {"id": number}}]
    ask("POST", f"/firewalls/{wall['id']}/actions/apply_to_resources", {"apply_to": target}, status=201)
    ask("POST", f"/firewalls/{wall['id']}/actions/apply_to_resources", {"apply_to": target}, status=422)
    rules = [{"direction": "in", "protocol": "icmp", "source_ips": ["::/0"]}]
    ask("POST", f"/firewalls/{wall['id']}/actions/set_rules", {"rules": rules}, status=201)
    ask("GET", "/firewalls", status=200)
    ask("POST", f"/firewalls/{wall['id']}/actions/remove_from_resources", {"remove_from": target}, status=201)
    settle(ask)
    ask("DELETE", f"/placement_groups/{group['id']}", status=204)


@needs_specs
def test_refusals(ask: Checked, cloud: Cloud) -> None:
    ask("GET", "/servers", token="", status=401)
    ask("GET", "/servers", token="wrong", status=401)
    ask("POST", "/ssh_keys", {"name": "k", "public_key": PUBLIC}, token="lab-reader", status=401)
    ask(
        "POST",
        "/servers",
        {"name": "r", "server_type": "cx23", "image": "debian-13", "location": "ash"},
        status=412,
    )
    ask("POST", "/servers", {"name": "r_", "server_type": "cx23", "image": "debian-13"}, status=422)
    ask("POST", "/servers", {"name": "r", "server_type": "cx23", "image": "x"}, status=422)
    ask("POST", "/ssh_keys", {"name": "k", "public_key": "no key"}, status=422)
    ask("POST", "/ssh_keys", {"name": "k", "public_key": PUBLIC}, status=201)
    ask("POST", "/ssh_keys", {"name": "l", "public_key": PUBLIC}, status=409)
    ask("POST", "/firewalls", {"name": "w", "labels": {"hetzner.cloud/x": "y"}}, status=422)
    too_long = {"name": "r", "server_type": "cx23", "image": "debian-13", "user_data": "x" * 33000}
    ask("POST", "/servers", too_long, status=422)
    cloud.api.control("PUT", "settings", {"rate": 1})
    ask("GET", "/servers", status=200)
    ask("GET", "/servers", status=429)


def test_datacenters_are_gone_and_unknown_paths_come_before_the_token(cloud: Cloud) -> None:
    head = {"Authorization": "Bearer lab-owner"}
    gone = requests.get(f"{cloud.endpoint}/datacenters", headers=head, timeout=5)
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "deprecated_api_endpoint")
    unknown = requests.get(f"{cloud.endpoint}/nothing", timeout=5)
    assert (unknown.status_code, unknown.json()["error"]["message"]) == (404, "api route not found")
    shown = requests.get(f"{cloud.endpoint}/servers", headers=head, timeout=5)
    assert shown.headers["RateLimit-Limit"] == "3600"


def test_the_sdk_reads_every_answer(cloud: Cloud) -> None:
    sdk = hcloud.Client("lab-owner", cloud.endpoint, timeout=5, poll_interval=0.05)
    key = sdk.ssh_keys.create("k", PUBLIC, labels={"a": "b"})
    rule = FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["0.0.0.0/0"])
    wall = sdk.firewalls.create("w", [rule]).firewall
    made = sdk.servers.create(
        "r", ServerType(name="cx23"), Image(name="debian-13"), location=Location(name="nbg1"), ssh_keys=[key],
        firewalls=[wall], labels={"role": "replica"},
    )  # fmt: skip
    for action in (made.action, *made.next_actions):
        action.wait_until_finished()
    server = sdk.servers.get_all(label_selector="role in (replica,other),!nothing")[0]
    assert (server.name, server.status, server.location.name) == ("r", "running", "nbg1")
    assert server.public_net.firewalls[0].firewall.id == wall.id
    assert server.server_type.locations[0].available
    server.change_protection(delete=True, rebuild=True).wait_until_finished()
    with pytest.raises(hcloud.APIException, match="protected"):
        server.delete()
    server.change_protection(delete=False, rebuild=False).wait_until_finished()
    resource = FirewallResource(type="server", server=Server(id=server.id))
    for action in sdk.firewalls.remove_from_resources(wall, [resource]):
        action.wait_until_finished()
    volume = sdk.volumes.create(10, "v", server=server, format="ext4")
    volume.action.wait_until_finished()
    assert sdk.volumes.get_by_name("v").server.id == server.id
    server.delete().wait_until_finished()
    assert sdk.volumes.get_by_name("v").server is None
    assert sdk.ssh_keys.get_by_fingerprint(key.fingerprint).id == key.id
    assert sdk.images.get_by_name_and_architecture("debian-13", "arm").architecture == "arm"
    assert {one.name for one in sdk.locations.get_all()} >= {"fsn1", "nbg1", "hel1"}


def test_pages_follow_each_other(cloud: Cloud) -> None:
    sdk = hcloud.Client("lab-owner", cloud.endpoint, timeout=5)
    for number in range(60):
        sdk.firewalls.create(f"w{number}")
    assert len(sdk.firewalls.get_all()) == 60


def test_a_failed_action_says_why(cloud: Cloud) -> None:
    sdk = hcloud.Client("lab-owner", cloud.endpoint, timeout=5, poll_interval=0.05)
    cloud.faults(Fault("action", "POST", "/servers", code="server_error"))
    made = sdk.servers.create(
        "r", ServerType(name="cx23"), Image(name="debian-13"), location=Location(name="fsn1")
    )
    with pytest.raises(ActionFailedException, match="server_error"):
        made.action.wait_until_finished()
    assert made.root_password
