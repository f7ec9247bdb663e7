"""Every answer of the emulated Cloudflare against the published API description and the SDK's own models.

The description is that of August 2024, the newest that could be had; what changed since is named in NEWER.
"""

from __future__ import annotations

import base64
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from .world import Cloud

ROOT = Path(__file__).resolve().parents[3]
CANDIDATES = [os.environ.get("UNDERSTUDY_SPECS") or "", str(ROOT.parent / "shared" / "specs")]
SPECS = next(
    (
        Path(text)
        for text in [*CANDIDATES, str(ROOT.parent.parent / "shared" / "specs")]
        if text and Path(text).is_dir()
    ),
    None,
)
SECRET = base64.b64encode(b"s" * 32).decode()
NOBODY = "0" * 32
pytestmark = pytest.mark.skipif(
    SPECS is None, reason="shared/specs is not beside this clone (UNDERSTUDY_SPECS)"
)

NEWER = {r"POST /zones/[^/]+/dns_records/batch"}
"""Operations that came after the description: only the SDK's model speaks of them."""

MODELS = {
    r"GET /user/tokens/verify": "resp.TokenVerify",
    r"\w+ /accounts/[^/]+/cfd_tunnel(/[^/]+)?": "resp.CloudflareTunnel",
    r"GET /accounts/[^/]+/cfd_tunnel/[^/]+/connections": "resp.TunnelClient",
    r"GET /accounts/[^/]+/cfd_tunnel/[^/]+/configurations": "resp.ConfigurationGetResponse",
    r"PUT /accounts/[^/]+/cfd_tunnel/[^/]+/configurations": "resp.ConfigurationUpdateResponse",
    r"POST /zones/[^/]+/dns_records/batch": "resp.dns.RecordBatchResponse",
    r"DELETE /zones/[^/]+/dns_records/[^/]+": "resp.dns.RecordDeleteResponse",
    r"GET /zones(/[^/]+)?": "resp.Zone",
    r"(GET|POST|PUT|PATCH) /accounts/[^/]+/load_balancers/monitors(/[^/]+)?": "resp.Monitor",
    r"(GET|POST|PUT|PATCH) /accounts/[^/]+/load_balancers/pools(/[^/]+)?": "resp.Pool",
    r"GET /accounts/[^/]+/load_balancers/pools/[^/]+/health": "resp.PoolHealth",
    r"(GET|POST|PUT|PATCH) /zones/[^/]+/load_balancers(/[^/]+)?": "resp.LoadBalancer",
    r"(GET|POST|PUT|PATCH) /zones/[^/]+/healthchecks(/[^/]+)?": "resp.Healthcheck",
}


@cache
def description() -> Any:
    assert SPECS
    return nullable(json.loads((SPECS / "cloudflare-2024-08-06.pruned.json").read_text()))


@cache
def models() -> Any:
    assert SPECS
    found = json.loads((SPECS / "cloudflare-sdk-5.9.0.response-models.schema.json").read_text())["schemas"]
    for name in ("resp.ConfigurationGetResponse", "resp.ConfigurationUpdateResponse"):
        # The model asks every rule for a hostname; a catch-all has none, in life and in the description.
        rule = next(item for key, item in found[name]["$defs"].items() if key.endswith("ConfigIngress"))
        rule["required"] = ["service"]
    return found


COMMENT = "Comments or notes about the DNS record"
"""A comment that nobody wrote is null in every answer, and in the SDK's model, whatever the description says."""


def nullable(value: Any) -> Any:
    """OpenAPI 3.0 says nullable (this one often only in words) where JSON Schema says a type more."""
    if isinstance(value, list):
        return [nullable(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: nullable(item) for key, item in value.items() if key not in ("nullable", "example")}
    said = str(value.get("description") or "")
    may_be_null = value.get("nullable") is True or "If `null`" in said or said.startswith(COMMENT)
    return {"anyOf": [plain, {"type": "null"}]} if may_be_null and "type" in value else plain


def published(method: str, path: str) -> Any:
    """The description's answers of an operation; {} for one it does not know."""
    for pattern, verbs in description()["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", pattern), path) and method.lower() in verbs:
            return verbs[method.lower()]["responses"]
    return {}


class Checked:
    """Calls whose answers are held against both."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.token = cloud, cloud.token()

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200, token: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        answer = httpx.request(method, f"{self.cloud.url}{path}", json=body, headers=headers, timeout=10)
        assert answer.status_code == status, answer.text
        plain = path.split("?")[0]
        whole = answer.json()
        if status >= 400:
            failed(whole)
        else:
            self.held(method, plain, whole)
        return whole["result"]

    def held(self, method: str, path: str, whole: Any) -> None:
        answers = published(method, path)
        if answers:
            schema = answers["200"]["content"]["application/json"]["schema"]
            jsonschema.Draft202012Validator({**schema, "components": description()["components"]}).validate(
                whole
            )
        else:
            assert any(re.fullmatch(pattern, f"{method} {path}") for pattern in NEWER), path
        for pattern, model in MODELS.items():
            if re.fullmatch(pattern, f"{method} {path}"):
                for item in whole["result"] if isinstance(whole["result"], list) else [whole["result"]]:
                    jsonschema.Draft202012Validator(models()[model]).validate(item)


def failed(whole: Any) -> None:
    schema = description()["components"]["schemas"]["dns-records_api-response-common-failure"]
    jsonschema.Draft202012Validator({**schema, "components": description()["components"]}).validate(whole)
    assert whole["errors"][0]["code"] >= 1000


@pytest.fixture
def call(lab_cloud: Cloud) -> Checked:
    return Checked(lab_cloud)


def test_tokens_and_zones(call: Checked) -> None:
    assert call("GET", "/user/tokens/verify")["status"] == "active"
    zone = call("GET", "/zones?name=example.org")[0]
    assert call("GET", f"/zones/{zone['id']}")["name"] == "example.org"
    call("GET", f"/zones/{NOBODY}", status=403)
    call("GET", "/zones", status=401, token="x" * 40)


def test_records_one_by_one(call: Checked) -> None:
    zone = call("GET", "/zones")[0]["id"]
    path = f"/zones/{zone}/dns_records"
    a_record = {"name": "a", "type": "A", "content": "192.0.2.1", "ttl": 300, "proxied": False}
    made = call("POST", path, a_record)
    call("POST", path, a_record, status=400)
    call("POST", path, {**a_record, "type": "CNAME", "content": "b.example.net"}, status=400)
    call("POST", path, {"name": "t", "type": "TXT", "content": '"x"', "ttl": 60, "comment": "c" * 101}, 400)
    call("POST", path, {"name": "t", "type": "TXT", "content": '"x"', "ttl": 60, "comment": "ours"})
    call("POST", path, {"name": "c", "type": "CNAME", "content": "b.example.net", "ttl": 1, "proxied": True})
    call("GET", f"{path}/{made['id']}")
    call("PATCH", f"{path}/{made['id']}", {"content": "192.0.2.2"})
    call("PUT", f"{path}/{made['id']}", {**a_record, "content": "192.0.2.3"})
    assert len(call("GET", path)) == 3
    assert [r["type"] for r in call("GET", f"{path}?name.exact=t.example.org")] == ["TXT"]
    assert call("DELETE", f"{path}/{made['id']}") == {"id": made["id"]}
    call("GET", f"{path}/{made['id']}", status=404)
    call("GET", f"{path}/nonsense", status=400)


def test_a_batch_is_one_transaction_in_its_order(call: Checked) -> None:
    zone = call("GET", "/zones")[0]["id"]
    path = f"/zones/{zone}/dns_records"
    text = {"name": "t", "type": "TXT", "content": '"one"', "ttl": 60}
    one, two = call("POST", f"{path}/batch", {"posts": [text, {**text, "content": '"two"'}]})["posts"]
    done = call(
        "POST",
        f"{path}/batch",
        {
            "posts": [text],  # identical to the one that the same batch deletes first
            "deletes": [{"id": one["id"]}],
            "patches": [{"id": two["id"], "content": '"changed"'}],
        },
    )
    assert (len(done["deletes"]), len(done["patches"]), len(done["posts"])) == (1, 1, 1)
    before = call("GET", path)
    patch = {"id": two["id"], "content": '"never"'}
    call("POST", f"{path}/batch", {"deletes": [{"id": one["id"]}], "patches": [patch]}, status=404)
    call("POST", f"{path}/batch", {"patches": [patch], "posts": [{**text, "ttl": 5}]}, status=400)
    assert call("GET", path) == before


def test_tunnels(call: Checked) -> None:
    account = call.cloud.state.account
    path = f"/accounts/{account}/cfd_tunnel"
    made = call("POST", path, {"name": "t", "config_src": "cloudflare", "tunnel_secret": SECRET})
    call("POST", path, {"name": "t", "config_src": "cloudflare", "tunnel_secret": SECRET}, status=409)
    call("POST", path, {"name": "u", "tunnel_secret": "short"}, status=400)
    one = f"{path}/{made['id']}"
    assert [t["status"] for t in call("GET", f"{path}?is_deleted=false")] == ["inactive"]
    call("GET", one)
    rules = {"config": {"ingress": [{"service": "http://localhost:8080"}]}}
    assert call("PUT", f"{one}/configurations", rules)["version"] == 1
    call("PUT", f"{one}/configurations", {"config": {"ingress": [{"hostname": "x", "service": "a"}]}}, 400)
    call("GET", f"{one}/configurations")
    assert json.loads(base64.b64decode(call("GET", f"{one}/token")))["t"] == made["id"]
    call("GET", f"{one}/connections")
    client = {"id": made["id"], "version": "1", "arch": "x", "run_at": made["created_at"], "conns": []}
    call.cloud.hub.connected[made["id"]] = [{**client, "features": [], "config_version": 1}]
    call("GET", f"{one}/connections")
    call("DELETE", one, status=400)
    call("DELETE", f"{one}/connections")
    call("PATCH", one, {"tunnel_secret": base64.b64encode(b"n" * 32).decode()})
    assert call("DELETE", one)["deleted_at"]
    assert call("GET", path) == [] and len(call("GET", f"{path}?is_deleted=true")) == 1
    call("GET", f"{one}/token", status=404)


def test_balancers(call: Checked) -> None:
    account, zone = call.cloud.state.account, call("GET", "/zones")[0]["id"]
    path = f"/accounts/{account}/load_balancers"
    monitor = call("POST", f"{path}/monitors", {"type": "https", "expected_codes": "200", "path": "/healthz"})
    pool = {"name": "one", "origins": [{"name": "o", "address": "x.cfargotunnel.com", "enabled": True}]}
    made = call("POST", f"{path}/pools", {**pool, "monitor": monitor["id"]})
    call("POST", f"{path}/pools", {"name": "none"}, status=400)
    call("GET", f"{path}/pools/{made['id']}/health")
    body = {"name": "app.example.org", "default_pools": [made["id"]], "fallback_pool": made["id"]}
    balancer = call("POST", f"/zones/{zone}/load_balancers", body)
    call("POST", f"/zones/{zone}/load_balancers", {**body, "fallback_pool": NOBODY}, status=400)
    call("DELETE", f"{path}/pools/{made['id']}", status=412)
    call("PATCH", f"{path}/pools/{made['id']}", {"enabled": False})
    for kind in ("monitors", "pools"):
        call("GET", f"{path}/{kind}")
    call("GET", f"/zones/{zone}/load_balancers")
    call("DELETE", f"/zones/{zone}/load_balancers/{balancer['id']}")
    call("DELETE", f"{path}/pools/{made['id']}")
    call("DELETE", f"{path}/monitors/{monitor['id']}")
    check = {"name": "c", "address": "app.example.org", "type": "HTTPS"}
    call("GET", f"/zones/{zone}/healthchecks/{call('POST', f'/zones/{zone}/healthchecks', check)['id']}")


def test_pages_end_and_unknown_routes_are_said(call: Checked) -> None:
    zone = call("GET", "/zones")[0]["id"]
    path = f"/zones/{zone}/dns_records"
    for number in range(3):
        call("POST", path, {"name": f"r{number}", "type": "A", "content": "192.0.2.1", "ttl": 300})
    pages = [call("GET", f"{path}?per_page=2&page={page}") for page in (1, 2, 3)]
    assert [len(page) for page in pages] == [2, 1, 0]
    call("GET", "/accounts/x/nothing", status=404)
