"""Services that are touched for their backup: hooks, stopping and starting, and who pays when the tick was killed.

Docker is a small program of the test that keeps the state of two containers in files and notes what it was told.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tick_world import Host, box, mounts_below, prepared, sqlite_file

from understudy.agent import backup, lift
from understudy.agent.data import owed
from understudy.agent.data.quiesce import night
from understudy.agent.disk import Disk
from understudy.agent.errors import AgentError

__all__ = ["box", "prepared"]

DOCKER = """#!{python}
import json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
words = sys.argv[1:]
def note():
    with open(here + "/calls", "a") as stream:
        stream.write(" ".join(words) + "\\n")
def state(name, new=None):
    if new:
        open(f"{{here}}/{{name}}.state", "w").write(new)
    return open(f"{{here}}/{{name}}.state").read()
names = ["app", "db", "idle"]
if words[0] == "ps":
    wanted = [w.split("=")[-1] for w in words if w.startswith("label=com.docker.compose.service=")] or names
    print("\\n".join(n for n in wanted if "status=running" not in words or state(n) == "running"))
elif words[:2] == ["container", "inspect"]:
    print(json.dumps([{{"Id": n, "Name": "/" + n, "Image": "sha256:" + n, "State": {{"Status": state(n)}}, "Config": {{
        "Image": n + ":1", "Labels": {{"com.docker.compose.service": n, "com.docker.compose.project": "a"}}}}}} for n in words[2:]]))
elif words[:2] == ["image", "inspect"]:
    print(json.dumps([{{"Id": i, "RepoDigests": ["x@sha256:1"]}} for i in words[2:]]))
elif words[0] == "compose":
    note()
    for name in [w for w in words if w in names]:
        if os.path.exists(here + "/refuse") and "up" in words:
            sys.exit("no such luck")
        state(name, "exited" if "stop" in words else "running")
elif words[0] == "exec":
    note()
    sys.exit(1 if "fail" in words else 0)
elif words[0] == "volume" and words[1] == "ls":
    pass
else:
    sys.exit("what is " + " ".join(words))
"""


@pytest.fixture
def engine(box: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Service a has an application, a database server and a container that does not run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER.format(python=sys.executable))
    (folder / "docker").chmod(0o755)
    for name, state in (("app", "running"), ("db", "running"), ("idle", "exited")):
        (folder / f"{name}.state").write_text(state)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    box.services["a"] |= {"project": "a", "compose": ["docker", "compose", "-p", "a"], "servers": ["db"]}
    box.services["a"]["databases"] = [
        {"name": "notes", "kind": "sqlite", "mount": "files/data", "path": "notes.db"}
    ]
    sqlite_file(box.at("/srv/a/data/notes.db"), 10)
    return folder


def told(engine: Path) -> list[str]:
    notes = engine / "calls"
    return notes.read_text().splitlines() if notes.exists() else []


def states(engine: Path) -> dict[str, str]:
    return {name: (engine / f"{name}.state").read_text() for name in ("app", "db", "idle")}


RUNS = {"app": "running", "db": "running", "idle": "exited"}


def hook(*run: str) -> dict[str, Any]:
    return {"service": "app", "run": list(run), "user": "33", "timeout": 20}


def test_a_debt_to_a_service_that_was_retired_meanwhile_is_settled(box: Host, engine: Path) -> None:
    """A tick was cut short, and the service retired before the next: nobody wants it started, and no tick fails for it."""
    assert "error" not in box.tick()
    retired = dataclasses.replace(box.plan.services["a"], name="retired")
    for settle in (box.tick, lambda: lift.run({}, box.root)):
        owed.record(Disk(box.root), retired, ["app"], hooks=True)
        assert "error" not in settle()
        assert list(owed.debts(box.root)) == []
    assert not any(call.startswith("exec") for call in told(engine))


def test_after_dump_runs_whatever_happened_between(box: Host, engine: Path) -> None:
    box.services["a"]["hooks"] = {
        "before_dump": [hook("maintenance", "on")],
        "after_dump": [hook("maintenance", "off")],
    }
    assert "error" not in box.tick()
    assert told(engine) == ["exec --user 33 app maintenance on", "exec --user 33 app maintenance off"]
    (engine / "calls").unlink()
    box.at("/srv/a/data/notes.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8176)
    reply = box.tick()
    assert [row["ok"] for row in reply["services"]] == [False, True]
    assert told(engine) == ["exec --user 33 app maintenance on", "exec --user 33 app maintenance off"]
    (engine / "calls").unlink()
    box.services["a"]["hooks"]["before_dump"] = [hook("fail")]
    reply = box.tick()
    assert "the hook 'fail' in app failed" in reply["error"] and told(engine)[-1].endswith("maintenance off")
    assert list(owed.debts(box.root)) == []


def test_quiesced_services_stand_still_while_their_files_are_read(box: Host, engine: Path) -> None:
    box.services["a"]["quiesce"] = "daily"
    box.settings["quiesce_window"] = time.strftime(
        "%H:%M-", time.localtime(time.time() - 3600)
    ) + time.strftime("%H:%M", time.localtime(time.time() + 3600))
    seen: dict[str, dict[str, str]] = {}
    reply = box.tick(lambda done: seen.setdefault(done, states(engine)))
    assert "error" not in reply
    assert seen["stored near rest"] == {"app": "exited", "db": "running", "idle": "exited"}
    assert states(engine) == RUNS, "exactly what ran runs again"
    assert told(engine) == ["compose -p a stop app", "compose -p a up --detach --no-deps --no-recreate app"]
    row = next(row for row in reply["services"] if row["service"] == "a")
    assert 0 < row["unavailable"] < 20
    assert next(r for r in box.records("backup") if r["service"] == "a")["unavailable"] == row["unavailable"]
    assert {row["snapshot"] for row in reply["services"] if row["service"] == "b"} != {row["snapshot"]}
    assert {tag for s in box.snapshots() for tag in s["tags"] if tag.startswith("seq")} == {"seq:1"}
    second = box.tick()
    assert len(told(engine)) == 2, "once a night"
    assert len({row["snapshot"] for row in second["services"]}) == 1
    box.tick(services=["a"], quiesce=True)
    assert len(told(engine)) == 4, "and when asked"


@pytest.mark.parametrize("moment", ["hooks a", "stopped a", "dump a notes", "show a", "stored near rest"])
def test_b9_a_killed_tick_leaves_nothing_stopped(box: Host, engine: Path, moment: str) -> None:
    box.services["a"]["quiesce"] = "daily"
    box.services["a"]["hooks"] = {"after_dump": [hook("maintenance", "off")]}
    box.write_plan()
    child = os.fork()
    if child == 0:
        kill = lambda done: os.kill(os.getpid(), signal.SIGKILL) if done == moment else None  # noqa: E731
        try:
            backup.run({"services": ["a"], "quiesce": True}, box.root, kill)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert (states(engine)["app"] == "exited") is (moment != "hooks a")
    assert lift.run({}, box.root) == {"lifted": ["a"], "failed": [], "restores": []}
    assert states(engine) == RUNS and told(engine)[-1] == "exec --user 33 app maintenance off"
    assert lift.run({}, box.root) == {"lifted": [], "failed": [], "restores": []}
    assert mounts_below(box.base) == []
    assert "error" not in box.tick()


def test_a_debt_stays_until_it_is_paid_and_the_next_tick_pays_it(box: Host, engine: Path) -> None:
    box.services["a"]["quiesce"] = "daily"
    (engine / "refuse").touch()
    reply = box.tick(services=["a", "b"], quiesce=True)
    assert all(row["ok"] for row in reply["services"]), "the backups are good"
    assert (
        "a: it was touched for a backup and is not as before yet" in reply["error"]
        and "no such luck" in reply["error"]
    )
    refused = lift.run({}, box.root)
    assert refused["lifted"] == [] and "no such luck" in refused["error"]
    (engine / "refuse").unlink()
    assert "error" not in box.tick()
    assert states(engine) == RUNS and list(owed.debts(box.root)) == []


def test_a_signal_while_stopped_starts_it_again(box: Host, engine: Path) -> None:
    box.services["a"]["quiesce"] = "daily"
    with pytest.raises(AgentError, match="stopped by a signal"):
        box.tick(
            lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == "stopped a" else None,
            services=["a"],
            quiesce=True,
        )
    assert states(engine) == RUNS


def test_an_unreachable_store_stops_nothing_in_vain(box: Host, engine: Path) -> None:
    box.services["a"]["quiesce"] = "daily"
    box.repositories["near"]["url"] = "rest:http://127.0.0.1:9/"
    assert "does not answer" in box.tick(services=["a"], quiesce=True)["error"]
    assert told(engine) == []


def test_images_are_in_the_manifest(box: Host, engine: Path) -> None:
    box.tick()
    manifest = json.loads(box.stage("a/manifest.json").read_text())
    assert manifest["images"]["app"] == {"image": "app:1", "digest": "sha256:1", "id": "sha256:app"}


def test_the_night_may_span_midnight_and_belongs_to_its_first_day() -> None:
    def at(text: str) -> time.struct_time:
        return time.strptime(text, "%Y-%m-%d %H:%M")

    assert night("", at("2026-03-01 01:59")) == "" and night("", at("2026-03-01 05:00")) == ""
    assert night("", at("2026-03-01 02:00")) == night("", at("2026-03-01 04:59")) == "2026-03-01"
    assert (
        night("23:00-02:00", at("2026-03-01 23:30"))
        == night("23:00-02:00", at("2026-03-02 01:30"))
        == "2026-03-01"
    )
    assert night("23:00-02:00", at("2026-03-02 02:00")) == ""
    with pytest.raises(AgentError, match="not HH:MM"):
        night("at night", at("2026-03-01 02:00"))
