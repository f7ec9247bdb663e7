"""Public names on the lab's edge: each reaches its service, and a flip leads them to the other host."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from typing import Any

import pytest
from project import ROOT, Outcome, Project

from lab import world
from lab.cloudflare.place import Cloudflare
from understudy import project as described
from understudy.agent import probe
from understudy.agent.root import Root
from understudy.traffic import flip, public
from understudy.traffic.edge import Edge, open_edge

pytestmark = pytest.mark.lab

# The standby carries only what this file asks it for, so that it is converged in a minute.
TWO = """
exec(open("inventory/lab.py").read())
for _name, _data in replica:
    _data["services"] = ["caddy", "cloudflared", "vaultwarden"]
_project.ready(primary=primary, replica=replica)
"""
ALIVE = "vault.example.org"


@pytest.fixture(scope="module")
def project(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Project:
    found = Project.copy(tmp_path_factory.mktemp("traffic"))
    (found.path / "inventory").unlink()
    shutil.copytree(ROOT / "inventory", found.path / "inventory")
    (found.path / "inventory" / "two.py").write_text(TWO)
    return found


@pytest.fixture(scope="module")
def converged(project: Project, lab: Any) -> Outcome:
    lab.reset(["standby"])  # whatever another test had put there
    outcome = project.verb("converge", "-i", "inventory/two.py", "--json")
    assert outcome.code == 0, outcome.output
    return outcome


@pytest.fixture
def cloud(converged: Outcome) -> Cloudflare:
    found = world.cloud()
    found.control.clear()
    found.control.forget()
    return found


@pytest.fixture
def edge(project: Project, cloud: Cloudflare, monkeypatch: pytest.MonkeyPatch) -> Edge:
    monkeypatch.chdir(project.path)
    world.use_lab_key()
    return open_edge(described.hosts("inventory/two.py"))


def test_every_public_name_reaches_its_service_through_every_colo(
    project: Project, cloud: Cloudflare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path)
    hosts = dict(described.hosts("inventory/two.py"))
    wishes = described.desired_for("lemongrab", hosts["lemongrab"]).probes
    proxied = [w.request for w in wishes if w.request["host"] and "127.0.0.1:8080" in w.request["url"]]
    assert len(proxied) >= 12
    cloud.control.settle()
    asked = [
        {**request, "url": request["url"].replace("http://127.0.0.1:8080", colo)}
        for request in proxied
        for colo in cloud.edges
    ]
    results = probe.run({"probes": asked, "parallel": 4}, Root())["results"]
    assert [result for result in results if not result["ok"]] == []
    answer = public.ask("nobody.example.org", front_url=cloud.edge())
    assert (answer.status, answer.body) == (530, b"error code: 1016")


def test_a_second_converge_writes_nothing(project: Project, cloud: Cloudflare) -> None:
    outcome = project.verb("converge", "-i", "inventory/two.py", "--json")
    assert outcome.code == 0, outcome.output
    assert outcome.changed == {}
    assert cloud.control.writes() == []
    assert cloud.control.calls(), "it did look"


def test_a_plan_shows_what_others_did_and_a_converge_puts_it_right(
    project: Project, cloud: Cloudflare
) -> None:
    record = cloud.control.records()["CNAME cloud.example.org"]
    cloud.control.put("records", {**record, "content": "elsewhere.example.net"})
    planned = project.verb("plan", "-i", "inventory/two.py", "--json")
    rows = [row for report in planned.reports for row in report["plan"] if row["kind"] == "record"]
    assert [row["what"] for row in rows] == ["cloud.example.org"]
    assert "elsewhere.example.net →" in rows[0]["why"]
    outcome = project.verb("converge", "-i", "inventory/two.py", "--json")
    assert outcome.changed == {"records": ["update cloud.example.org"]}
    assert cloud.control.records()["CNAME cloud.example.org"]["content"] == record["content"]


class Visitors:
    """One visitor a colo, asking as fast as the answers come."""

    def __init__(self, colos: list[str]) -> None:
        self.statuses: Counter[int] = Counter()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(colo,)) for colo in colos]

    def ask(self, colo: str) -> None:
        while not self.stopped.is_set():
            self.statuses[public.ask(ALIVE, "/alive", colo).status] += 1
            time.sleep(0.02)

    def __enter__(self) -> Visitors:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def test_a_flip_leads_a_group_to_the_other_host_and_back(cloud: Cloudflare, edge: Edge) -> None:
    """Both connectors are there: whatever order the news arrives in, no visitor meets an error."""
    cloud.control.delays(text=(0.2, 3.0), route=(0.2, 3.0))
    tunnels = {host: tunnel.id for host, tunnel in edge.tunnels().items()}
    for target in ("standby", "lemongrab"):
        cloud.control.forget()
        with Visitors(cloud.edges) as visitors:
            time.sleep(0.5)
            flip.flip(edge, flip.read(edge, ["critical"]), target)
            cloud.control.settle()
            time.sleep(0.5)
        assert set(visitors.statuses) == {200}, visitors.statuses
        last = {row["colo"]: row["tunnel"] for row in cloud.control.requests()}
        assert set(last.values()) == {tunnels[target]} and len(last) == 3
        rest = public.ask("rss.example.org", front_url=cloud.edge())
        assert rest.status == 200, "the other group stayed where it is"


def test_the_connectors_token_is_nowhere_in_sight(lab: Any, edge: Edge) -> None:
    token = edge.account.tunnel_token(edge.zone, edge.tunnel_of("lemongrab").id)
    host = lab.host("lemongrab")
    assert host.output("cat /etc/understudy/secrets/cloudflared/TUNNEL_TOKEN") == token
    assert host.output("stat -c %a /etc/understudy/secrets/cloudflared/TUNNEL_TOKEN") == "400"
    seen = host.run(
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; journalctl -o cat --no-pager; "
        "systemctl show cloudflared; cat /var/lib/understudy/manifest.json"
    ).stdout
    assert token not in seen and "cloudflared" in seen


def test_edge_check_runs_on_the_labs_zone(project: Project, cloud: Cloudflare) -> None:
    before = set(cloud.control.records())
    done = project.verb("edge", "check", "-i", "inventory/lab.py", "--rounds", "1")
    assert done.code == 0, done.output
    assert "refused whole (code 81044)" in done.output
    assert set(cloud.control.records()) == before
