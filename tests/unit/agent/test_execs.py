"""Programs in containers whose end Docker has lost: real processes, behind a docker command that never returns."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from understudy.agent.data import engine, execs
from understudy.agent.data.plan import Database
from understudy.agent.dumps import kinds, server
from understudy.agent.errors import AgentError
from understudy.agent.root import Root

# `docker exec` runs the program on this host (not at all: "unstarted") and says its end unless that is "lost".
DOCKER = """#!{python}
import json, os, subprocess, sys, time
words = sys.argv[1:]
container = next(w for w in words if w in ("well", "lost", "unstarted", "elsewhere", "gone"))
if words[0] == "container":
    if container == "gone":
        sys.exit("Error response from daemon: No such container: gone")
    print(json.dumps([{{"State": {{"Pid": 4194305 if container == "elsewhere" else os.getppid()}}}}]))
    sys.exit()
mark, _, value = words[words.index("--env") + 1].partition("=")
code = 0
if container in ("well", "lost"):
    code = subprocess.run(words[words.index(container) + 1 :], env={{**os.environ, mark: value}}).returncode
if container == "well":
    sys.exit(code)
open({pid!r}, "w").write(str(os.getpid()))
time.sleep(300)
"""
SOON = 0.3


@pytest.fixture(autouse=True)
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the docker client that waits leaves its process id."""
    program, pid = tmp_path / "docker", tmp_path / "pid"
    program.write_text(DOCKER.format(python=sys.executable, pid=str(pid)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(execs, "LOOK", SOON / 3)
    monkeypatch.setattr(execs, "LOOKS", 3)
    return pid


def test_the_mark_is_all_that_a_watched_program_gets_more() -> None:
    assert engine.exec_argv("c1", ["id"], "app", True, "UNDERSTUDY_EXEC=5f") == [
        "docker", "exec", "--interactive", "--user", "app", "--env", "UNDERSTUDY_EXEC=5f", "c1", "id",
    ]  # fmt: skip


def test_a_lost_end_is_found_and_the_client_ended(client: Path) -> None:
    ended = engine.run_in("lost", ["true"], 60, watched=True)
    assert ended.lost and not ended.ok
    with pytest.raises(ProcessLookupError):
        os.kill(int(client.read_text()), 0)


def test_a_program_that_was_never_started_is_found() -> None:
    assert engine.run_in("unstarted", ["true"], 60, watched=True).lost


def test_a_container_that_is_gone_has_no_programs() -> None:
    assert engine.run_in("gone", ["true"], 60, watched=True).lost


def test_a_program_that_works_long_is_left_alone() -> None:
    began = time.monotonic()
    ended = engine.run_in("well", ["sh", "-c", f"sleep {SOON * 4}; echo done"], 60, watched=True)
    assert ended.ok and ended.out == "done\n" and time.monotonic() - began > SOON * 3


def test_where_programs_of_containers_are_not_seen_only_time_ends_them() -> None:
    ended = engine.run_in("elsewhere", ["true"], SOON * 4, watched=True)
    assert ended.code == 124 and not ended.lost


@pytest.mark.parametrize(("begin", "code"), [(5, 0), (-2, 75)])
def test_a_program_that_begins_too_late_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: int, code: int
) -> None:
    monkeypatch.setattr(execs, "BEGIN", begin)
    done = tmp_path / "done"
    ended = engine.run_in("well", server.limited("", [], ["touch", str(done)], 5), 60, watched=True)
    assert ended.code == code and done.exists() == (code == 0)
    assert ended.err == ("" if code == 0 else "Docker started this program too late\n")


def test_a_conversation_with_a_lost_program_says_so() -> None:
    with engine.talk("lost", ["sh", "-c", "read word; echo heard $word"], 60) as session:
        session.tell("a\n")
        assert session.line() == "heard a"
        with pytest.raises(engine.Lost):
            session.line()


def test_databases_are_asked_once_more(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def load(root: Root, database: Database, facts: Any, file: str, timeout: float) -> str:
        asked.append(file)
        try:
            server.run("lost" if len(asked) == 1 else "well", ["true"], 60)
        except AgentError as error:
            raise AgentError(f"no load: {error.sentence}", "database") from error
        return "loaded"

    monkeypatch.setattr("understudy.agent.dumps.mariadb.load", load)
    database = Database("db", "mariadb", project="shop", container="db")
    assert kinds.load(Root("/"), database, {"kind": "mariadb"}, "file", "") == "loaded"
    assert asked == ["file", "file"] and "once more" in capfd.readouterr().err


def test_what_fails_otherwise_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(root: Root, database: Database, facts: Any, file: str, timeout: float) -> str:
        asked.append(file)
        raise AgentError("the server has no room", "database")

    monkeypatch.setattr("understudy.agent.dumps.mariadb.load", load)
    with pytest.raises(AgentError, match="no room"):
        kinds.load(Root("/"), Database("db", "mariadb"), {"kind": "mariadb"}, "file", "")
    assert asked == ["file"]
