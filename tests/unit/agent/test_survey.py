"""What the survey reports of a host, with a docker and a compose that are small programs of the test."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from understudy.agent import containers, parts, survey, system
from understudy.agent import process as processes
from understudy.agent.disk import Disk
from understudy.agent.owner import state as owner_state
from understudy.agent.process import Finished

from .fake_docker import DOCKER, INSPECTED
from .world import STATE, Want, World, folder, to


def ask(world: World, **request: Any) -> dict[str, Any]:
    return survey.run(request, world.root)


class TestFiles:
    def test_every_kind_is_told_apart(self, world: World) -> None:
        world.write("/etc/a", "1", 0o640)
        world.at("/etc/link").symlink_to("/nowhere")
        world.at("/etc/empty").mkdir(mode=0o700)
        os.mkfifo(world.at("/etc/pipe"))
        paths = ["/etc", "/etc/a", "/etc/link", "/etc/empty", "/etc/pipe", "/etc/none", "/etc/a/below"]
        files = ask(world, paths=paths)["files"]
        kinds = {path: record["kind"] for path, record in files.items()}
        assert kinds == {
            "/etc": "dir", "/etc/a": "file", "/etc/link": "link", "/etc/empty": "dir", "/etc/pipe": "other",
            "/etc/none": "missing", "/etc/a/below": "missing",
        }  # fmt: skip
        assert files["/etc/a"]["mode"] == "0640" and files["/etc/a"]["sha256"] == Want(b"1").sha256
        assert (
            files["/etc/link"]["target"] == "/nowhere"
            and files["/etc/link"]["sha256"] == to("/nowhere").sha256
        )
        assert files["/etc/empty"]["empty"] and not files["/etc"]["empty"]

    def test_what_cannot_be_read_is_not_missing(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.write("/etc/a", "1")

        def denied(path: str) -> str:
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr("understudy.agent.look.hash_file", denied)
        assert ask(world, paths=["/etc/a"])["files"]["/etc/a"] == {
            "kind": "unreadable",
            "reason": "permission denied",
        }

    def test_covers_what_the_manifest_lists(self, world: World) -> None:
        world.apply({"/etc/x": Want(b"1"), "/etc/d": folder()})
        assert ask(world, paths=["/etc"])["files"].keys() == {"/etc", "/etc/x", "/etc/d"}

    def test_damaged_manifest_makes_files_unreadable_not_empty(self, world: World) -> None:
        world.write(f"{STATE}/manifest.json", "[")
        reply = ask(world, paths=["/etc"])
        assert "damaged" in reply["files"]["unreadable"] and "damaged" in reply["manifest"]["unreadable"]

    def test_contents_for_a_diff(self, world: World) -> None:
        world.write("/etc/a", b"\xff\x00")
        assert ask(world, read=["/etc/a", "/etc", "/none"])["contents"] == {"/etc/a": "/wA="}

    def test_programs_are_seen_through_links(self, world: World) -> None:
        world.write("/opt/app-2", "binary", 0o755)
        world.at("/opt/app").symlink_to("app-2")
        record = ask(world, programs=["/opt/app", "/opt/none"])["programs"]
        assert (
            record["/opt/app"]["sha256"] == Want(b"binary").sha256
            and record["/opt/none"]["kind"] == "missing"
        )


class TestState:
    def test_bare_host(self, world: World) -> None:
        before = world.snapshot()
        reply = ask(world, paths=["/etc"])
        assert (reply["manifest"], reply["pending"], reply["journal"], reply["busy"]) == (
            None,
            [],
            None,
            None,
        )
        assert world.snapshot() == before, "a survey writes nothing on a host that we never changed"

    def test_after_an_apply(self, world: World) -> None:
        applied = world.apply({"/etc/x": Want(b"1", reaction="unit:x stack:y")})
        reply = ask(world)
        assert reply["pending"] == ["stack:y", "unit:x"] and reply["markers"] == applied["markers"]
        assert reply["manifest"]["entries"].keys() == {"/etc/x"}

    def test_interrupted_apply_is_reported_and_closed_on_request(self, world: World) -> None:
        state = {
            "format": 1,
            "release": "r9",
            "since": "s",
            "state": "prepared",
            "steps": [],
            "reactions": [],
            "added": [],
        }
        world.write(f"{STATE}/journal.json", json.dumps(state))
        assert ask(world)["journal"] == {"release": "r9", "since": "s", "state": "prepared", "steps": 0}
        reply = ask(world, recover=True)
        assert (
            reply["recovered"] == {"release": "r9", "outcome": "undone", "kept": []}
            and reply["journal"] is None
        )


class TestDocker:
    def test_engine_containers_volumes_images(self, world: World, docker: Path) -> None:
        reply = ask(world)
        assert reply["docker"] == {
            "version": "26.1", "compose": "2.26.1", "data_root": "/var/lib/docker", "live_restore": True,
            "kind": "",
        }  # fmt: skip
        (container,) = reply["containers"]
        assert (container["project"], container["config_hash"], container["health"]) == (
            "caddy",
            "h1",
            "healthy",
        )
        assert container["ports"] == [{"container": 80, "proto": "tcp", "address": "127.0.0.1", "port": 8080}]
        assert container["networks"] == ["a", "b"] and container["mounts"][0]["name"] == "data"
        assert reply["volumes"][0]["project"] == "caddy" and reply["volumes"][0]["labels"]["a"] == "1,2"
        assert reply["images"] == {"caddy:2.10": "sha256:1", "caddy@sha256:d": "sha256:1"}

    def test_engine_that_is_down_is_unreadable(self, world: World, docker: Path) -> None:
        docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
        reply = ask(world)
        for part in ("docker", "containers", "volumes", "images"):
            assert "Cannot connect" in reply[part]["unreadable"], part

    def test_inspect_that_fails_for_another_reason_is_unreadable(self, world: World, docker: Path) -> None:
        docker.write_text(DOCKER.replace("No such container: vanished", "context deadline exceeded"))
        assert "deadline" in ask(world)["containers"]["unreadable"]

    def test_host_without_docker(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(containers.shutil, "which", lambda name: None)
        reply = ask(world)
        assert (reply["docker"], reply["containers"], reply["volumes"], reply["images"]) == (None, [], [], {})

    def test_stopped_container_shows_its_configured_ports(self) -> None:
        stopped = {**INSPECTED, "NetworkSettings": {"Ports": {}}}
        assert [port["port"] for port in containers.describe(stopped)["ports"]] == [8080]


class TestSystem:
    SHOWN = """Id=ssh.service\nNames=ssh.service sshd.service\nLoadState=loaded\nActiveState=active\nSubState=running
UnitFileState=enabled\nNeedDaemonReload=yes\nResult=success\nNRestarts=2\nExecMainStartTimestampMonotonic=123\n
Id=none.service\nNames=none.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n"""

    def answer(self, monkeypatch: pytest.MonkeyPatch, ended: Finished) -> list[list[str]]:
        argvs: list[list[str]] = []
        monkeypatch.setattr(processes, "run", lambda argv, timeout, cwd=None: argvs.append(argv) or ended)
        return argvs

    def test_units_from_one_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        argvs = self.answer(monkeypatch, Finished(0, self.SHOWN))
        units = system.units(["sshd.service", "none.service"])
        assert len(argvs) == 1
        assert units["sshd.service"] == {
            "load": "loaded", "active": "active", "sub": "running", "enabled": "enabled", "need_daemon_reload": True,
            "result": "success", "n_restarts": 2, "main_pid_started_monotonic": 123,
        }  # fmt: skip
        assert units["none.service"]["load"] == "not-found"

    @pytest.mark.parametrize(
        "ended", [Finished(1, "", "no bus"), Finished(0, SHOWN), Finished(124, "", "late")]
    )
    def test_units_that_cannot_be_told_are_unreadable(
        self, monkeypatch: pytest.MonkeyPatch, ended: Finished
    ) -> None:
        self.answer(monkeypatch, ended)
        with pytest.raises(parts.Unreadable, match="systemctl show"):
            system.units(["a", "b", "c"])

    def test_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        listed = "bash\tinstalled\t5.2\nremoved\tconfig-files\t1.0\n"
        self.answer(monkeypatch, Finished(1, listed, "dpkg-query: no packages found matching none"))
        assert system.packages(["bash", "removed", "none"]) == {"bash": "5.2", "removed": None, "none": None}
        self.answer(monkeypatch, Finished(2, "", "dpkg database is locked"))
        with pytest.raises(parts.Unreadable, match="locked"):
            system.packages(["bash"])

    def test_this_machine(self, world: World) -> None:
        reply = ask(world, users=["root", "no-such-user"], mounts=["/proc", "/etc"])
        assert reply["os"]["arch"] == os.uname().machine and reply["memory_bytes"] > 1 << 26
        assert reply["users"]["root"]["uid"] == 0 and reply["users"]["no-such-user"] is None
        assert reply["mounts"]["/proc"] == {"mounted": True, "source": "proc", "fstype": "proc"}
        assert reply["mounts"]["/etc"]["mounted"] is False
        assert reply["disks"]["/"]["total"] > 0

    @pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
    def test_listeners(self, world: World, family: int, address: str) -> None:
        with socket.socket(family) as server, socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            try:
                server.bind((address, 0))
            except OSError:
                pytest.skip("no IPv6 here")
            server.listen()
            datagrams.bind((address, 0))
            with (
                socket.create_connection(server.getsockname()[:2]),
                socket.socket(family, socket.SOCK_DGRAM) as client,
            ):
                client.connect(datagrams.getsockname())
                used = client.getsockname()[1]
                found = {
                    (item["proto"], item["address"], item["port"]): item for item in ask(world)["listeners"]
                }
            tcp, udp = server.getsockname()[1], datagrams.getsockname()[1]
            name = Path("/proc/self/comm").read_text().strip()
            assert ("udp", address, used) not in found
            assert found[("tcp", address, tcp)]["process"] == name and ("udp", address, udp) in found


class TestParts:
    def test_one_that_hangs_is_reported_and_the_rest_is_there(self) -> None:
        gate = threading.Event()
        started = time.monotonic()
        found = parts.gather({"stuck": lambda: gate.wait(20), "fine": lambda: [1], "bad": lambda: 1 / 0}, 0.3)
        assert time.monotonic() - started < 5
        assert found["fine"] == [1] and found["stuck"] == {"unreadable": "no answer within 0.3 s"}
        assert found["bad"]["unreadable"].startswith("ZeroDivisionError")
        gate.set()


class TestOwners:
    def test_nothing_was_ever_heard(self, world: World) -> None:
        assert ask(world, groups=["critical"])["owners"] == {}

    def test_the_newest_record_of_each_group(self, world: World) -> None:
        disk = Disk(world.root)
        owner_state.save(disk, owner_state.Held("critical", 3, "standby", "lemongrab:2:9", "5f", ran=2))
        owner_state.save(disk, owner_state.Held("rest"))
        told = {"owner": "standby", "epoch": 3, "base": "lemongrab:2:9", "nonce": "5f"}
        assert ask(world, groups=["critical", "rest"])["owners"] == {"critical": told}

    def test_a_damaged_memory_is_not_an_empty_one(self, world: World) -> None:
        world.write(f"{owner_state.FOLDER}/critical.json", "{")
        assert "critical.json is damaged" in ask(world, groups=["critical"])["owners"]["unreadable"]
