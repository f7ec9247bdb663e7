"""Refresh into slots, promotion, demotion: real ticks and a real repository, killed wherever something was just done."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from putback_world import killed_at, rows, tree
from replica_world import GROUP, Host, fill, pair, tools

from understudy.agent import backup, journey, may
from understudy.agent.errors import AgentError
from understudy.agent.owner import state
from understudy.agent.owner.record import Ownership
from understudy.agent.replica import slots

__all__ = ["tools"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hosts, one backup; each test works on a copy (a password alone costs a second each time)."""
    base = tmp_path_factory.mktemp("pair")
    one, _ = pair(base)
    one.backup("app")
    return base


@pytest.fixture
def hosts(made: Path, tmp_path: Path, tools: Path) -> tuple[Host, Host]:
    shutil.copytree(made, tmp_path / "hosts", symlinks=True)
    one, two = (Host(tmp_path / "hosts" / name, name) for name in ("one", "two"))
    (two.base / "srv" / "repo").unlink()
    (two.base / "srv" / "repo").symlink_to(one.base / "srv" / "repo")
    return one, two


def published(host: Host) -> slots.Slot:
    slot = slots.current(host.root, GROUP)
    assert slot is not None and slot.state == "whole"
    return slot


def content(host: Host, slot: str) -> Any:
    return tree(host.at(f"/srv/app/.understudy-restore-slot-{slot}/app.data"))


def test_a_refresh_fills_the_idle_slot_and_the_other_stays_promotable(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    first = two.refresh()
    assert (first["slot"], first["idle"], first["services"]["app"]["rows"]) == ("a", False, 40)
    assert rows(two.at("/srv/app/.understudy-restore-slot-a/app.data/app.db")) == 40
    before = content(two, "a")
    fill(one, 45)
    one.backup("app")
    second = two.refresh()
    assert (second["slot"], second["idle"]) == ("b", False)
    assert (
        published(two).name == "b"
        and rows(two.at("/srv/app/.understudy-restore-slot-b/app.data/app.db")) == 45
    )
    assert content(two, "a") == before
    older = slots.load(two.root, GROUP, "a")
    assert older is not None and older.state == "whole"
    assert not two.at("/srv/app/data").exists()


def test_an_idle_refresh_is_one_call_and_only_brings_the_date_up_to_date(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    from understudy.agent.repo import restic

    one, two = hosts
    one.backup("app")  # the copy's files have inodes of their own
    two.refresh()
    one.backup("app")
    calls: list[str] = []
    real = restic.run
    monkeypatch.setattr(
        restic,
        "run",
        lambda repo, argv, *more, **named: calls.append(argv[0]) or real(repo, argv, *more, **named),
    )
    idle = two.refresh()
    assert idle["idle"] and calls == ["snapshots"]
    assert published(two).name == "a" and published(two).services["app"].seq == 3


def test_a_changed_snapshot_is_two_calls_and_loads_only_what_changed(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    from understudy.agent.repo import restic

    one, two = hosts
    two.refresh()
    one.write("/srv/app/data/notes/new", "new")
    one.backup("app")
    two.refresh()
    one.write("/srv/app/data/notes/newer", "newer")
    one.backup("app")
    calls: list[str] = []
    real = restic.run
    monkeypatch.setattr(
        restic,
        "run",
        lambda repo, argv, *more, **named: calls.append(argv[0]) or real(repo, argv, *more, **named),
    )
    third = two.refresh()
    assert calls == ["snapshots", "restore"] and third["services"]["app"]["loaded"] == []
    assert rows(two.at("/srv/app/.understudy-restore-slot-a/app.data/app.db")) == 40


def test_what_went_on_the_owner_goes_in_the_slot(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    two.refresh()
    one.at("/srv/app/data/notes/3").unlink()
    one.backup("app")
    two.refresh()
    assert not two.at("/srv/app/.understudy-restore-slot-b/app.data/notes/3").exists()


@pytest.mark.parametrize("what", ["files", "rows"])
def test_a_shrunken_snapshot_is_not_published_until_the_owner_says_so(
    hosts: tuple[Host, Host], what: str
) -> None:
    one, two = hosts
    two.refresh()
    before = content(two, "a")
    if what == "files":
        shutil.rmtree(one.at("/srv/app/data/notes"))
    else:
        fill(one, 5)
    backup.run({"services": ["app"]}, one.root)  # says that it shrank, and stores it
    with pytest.raises(AgentError, match="shrank") as caught:
        two.refresh()
    assert caught.value.kind == "shrunk"
    assert published(two).name == "a" and content(two, "a") == before
    assert two.refresh(accept_shrunk=True)["slot"] == "b"


def test_a_refresh_killed_anywhere_leaves_the_published_slot_whole_and_the_next_one_finishes(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    one, two = hosts
    two.refresh()
    before = content(two, "a")
    fill(one, 47, files=33)
    one.backup("app")
    done, number = "?", 0
    while done:
        done = killed_at(number, lambda checkpoint: two.refresh(checkpoint))
        number += 3  # every third point, another residue each time the file is run with another count
        slot = published(two)
        if slot.name == "a":
            assert content(two, "a") == before, done
        else:
            assert rows(two.at("/srv/app/.understudy-restore-slot-b/app.data/app.db")) == 47, done
    assert number > 12
    assert two.refresh()["idle"]
    assert published(two).name == "b"


def test_a_promotion_makes_the_slot_live_behind_the_fence_and_the_record_lifts_it(
    hosts: tuple[Host, Host], tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two = hosts
    two.write("/srv/app/data/stale", "what an earlier life left")
    two.refresh()
    reply = two.promote()
    assert reply["services"][0]["ok"] and reply["services"][0]["name"] == "one:1:1"
    assert rows(two.at("/srv/app/data/app.db")) == 40 and not two.at("/srv/app/data/stale").exists()
    [kept] = reply["services"][0]["old"]
    assert two.at(f"{kept}/stale").read_text() == "what an earlier life left"
    fence = tools / "nft.tables" / "understudy_owner_rest"
    assert "8100" in fence.read_text() and may.allowed(two.root, GROUP) == "granted"
    assert journey.run({"group": GROUP}, two.root)["silence"] is None
    assert two.look(monkeypatch, Ownership(GROUP, "one", 1, "n1"))["action"] == "fenced"
    assert fence.exists()
    found = two.look(monkeypatch, Ownership(GROUP, "two", 2, "n2", "one:1:1"))
    assert (found["action"], found["may"], fence.exists()) == ("run", "named", False)
    assert two.refresh()["skipped"]
    assert 0 <= journey.run({"group": GROUP}, two.root)["silence"] < 60
    row = two.backup("app")["services"][0]
    assert (row["epoch"], two.ledger("promote")[0]["ok"]) == (2, True)


def test_a_promotion_killed_anywhere_is_finished_by_the_next_call(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    _, two = hosts
    two.write("/srv/app/data/stale", "stale")
    two.refresh()
    whole, done, number = two.base, "?", 0
    while done:
        copy = tmp_path / f"kill-{number}"
        shutil.copytree(whole, copy, symlinks=True)
        host = Host(copy, "two")
        done = killed_at(number, lambda checkpoint, host=host: host.promote(checkpoint))
        reply = host.promote()
        assert "error" not in reply, (done, reply)
        assert (
            rows(host.at("/srv/app/data/app.db")) == 40
            and len(list(host.at("/srv/app/data/notes").iterdir())) == 30
        )
        assert host.journals() == []
        kept = [path for path in host.at("/srv/app").glob(".understudy-old-*/data/stale")]
        assert len(kept) == 1, done
        shutil.rmtree(copy)
        number += 4
    assert number > 20


def test_a_promotion_that_was_taken_back_and_tried_again_takes_the_newer_data(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator's word for the batch stays the same; 279 rows were lost on hosts while only that was looked at."""
    one, two = hosts
    two.refresh()
    two.promote()
    two.demote(save=False)
    fill(one, 55)
    one.backup("app")
    two.refresh()
    reply = two.promote(base="one:1:2")
    assert reply["services"][0]["name"] == "one:1:2" and reply["services"][0]["notes"] == []
    assert rows(two.at("/srv/app/data/app.db")) == 55
    again = two.promote(base="one:1:2")  # the same one once more changes nothing
    assert again["services"][0]["notes"] == ["it was promoted by an earlier call"]
    found = two.look(monkeypatch, Ownership(GROUP, "two", 2, "n2", "one:1:2"))
    assert (found["action"], rows(two.at("/srv/app/data/app.db"))) == ("run", 55)


def test_what_cannot_be_promoted_is_refused_with_the_reason(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = hosts
    with pytest.raises(AgentError, match="no whole replica"):
        two.promote()
    assert may.allowed(two.root, GROUP) == ""
    two.refresh()
    two.look(monkeypatch, Ownership(GROUP, "one", 5, "n5"))
    with pytest.raises(AgentError, match="epoch 2 of rest is over"):
        two.promote()
    with pytest.raises(AgentError, match="runs on this host already"):
        one.promote()
    two.described(
        app=json.loads(two.at("/etc/understudy/backup.json").read_text())["services"]["app"], more={**SMALL}
    )
    with pytest.raises(AgentError, match="lacks more"):
        two.promote(epoch=6)


SMALL: dict[str, Any] = {
    "group": GROUP, "tier": "important", "path": "/srv/more",
    "mounts": [{"key": "files/data", "kind": "bind", "source": "/srv/more/data"}], "databases": [],
}  # fmt: skip


def test_a_demoted_host_keeps_its_data_and_what_only_it_has_is_saved_apart(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = hosts
    fill(one, 52)
    found = one.look(monkeypatch, Ownership(GROUP, "two", 2, "n2", "one:1:1"))
    assert (found["action"], may.allowed(one.root, GROUP)) == ("stop", "")
    reply = one.demote()
    [moved] = reply["moved"]
    assert not moved["clean"] and moved["saved"]["name"] == "diverged-rest-1"
    assert rows(one.at("/srv/app/data/app.db")) == 52
    assert one.at("/srv/repo/diverged-rest-1").is_dir()
    assert one.demote()["moved"] == [moved]  # and not a second time
    with pytest.raises(AgentError, match="not this host's now"):
        one.backup("app")
    assert backup.run({"words": ["important"]}, one.root)["skipped"]


def test_the_owner_is_not_demoted_without_a_record(hosts: tuple[Host, Host]) -> None:
    one, _ = hosts
    with pytest.raises(AgentError, match="owns rest"):
        one.demote()
    reply = one.demote(record="understudy=1 group=rest owner=two epoch=2 nonce=n2 base=one:1:1", save=False)
    assert reply["unsaved"] == [1] and state.load(one.root, GROUP).owner == "two"


def test_a_host_that_came_back_takes_the_new_owners_snapshots_and_not_its_own_later_ones(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = hosts
    two.refresh()
    fill(one, 60)
    one.backup("app")  # after the base of what follows: it diverged
    assert "error" not in two.promote()
    two.look(monkeypatch, Ownership(GROUP, "two", 2, "n2", "one:1:1"))
    one.look(monkeypatch, Ownership(GROUP, "two", 2, "n2", "one:1:1"))
    assert one.refresh()["snapshots"]["app"]["name"] == "one:1:1"
    two.backup("app")
    assert one.refresh()["snapshots"]["app"]["name"] == "two:2:1"
    assert rows(one.at("/srv/app/data/app.db")) == 60


def test_a_group_of_one_slot_is_refreshed_in_place_and_not_promotable_meanwhile(
    hosts: tuple[Host, Host],
) -> None:
    one, two = hosts
    owner = two.at("/etc/understudy/owner.json")
    plan = json.loads(owner.read_text())
    plan["groups"][GROUP]["slots"] = 1
    owner.write_text(json.dumps(plan))
    two.refresh()
    fill(one, 48)
    one.backup("app")
    assert killed_at("slot restored", lambda checkpoint: two.refresh(checkpoint))
    with pytest.raises(AgentError, match="torn are app"):
        two.promote()
    assert two.refresh()["slot"] == "a"
    assert "error" not in two.promote() and rows(two.at("/srv/app/data/app.db")) == 48


def test_a_file_that_rotted_in_a_slot_is_found_by_the_pass_that_reads(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    one.backup("app")
    two.refresh()
    one.backup("app")
    place = two.at("/srv/app/.understudy-restore-slot-a/app.data/notes/7")
    before, info = place.read_bytes(), place.stat()
    place.write_bytes(b"X" * len(before))
    os.utime(place, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert two.refresh()["idle"]  # size and time are the same
    two.write("/var/lib/understudy/clock-offset", str(8 * 86400))
    again = two.refresh()
    assert not again["idle"]
    third = two.refresh(verify=True)
    assert third["slot"] == "a" and place.read_bytes() == before
