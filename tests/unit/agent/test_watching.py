"""Whether an owner is dead, and when a person is told."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.agent import alarm, watch
from understudy.agent.data import ledger
from understudy.agent.errors import AgentError
from understudy.agent.owner import state
from understudy.agent.owner.record import Ownership
from understudy.agent.owner.record import text as record_text
from understudy.agent.root import Root
from understudy.agent.watching import judge
from understudy.agent.watching.judge import Incident, Seen
from understudy.ownership import watching_here

from .doh_server import Resolver, message

WELL, GONE, SILENT = Seen("vault", True, 200), Seen("vault", False, 530), Seen("vault", False, None)
BAD = Seen("cloud", False, 502)


@pytest.mark.parametrize(
    ("line", "public", "direct", "means"),
    [
        (True, [WELL, WELL], None, "well"),
        (False, [WELL], None, "well"),
        (False, [SILENT, SILENT], None, "own-line"),
        (False, [SILENT], True, "own-line"),
        (True, [WELL, BAD], None, "service"),
        (True, [BAD, BAD], None, "services"),
        (True, [GONE, GONE], None, "host"),
        (True, [GONE, GONE], False, "host"),
        (True, [GONE, GONE], True, "uplink"),
        (False, [GONE, GONE], None, "host"),
        (True, [SILENT, SILENT], None, "edge"),
        (True, [SILENT, SILENT], True, "edge"),
        (True, [SILENT, SILENT], False, "host"),
        (True, [GONE, BAD], None, "services"),
    ],
)
def test_what_probes_say_together(line: bool, public: list[Seen], direct: bool | None, means: str) -> None:
    assert judge.cause(line, public, direct) == means


def looks(*found: str, every: float = 30.0, patience: float = 300.0) -> list[tuple[float, str, str]]:
    """(when, what was told, the incident's cause) for looks in turn, of those that told something."""
    known, told = Incident(), []
    for number, one in enumerate(found):
        known, tell = judge.look(known, one, ["vault"], number * every + 1, patience)  # type: ignore[arg-type]
        if tell:
            told.append((number * every, tell, known.cause))
    return told


def test_a_short_loss_passes_untold() -> None:
    """The owner's line drops for a minute and a half every day."""
    assert looks(*["well"] * 3, *["host"] * 4, *["well"] * 30) == []


def test_a_dead_host_is_told_once_and_that_it_is_over() -> None:
    found = looks("well", *["host"] * 30, *["well"] * 5)
    assert [(tell, cause) for _, tell, cause in found] == [("begun", "host"), ("over", "well")]
    assert found[0][0] == 30 + 300


def test_it_flaps_and_is_one_incident() -> None:
    found = looks(*["host"] * 12, "well", *["host"] * 12, "well", *["host"] * 5)
    assert [tell for _, tell, _ in found] == ["begun"]


def test_while_the_own_line_is_dead_nothing_is_known() -> None:
    assert looks(*["own-line"] * 40) == []
    assert looks("host", *["own-line"] * 20, "host") == []
    assert [tell for _, tell, _ in looks(*["host"] * 5, *["own-line"] * 10, *["host"] * 12)] == ["begun"]


def test_time_that_nobody_looked_at_is_no_loss() -> None:
    assert looks("host", "host", every=3600.0) == []


def test_a_short_drop_of_a_host_whose_one_service_is_dead_proposes_nothing_new() -> None:
    found = looks(*["service"] * 120, *["host"] * 3, *["service"] * 5)
    assert [(tell, cause) for _, tell, cause in found] == [("begun", "service")]


def test_a_group_that_is_down_is_told_once_while_the_reason_flickers() -> None:
    assert [tell for _, tell, _ in looks(*["host", "services", "uplink"] * 40)] == ["begun"]


def test_a_service_that_becomes_a_dead_host_is_told_after_patience_of_its_own() -> None:
    found = looks(*["service"] * 12, *["host"] * 12)
    assert [(when, tell, cause) for when, tell, cause in found] == [
        (300.0, "begun", "service"),
        (12 * 30 + 300.0, "begun", "host"),
    ]


CAUSES = st.sampled_from(["well", "own-line", "service", "services", "uplink", "host", "edge"])


@given(st.lists(CAUSES, max_size=120))
def test_each_alarm_follows_a_full_run_of_its_kind_and_comes_once_an_incident(found: list[str]) -> None:
    known, told, run = Incident(), list[str](), list[str]()
    for number, one in enumerate(found):
        known, tell = judge.look(known, one, [], number * 30.0 + 1, 300)  # type: ignore[arg-type]
        kind = judge.FAMILIES.get(one, one)
        run = [*run, kind] if run and run[-1] == kind else [kind]
        if tell == "begun":
            assert len(run) >= 11 and kind not in told
            told.append(kind)
        if tell == "over":
            assert told and len(run) >= 3 and kind == "well"
            told = []


@pytest.mark.parametrize("cause", ["host", "uplink", "services"])
def test_the_command_to_run_is_said(cause: Any) -> None:
    said = judge.sentence("critical", "lemongrab", "standby", Incident(cause, 0.0, "", 0.0, ["vault"]), 312)
    assert "understudy failover --to standby --group critical" in said and "for 5 min" in said


@pytest.mark.parametrize("cause", ["service", "edge"])
def test_where_a_failover_would_not_help_none_is_proposed(cause: Any) -> None:
    said = judge.sentence("critical", "lemongrab", "standby", Incident(cause, 0.0, "", 0.0, ["vault"]), 312)
    assert "understudy failover" not in said


# --- the verb, with real sockets


class Edge(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(Edge.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def edge() -> Iterator[int]:
    Edge.status = 200
    with ThreadingHTTPServer(("127.0.0.1", 0), Edge) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def placed(root: Root, edge: int, direct: str) -> None:
    public = [
        {
            "name": "vault.example.org",
            "url": f"http://127.0.0.1:{edge}/",
            "host": "vault.example.org",
            "timeout": 2,
        }
    ]
    plans = {
        "/etc/understudy/watch.json": {
            "host": "standby", "patience": 300, "references": [f"tcp://127.0.0.1:{edge}"],
            "groups": {"critical": {"public": public, "direct": {"lemongrab": direct}}},
        },
        "/etc/understudy/owner.json": {
            "format": 1, "host": "standby", "domain": "example.org", "resolvers": [], "cacert": "", "boot_wait": 120, "keep_days": 30,
            "connectors": [], "services": {},
            "groups": {
                "critical": {
                    "first": "lemongrab", "hosts": ["lemongrab", "standby"], "offline": "serve", "refresh": 900, "slots": 2,
                },
            },
        },
        "/etc/understudy/backup.json": {},
    }  # fmt: skip
    for path, value in plans.items():
        where = Path(root.at(path))
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(json.dumps(value))


def test_a_dead_owner_is_told_with_the_command(
    tmp_path: Path, edge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
    root, told, clock = Root(str(tmp_path)), list[str](), [1000.0]
    placed(root, edge, dead)
    monkeypatch.setattr(state, "boottime", lambda: clock[0])
    monkeypatch.setattr(watch.plans, "load", lambda root: None)
    monkeypatch.setattr(alarm, "tell", lambda root, plan, text, unit="": told.append(text))
    first = watch.run({}, root)["groups"]["critical"]
    assert (first["cause"], first["owner"], first["direct"]) == ("well", "lemongrab", False)
    Edge.status = 530
    for _ in range(12):
        clock[0] += 30
        last = watch.run({}, root)["groups"]["critical"]
    assert (last["cause"], last["told"]) == ("host", ["nothing"]) and last["seconds"] >= 300
    (text,) = told
    assert "lemongrab has not served critical for 5 min" in text and "failover --to standby" in text
    Edge.status = 200
    for _ in range(4):
        clock[0] += 30
        watch.run({}, root)
    assert told[1:] == ["critical on lemongrab is well again"]
    kinds = [record["cause"] for record in ledger.records(root, months=1) if record["kind"] == "watch"]
    assert kinds == ["well", "host"]


def test_an_alarm_that_cannot_be_delivered_is_tried_again_and_not_at_every_look(
    tmp_path: Path, edge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, tries, clock = Root(str(tmp_path)), list[float](), [1000.0]
    placed(root, edge, "tcp://127.0.0.1:1")

    def tell(root: Root, plan: Any, text: str, unit: str = "") -> None:
        tries.append(clock[0])
        if len(tries) < 3:
            raise AgentError("the hook is down", "io")

    monkeypatch.setattr(state, "boottime", lambda: clock[0])
    monkeypatch.setattr(watch.plans, "load", lambda root: None)
    monkeypatch.setattr(alarm, "tell", tell)
    Edge.status = 530
    refused = 0
    for _ in range(60):
        clock[0] += 30
        try:
            watch.run({}, root)
        except AgentError:
            refused += 1
    assert (len(tries), refused) == (3, 2)
    assert [b - a for a, b in itertools.pairwise(tries)] == [300, 300]


def test_a_look_by_hand_remembers_and_tells_nothing(tmp_path: Path, edge: int) -> None:
    root = Root(str(tmp_path))
    placed(root, edge, "tcp://127.0.0.1:1")
    Edge.status = 530
    assert watch.run({"only_look": True}, root)["groups"]["critical"]["cause"] == "host"
    assert not (tmp_path / "run/understudy/watch.json").exists()


def test_without_its_plan_it_says_so(tmp_path: Path, edge: int) -> None:
    root = Root(str(tmp_path))
    placed(root, edge, "tcp://127.0.0.1:1")
    (tmp_path / "etc/understudy/watch.json").write_text("{")
    with pytest.raises(AgentError, match="missing or damaged: converge this host"):
        watch.run({}, root)


def test_a_third_machine_sees_the_same_and_names_who_could_take_over(
    tmp_path: Path, edge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = Ownership("critical", "standby", 7, "9f3c", "lemongrab:6:41")
    resolver = Resolver(lambda asked: message(asked, [[record_text(owned)]]))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
    public = [
        {"name": "vault", "url": f"http://127.0.0.1:{edge}/", "host": "vault.example.org", "timeout": 2}
    ]
    group = watching_here.Group(
        "critical", "example.org", "lemongrab", ("lemongrab", "standby"), public, [resolver.url], "", {"standby": dead},
        [f"tcp://127.0.0.1:{edge}"], 300,
    )  # fmt: skip
    clock, memory = [1000.0], tmp_path / "state/watch.json"
    monkeypatch.setattr(watching_here, "_now", lambda: clock[0])

    def once() -> watching_here.Look:
        clock[0] += 30
        (found,) = watching_here.looks([group], memory)
        return found

    first = once()
    assert (first.owner, first.cause, first.text) == ("standby", "well", "")
    Edge.status = 530
    lost = [once() for _ in range(12)]
    assert {one.cause for one in lost} == {"host"}
    (text,) = [one.text for one in lost if one.text]  # once, and not before it has lasted
    assert "standby has not served critical for 5 min" in text and "failover --to lemongrab" in text
    memory.write_text("torn")
    assert once().seconds == 0  # patience begins anew
    resolver.close()
    assert once().owner == "lemongrab"
