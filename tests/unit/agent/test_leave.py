"""Footprint and leave on a scratch host: only ours goes, what stood there before comes back, the rest is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from understudy.agent import apt, footprint, leave, ours, unguard
from understudy.agent.errors import AgentError
from understudy.agent.process import Finished

from .world import STATE, Want, World, folder

OURS = "/etc/app/10-understudy.conf"
SHARED = "/etc/docker/daemon.json"
SAME = "/etc/app/same.conf"
SERVICE = "/home/notes/compose.yaml"
TREE = {
    "/etc/app": folder(),
    "/etc/app/only-ours": folder(),
    OURS: Want(b"ours\n"),
    SHARED: Want(b'{"ours": true}\n'),
    SAME: Want(b"same\n"),
    "/etc/app/only-ours/x": Want(b"x\n", reaction="sysctl"),
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A converged scratch host; programs of the host are answered here."""
    found = World(tmp_path / "host")
    found.write(SHARED, b'{"theirs": 1}\n', 0o600)
    found.write(SAME, b"same\n")
    found.write(SERVICE, b"services: {}\n")
    found.apply(TREE)
    manifest = found.manifest()
    manifest["entries"][SERVICE] = {"kind": "file", "sha256": "other", "service": "notes"}
    found.write(f"{STATE}/manifest.json", json.dumps(manifest))
    monkeypatch.setattr(leave, "UNITS", str(tmp_path / "units"))
    for module in (ours, leave):
        monkeypatch.setattr(module.process, "run", lambda argv, timeout, **more: Finished(0))
    return found


def fates(world: World, **wish: Any) -> dict[str, tuple[str, str]]:
    found = footprint.items(world.root, footprint.Wish.of(wish))
    return {item.what: (item.fate, item.why) for item in found}


def test_each_file_is_told_apart(world: World) -> None:
    found = fates(world)
    assert found[OURS] == ("remove", "")
    assert found[SHARED] == ("restore", "")
    assert found[SAME] == ("keep", "it was there before us")
    assert found[SERVICE] == ("keep", "notes runs from it")
    assert found["/etc/app/only-ours"] == ("remove", "") and "/etc/docker" not in found


def test_a_file_that_was_changed_after_us_stays(world: World) -> None:
    world.write(OURS, b"ours, and a line of the owner's\n")
    assert fates(world)[OURS] == ("keep", "it was changed after we wrote it")
    leave.run({}, world.root)
    assert world.at(OURS).exists()


def test_leaving_removes_ours_and_puts_back_what_was_there(world: World) -> None:
    reply = leave.run({}, world.root)
    assert not world.at(OURS).exists() and not world.at("/etc/app/only-ours").exists()
    assert (
        world.at(SHARED).read_bytes() == b'{"theirs": 1}\n'
        and world.at(SHARED).stat().st_mode & 0o777 == 0o600
    )
    assert world.at(SAME).read_bytes() == b"same\n" and world.at(SERVICE).exists()
    assert not world.at(STATE).exists()
    assert {item["what"] for item in reply["kept"]} >= {SAME, SERVICE}
    with pytest.raises(AgentError, match="nothing on this host is ours"):
        leave.run({}, world.root)


def test_a_later_release_does_not_take_our_own_file_for_the_owner_s(world: World) -> None:
    world.apply({**TREE, SHARED: Want(b'{"ours": 2}\n')}, "r2")
    leave.run({}, world.root)
    assert world.at(SHARED).read_bytes() == b'{"theirs": 1}\n'


def test_a_part_that_is_switched_off_gives_the_file_back(world: World) -> None:
    rest = {path: want for path, want in TREE.items() if path != SHARED}
    world.apply(rest, "r2", {SHARED: TREE[SHARED]})
    assert world.at(SHARED).read_bytes() == b'{"theirs": 1}\n'
    assert SHARED not in fates(world)


def test_dumps_stay_unless_asked_and_a_second_run_takes_them(world: World) -> None:
    world.write(f"{STATE}/dumps/notes/db.sqlite", b"x" * 2000)
    assert fates(world)[f"{STATE}/dumps"][0] == "keep"
    leave.run({}, world.root)
    assert (
        world.at(f"{STATE}/dumps/notes/db.sqlite").exists()
        and not world.at(f"{STATE}/manifest.json").exists()
    )
    leave.run({"dumps": True}, world.root)
    assert not world.at(STATE).exists()


def test_an_unfinished_restore_stops_it_before_anything_goes(world: World) -> None:
    world.write(f"{STATE}/restore/notes.json", "{}")
    with pytest.raises(AgentError, match=r"a restore is unfinished \(notes\)"):
        leave.run({}, world.root)
    assert world.at(OURS).exists()


def package(depends: str = "", provides: str = "") -> dict[str, str]:
    return {"version": "1", "depends": depends, "provides": provides}


def test_packages_that_others_need_stay_with_all_that_they_need() -> None:
    packages = {
        "restic": package("libc6"),
        "libc6": package(),
        "iptables": package("libxt (>= 1)"),
        "libxt": package(),
        "firewalld": package("nftables | iptables"),
        "node": package("libnode, node-acorn"),
        "libnode": package(),
        "acorn": package(provides="node-acorn (= 8)"),
    }
    mine = ["restic", "iptables", "libxt", "node", "libnode", "acorn", "gone"]
    kept = apt.kept_by(packages, mine, ["node"])
    assert kept == {
        "iptables": "firewalld",
        "libxt": "iptables",
        "node": "",
        "libnode": "node",
        "acorn": "node",
    }


def test_apt_is_asked_first_and_nothing_goes_when_it_would_take_more(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def answered(argv: list[str], timeout: float) -> Finished:
        called.append(argv)
        return Finished(0, "Purg restic [1]\nRemv backup-tool [2]\n")

    monkeypatch.setattr(apt.process, "run", answered)
    with pytest.raises(AgentError, match="backup-tool"):
        apt.purge(["restic"])
    assert [argv[1] for argv in called] == ["--simulate"]


def test_what_the_guard_starts_is_given_back_only_where_this_host_owns_it(world: World) -> None:
    def service(group: str, unit: str = "") -> dict[str, Any]:
        restart = {} if unit else {"app": "always"}
        return {"group": group, "project": "" if unit else group, "unit": unit, "restart": restart}

    services = {"a": service("mine"), "b": service("theirs"), "c": service("mine", "c.service")}
    world.write("/etc/understudy/owner.json", json.dumps({"services": services, "connectors": ["t.service"]}))
    for name in ("mine", "any"):
        world.write(f"/run/understudy/may/{name}", "owner")
    condition = "ExecCondition=+/usr/bin/test -e /run/understudy/may/mine\n"
    world.write(
        "/etc/systemd/system/c.service", f"[Service]\n# Written by the guard (x)\n{condition}ExecStart=x\n"
    )
    found = fates(world)
    assert found["mine/app"] == ("restore", "always again") and "theirs/app" not in found
    assert found["b"][0] == "keep" and "nothing starts it here" in found["b"][1]
    assert found["c.service"][0] == found["t.service"][0] == "remove"
    unguard.free_unit(world.root, "c.service")
    assert world.at("/etc/systemd/system/c.service").read_text() == "[Service]\nExecStart=x\n"
