"""The way to the host and back: real python3 processes, as sshd would start them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from understudy import hostside
from understudy.hostside import HostsideError

SECRET = "correct-horse-battery-staple"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def run(verb: str, request: dict[str, Any], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", hostside.command(verb)],
        input=hostside.stdin(request), capture_output=True, text=True, cwd=cwd, env={"PATH": PATH}, check=False,
    )  # fmt: skip


def test_the_bundle_is_the_same_every_time_and_whole() -> None:
    names = zipfile.ZipFile(BytesIO(hostside.bundle())).namelist()
    first = hostside.bundle()
    hostside.bundle.cache_clear()
    assert hostside.bundle() == first
    stamps = {info.date_time for info in zipfile.ZipFile(BytesIO(first)).infolist()}
    assert stamps == {(1980, 1, 1, 0, 0, 0)}, "the bytes must not depend on the clock"
    assert "agent/__init__.py" in names and "agent/apply.py" in names
    assert not [name for name in names if not name.endswith(".py")]


def test_a_verb_runs_on_a_bare_python_and_leaves_nothing(tmp_path: Path) -> None:
    ended = run("read", {"paths": ["/etc/hostname", "/nothing/here"]}, tmp_path)
    reply = hostside.parse(ended.stdout.splitlines())
    assert set(reply["contents"]) == {"/etc/hostname"}
    assert ended.returncode == 0 and ended.stderr == ""
    assert os.listdir(tmp_path) == []


def test_the_answer_comes_after_all_input_is_read(tmp_path: Path) -> None:
    """pyinfra writes everything before it reads anything: an early answer larger than the pipe would block."""
    request = {"paths": ["/etc/services"], "padding": os.urandom(2_000_000).hex()}
    assert run("read", request, tmp_path).returncode == 0


def test_nothing_of_the_request_is_in_argv_or_environment_of_the_process(tmp_path: Path) -> None:
    probe = {"name": "x", "url": "http://127.0.0.1:1/", "headers": {"X-Token": SECRET}, "wait": 3}
    started = subprocess.Popen(
        ["sh", "-c", f"exec {hostside.command('probe')}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PATH": PATH},
    )  # fmt: skip
    assert started.stdin
    started.stdin.write(hostside.stdin({"probes": [probe]}))
    started.stdin.close()
    time.sleep(0.5)
    process = Path(f"/proc/{started.pid}")
    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    files = [os.readlink(link) for link in (process / "fd").iterdir()]
    out = started.stdout.read() if started.stdout else ""
    errors = started.stderr.read() if started.stderr else ""
    assert started.wait() == 0 and "connection refused" in out
    assert b"python3" in shown and SECRET.encode() not in shown and SECRET not in out + errors
    assert not [name for name in files if name.startswith(("/tmp", "/run", "/var"))], (
        "no file holds the bundle"
    )


def test_the_hosts_own_sentence_arrives(tmp_path: Path) -> None:
    ended = run("read", {"paths": ["relative"]}, tmp_path)
    with pytest.raises(HostsideError, match="'relative' is not an absolute path") as caught:
        hostside.parse(ended.stdout.splitlines())
    assert caught.value.kind == "bad-request" and ended.returncode == 0


def test_a_fault_of_the_agent_is_an_answer_too(tmp_path: Path) -> None:
    ended = run("stacks", {"stacks": 5}, tmp_path)
    with pytest.raises(HostsideError, match="stacks met a fault of its own") as caught:
        hostside.parse(ended.stdout.splitlines())
    assert caught.value.kind == "internal" and "Traceback" in ended.stderr


ANSWER = '{"understudy":1,"reply":{"ok":true}}'


@pytest.mark.parametrize(
    "lines",
    [[ANSWER], ["Welcome to lemongrab", "{not json}", ANSWER], [ANSWER, "", "logout"], [f"\x1b[0m{ANSWER}"]],
)
def test_banners_around_the_answer_are_passed_over(lines: list[str]) -> None:
    assert hostside.parse(lines) == {"ok": True}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "it said nothing: is python3"),
        (["sh: 1: python3: not found"], "python3: not found"),
        (['{"reply":{}}'], "no answer that we know"),
        (['{"understudy":99,"reply":{}}'], "no answer that we know"),
        ([ANSWER[:-4]], "no answer that we know"),
    ],
)
def test_anything_else_is_no_answer(lines: list[str], sentence: str) -> None:
    with pytest.raises(HostsideError, match=sentence) as caught:
        hostside.parse(lines)
    assert caught.value.kind == "no-answer"


def test_an_old_python_says_so() -> None:
    boot = hostside.command("survey").partition(" -c ")[2].rpartition(" ")[0]
    old = f"import sys; sys.version_info = (3, 9, 2); exec({boot.strip(chr(39))!r})"
    ended = subprocess.run(
        [sys.executable, "-c", old], input=hostside.stdin({}), capture_output=True, text=True
    )
    with pytest.raises(HostsideError, match=r"python3 here is 3.9 and 3.10 is needed"):
        hostside.parse(ended.stdout.splitlines())


def test_unknown_verb_never_reaches_a_host() -> None:
    with pytest.raises(ValueError, match="unknown verb"):
        hostside.command("rm; x")


class TestZipapp:
    @pytest.fixture
    def program(self, tmp_path: Path) -> Path:
        place = tmp_path / "agent.pyz"
        place.write_bytes(hostside.zipapp())
        place.chmod(0o755)
        return place

    def test_answers_a_request_on_standard_input(self, program: Path) -> None:
        ended = subprocess.run([sys.executable, "-IB", program, "read"], input='{"paths":["/etc/hostname"]}',
                               capture_output=True, text=True, check=True)  # fmt: skip
        assert "/etc/hostname" in hostside.parse(ended.stdout.splitlines())["contents"]

    def test_an_error_is_an_exit_status_for_systemd(self, program: Path) -> None:
        ended = subprocess.run(
            [program, "read"], input='{"paths":["x"]}', capture_output=True, text=True, check=False
        )
        assert ended.returncode == 1 and "not an absolute path" in ended.stderr

    def test_wrong_usage(self, program: Path) -> None:
        ended = subprocess.run([program, "dance"], capture_output=True, text=True, check=False)
        assert ended.returncode == 1 and "usage:" in ended.stderr

    def test_is_the_same_every_time(self) -> None:
        assert hostside.zipapp() == hostside.zipapp()
        assert hostside.zipapp().startswith(b"#!/usr/bin/python3 -IB\n")


def test_the_agent_needs_only_the_standard_library() -> None:
    names = zipfile.ZipFile(BytesIO(hostside.bundle())).namelist()
    modules = [name[:-3].replace("/", ".") for name in names if not name.endswith("__main__.py")]
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import {', '.join(modules)}"
    root = str(Path(hostside.__file__).parent.parent)
    ended = subprocess.run(
        [sys.executable, "-ISB", "-c", code, root], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
