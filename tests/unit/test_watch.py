"""A run whose store stops answering, or refuses the same thing again and again, is ended in time and says why."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from understudy.agent.repo import restic
from understudy.agent.repo.restic import Repo, ResticError

PATIENCE = 0.6


class _Answering(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def repo(tmp_path: Path, port: int, script: str) -> Repo:
    program = tmp_path / "restic"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    where = f"s3:http://127.0.0.1:{port}/bucket"
    return Repo("offsite", "critical", str(program), (), {}, where, "offsite", patience=PATIENCE)


def seconds_and_error(repo: Repo) -> tuple[float, ResticError]:
    begun = time.monotonic()
    with pytest.raises(ResticError) as caught:
        restic.run(repo, ["backup"], 30)
    return time.monotonic() - begun, caught.value


def test_a_store_that_says_nothing_ends_the_run(tmp_path: Path, silent: int) -> None:
    took, error = seconds_and_error(repo(tmp_path, silent, "exec sleep 30"))
    assert error.kind == "unreachable" and "in the middle of a run" in error.sentence
    assert took < 5


def test_a_store_that_refuses_the_same_thing_again_and_again_ends_the_run(
    tmp_path: Path, answering: int
) -> None:
    again = (
        'echo "Save(<data/8bcc536270>) returned error, retrying after 1.2s: client.PutObject: no room" >&2'
    )
    took, error = seconds_and_error(repo(tmp_path, answering, f"while :; do {again}; sleep 0.1; done"))
    assert "refused the same thing" in error.sentence and "client.PutObject: no room" in error.sentence
    assert took < 5


def test_what_succeeds_in_the_end_or_fails_each_time_elsewhere_goes_on(
    tmp_path: Path, answering: int
) -> None:
    lines = [
        f'echo "Save(<data/{n}>) returned error, retrying after 1ms: busy" >&2; sleep 0.15; '
        f'echo "Save(<data/{n}>) operation successful after 1 retries" >&2'
        for n in range(10)
    ]
    assert restic.run(repo(tmp_path, answering, "\n".join(lines)), ["backup"], 30).code == 0


def test_a_quick_run_asks_nothing(tmp_path: Path, silent: int) -> None:
    assert restic.run(repo(tmp_path, silent, "exit 0"), ["backup"], 30).code == 0
