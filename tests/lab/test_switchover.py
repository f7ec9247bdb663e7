"""One group moves between two hosts while a writer outside writes to it: planned, after a power cut, and back."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Lab
from project import ROOT, Project

from lab import world
from lab.moves import GROUP, Moves, settled
from lab.world import RESOLVERS
from lab.writer import Crowd
from understudy.traffic.records import Batch

pytestmark = pytest.mark.lab

# Both carry no more than this file asks for, so that they are converged in a minute.
INVENTORY = """
exec(open("inventory/lab.py").read())
for _name, _data in primary + replica:
    _data["services"] = ["caddy", "cloudflared", "vaultwarden", "goatcounter"]
_project.ready(primary=primary, replica=replica)
"""
# The same hosts as one runs them whose names do not lie at Cloudflare.
EXTERNAL = INVENTORY.replace('"cloudflared", ', "").replace(
    "_project.ready", "for _name, _data in primary + replica:\n    _data['edge'] = 'external'\n_project.ready"
)
OWNER, OTHER = "lemongrab", "standby"
VAULT = {"vault.example.org": "/alive"}
ASK = "import urllib.request as u; print(u.urlopen(u.Request('http://127.0.0.1:8082/_lab/{}', method='{}')).read().decode())"
COMMIT, COUNT = (f'python3 -c "{ASK.format(*words)}"' for words in (("commit", "POST"), ("rows", "GET")))
RUNNING = "docker ps --format '{{.Names}}' | grep ^vaultwarden- || true"


@pytest.fixture(scope="module")
def moves(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moves]:
    """Two new hosts that may both own the group, one snapshot of it in the repository."""
    patch = pytest.MonkeyPatch()
    patch.setenv(RESOLVERS, "lab")
    project = Project.copy(tmp_path_factory.mktemp("switchover"))
    (project.path / "inventory").unlink()
    shutil.copytree(ROOT / "inventory", project.path / "inventory")
    (project.path / "inventory" / "moving.py").write_text(INVENTORY)
    (project.path / "inventory" / "external.py").write_text(EXTERNAL)
    patch.chdir(project.path)
    anew(lab)
    moves = Moves(project.path, "inventory/moving.py")
    moves.succeed("converge", "--json")
    moves.succeed("repo", "init")
    moves.succeed("backup", "--limit", OWNER, "--confirm-size", "vaultwarden")
    yield moves
    patch.undo()
    anew(lab)


def anew(lab: Lab) -> None:
    """New hosts, a zone without records, and repositories without what the group's next owner wrote."""
    lab.reset([OWNER, OTHER])
    world.cloud().control.empty()
    lab.store.clear("critical")


@pytest.fixture
def crowd(moves: Moves) -> Iterator[Crowd]:
    moves.cloud.control.clear()
    moves.cloud.control.delays(text=(0.1, 1), route=(0.1, 1))
    with Crowd(moves.cloud.edges, VAULT) as crowd:
        yield crowd
    moves.cloud.control.clear()


def judged(moves: Moves, crowd: Crowd, source: str, began: float) -> tuple[Any, int]:
    """(what became of acknowledged rows, writes that the old owner acknowledged after the batch)."""
    settled(moves)
    crowd.wait_for_rows(5)
    (writer,) = crowd.writers
    return writer.loss(began), moves.superseded(source, moves.batch_at(began))


def test_a_planned_switchover_loses_nothing_and_leaves_the_other_group(moves: Moves, crowd: Crowd) -> None:
    moves.cloud.control.forget()
    began = time.time()
    record = moves.move("switchover", OTHER)
    loss, superseded = judged(moves, crowd, OWNER, began)
    assert (record["ended"], moves.owner()) == ("moved", OTHER)
    assert loss.acknowledged > 10 and loss.lost == [] and superseded == 0
    assert moves.run(OWNER, RUNNING) == "" and "vaultwarden" in moves.run(OTHER, RUNNING)
    assert "goatcounter" in moves.run(OWNER, "docker ps --format '{{.Names}}'")
    held = moves.agent(OWNER, "status", {})["replica"]["groups"][GROUP]
    assert [one["clean"] for one in held["moved"]][-1:] == [True]


def test_records_that_a_zone_has_lost_come_back_as_the_hosts_remember(moves: Moves) -> None:
    """The owner is not the primary, for which a group that nobody has heard of is claimed."""
    owner, before = moves.owner(), moves.cloud.control.records()
    assert owner == OTHER
    live = moves.edge.account.records(moves.edge.zone)
    moves.edge.account.batch(moves.edge.zone, Batch(deletes=tuple(record.id for record in live)))
    assert moves.cloud.control.records() == {}
    moves.succeed("converge", "--json")
    after = moves.cloud.control.records()
    assert {name: r["content"] for name, r in after.items()} == {
        name: r["content"] for name, r in before.items()
    }
    assert moves.agent(owner, "journey", {"group": GROUP})["may"] and "vaultwarden" in moves.run(
        owner, RUNNING
    )


def test_after_a_power_cut_the_other_takes_over_and_the_dead_one_stands_by(
    moves: Moves, crowd: Crowd
) -> None:
    """The owner is whoever the planned switchover left it to."""
    dead = moves.owner()
    heir = moves.other(dead)
    moves.succeed("backup", "--limit", dead, "vaultwarden")
    moves.cloud.control.forget()
    began = time.time()
    crowd.wait_for_rows(5)
    looks = {"only_look": True}  # its own timer looks too
    assert moves.agent(heir, "watch", looks)["groups"][GROUP]["cause"] == "well"
    moves.kill(dead)
    try:
        assert moves.agent(heir, "watch", looks)["groups"][GROUP]["cause"] == "host"
        record = moves.move("failover", heir, "--yes", heir)
        loss, superseded = judged(moves, crowd, dead, began)
    finally:
        moves.switch_on(dead)
    (shown,) = record["shown"]
    assert all(one.over >= shown["at"] for one in loss.lost) and superseded == 0
    deadline = time.monotonic() + 60
    while moves.agent(dead, "journey", {"group": GROUP})["owner"] != heir and time.monotonic() < deadline:
        time.sleep(1)
    guard = moves.run(
        dead, "journalctl -u understudy-guard -u understudy-fence -b --no-pager -o short-precise | tail -40"
    )
    assert moves.agent(dead, "journey", {"group": GROUP})["owner"] == heir, guard
    assert moves.run(dead, RUNNING) == ""
    began = time.time()
    moves.cloud.control.forget()
    moves.move("switchover", dead)
    again, superseded = judged(moves, crowd, heir, began)
    assert again.lost == [] and superseded == 0
    moved = moves.agent(dead, "status", {})["replica"]["groups"][GROUP]["moved"]
    assert all(one["saved"] for one in moved if not one["clean"])


def test_what_cannot_be_done_safely_is_refused_with_the_way_on(moves: Moves) -> None:
    owner = moves.owner()
    for words, code, sentence in (
        (("--to", owner), 3, f"{owner} owns critical already"),
        (("--to", "nowhere"), 2, "has no host 'nowhere'"),
        (
            ("--to", moves.other(owner), "--group", "photos"),
            2,
            "no host carries a service of the group 'photos'",
        ),
        (("--resume",), 2, "no switchover was interrupted"),
    ):
        groups = () if "--group" in words or "--resume" in words else ("--group", GROUP)
        ended, _, said = moves.verb("switchover", *words, *groups)
        assert (ended, sentence in said) == (code, True), said


def test_without_cloudflare_data_and_services_move_and_the_owner_is_told_what_to_point_where(
    moves: Moves,
) -> None:
    """Nothing is asked of the zone, and nothing is called fenced."""
    source = moves.owner()
    target = moves.other(source)
    outside = copy.copy(moves)
    outside.inventory = "inventory/external.py"
    outside.succeed("converge", "--json")
    outside.run(source, COMMIT)
    rows = outside.run(source, COUNT)
    moves.cloud.control.forget()
    code, out, said = outside.verb("switchover", "--to", target, "--group", GROUP, "--json")
    assert code == 0, said
    assert [one["ended"] for one in json.loads(out)] == ["moved"]
    assert moves.cloud.control.calls() == []
    assert f"{target} serves {GROUP}. Point these names at it" in said and "  vault.example.org" in said
    assert "Nothing was fenced" in said
    assert moves.run(source, RUNNING) == "" and outside.run(target, COUNT) == rows
