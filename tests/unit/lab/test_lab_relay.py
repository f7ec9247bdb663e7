"""The relay before the stores: what passes, what is counted, and how it misbehaves when told to."""

from __future__ import annotations

import http.client
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lab.shell import LabError
from lab.storage.daemons import Daemon, stop_all
from lab.storage.faults import FaultRelay, Faults
from lab.storage.place import LOOPBACK, answers
from lab.storage.relay import error_answer, kind_of, shifted

ROOT = Path(__file__).resolve().parents[3]


class Upstream(BaseHTTPRequestHandler):
    """Answers a body with the same body, and everything else with its path."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes] = []

    def do_GET(self) -> None:
        if self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n")
            return
        self.answer(self.path.encode() if self.path != "/big" else bytes(300_000))

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(body)
        self.answer(body)

    def do_HEAD(self) -> None:
        self.answer(b"not sent", head=True)

    def answer(self, body: bytes, head: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Echo(socketserver.BaseRequestHandler):
    """A TCP server that says everything back."""

    def handle(self) -> None:
        while piece := self.request.recv(65536):
            self.request.sendall(piece)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class World:
    """A running relay with two endpoints before two real servers."""

    def __init__(self, folder: Path, web_port: int, echo_port: int) -> None:
        self.ports = {"web": free_port(), "tcp": free_port()}
        self.relay = FaultRelay(folder)
        ways = [f"web:{self.ports['web']}:{LOOPBACK}:{web_port}:http"]
        ways += [f"tcp:{self.ports['tcp']}:{LOOPBACK}:{echo_port}:tcp"]
        argv = [sys.executable, "-m", "lab.storage.relay", str(folder), LOOPBACK, *ways]
        self.daemon = Daemon("relay", folder, argv, self.ready, (), {"PYTHONPATH": str(ROOT)})

    def ready(self) -> bool:
        return (self.relay.folder / "relay.sock").exists() and answers(LOOPBACK, self.ports["tcp"])

    def connect(self, timeout: float = 10) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(LOOPBACK, self.ports["web"], timeout=timeout)

    def ask(self, method: str, path: str, body: bytes | None = None, **how: object) -> tuple[int, bytes]:
        connection = self.connect(**how)  # type: ignore[arg-type]
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    deep = tmp_path_factory.mktemp("relay") / ("long" * 30)  # longer than a socket's address may be
    web = ThreadingHTTPServer((LOOPBACK, 0), Upstream)
    echo = socketserver.ThreadingTCPServer((LOOPBACK, 0), Echo)
    web.daemon_threads = echo.daemon_threads = True
    for server in (web, echo):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    world = World(deep, web.server_port, echo.server_address[1])
    world.daemon.ensure()
    yield world
    stop_all(deep)
    for server in (web, echo):
        server.shutdown()
        server.server_close()


@pytest.fixture
def world(running: World) -> World:
    running.relay.clear()
    running.relay.reset()
    return running


def test_kinds() -> None:
    assert kind_of("GET", "/bucket/?list-type=2&prefix=data%2F") == "LIST"
    assert kind_of("GET", "/bucket?versions=&prefix=") == "LIST"
    assert kind_of("GET", "/lemongrab/critical/data/") == "LIST"
    assert kind_of("GET", "/lemongrab/critical/data/ab12") == "GET"
    assert kind_of("GET", "/bucket/?location=") == "GET"
    assert kind_of("PUT", "/bucket/") == "PUT"


def test_error_answer_is_what_s3_says() -> None:
    head, _, body = error_answer(503, "SlowDown", False).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 SlowDown\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"<Code>SlowDown</Code>" in body
    assert error_answer(503, "SlowDown", True).endswith(b"\r\n\r\n")


def test_shifted_date() -> None:
    assert shifted("Tue, 24 Nov 2026 11:00:00 GMT", -3600) == "Tue, 24 Nov 2026 10:00:00 GMT"


def test_passes_and_counts(world: World) -> None:
    body = bytes(range(256)) * 2000
    with world.relay.counting("web") as seen:
        connection = world.connect()
        for _ in range(3):  # one connection carries them all
            connection.request("GET", "/a?x=1")
            assert connection.getresponse().read() == b"/a?x=1"
        connection.request("HEAD", "/a")
        assert connection.getresponse().read() == b""
        connection.request("GET", "/chunked")
        assert connection.getresponse().read() == b"abcde"
        connection.request("PUT", "/b", body)
        assert connection.getresponse().read() == body
        connection.close()
        assert world.ask("GET", "/list/") == (200, b"/list/")
    assert seen.kinds == {"GET": 4, "HEAD": 1, "PUT": 1, "LIST": 1}
    assert seen.total == 7
    assert seen.statuses == {"200": 7}
    assert seen.sent == len(body)
    assert seen.received > len(body)
    assert [request.target for request in world.relay.requests("web")][-1] == "/list/"


def test_asks_before_sending(world: World) -> None:
    """A client that waits for 100 Continue gets it, or the refusal, without having sent its body."""
    request = b"PUT /asked HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((LOOPBACK, world.ports["web"]), timeout=5) as connection:
        connection.sendall(request)
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"hello")
        assert b" 200 OK" in connection.recv(1000)
    world.relay.set("web", Faults(full_after=4))
    with socket.create_connection((LOOPBACK, world.ports["web"]), timeout=5) as connection:
        connection.sendall(request)
        assert connection.recv(1000).startswith(b"HTTP/1.1 507 ")


def test_share_of_requests_fails(world: World) -> None:
    world.relay.set("web", Faults(fail_status=503, fail_share=0.3))
    statuses = [world.ask("GET", "/a")[0] for _ in range(10)]
    assert statuses.count(503) == 3
    answers_later = (world.ask("GET", "/a") for _ in range(10))
    assert b"<Code>SlowDown</Code>" in next(body for status, body in answers_later if status == 503)
    assert world.relay.counts("web").faulted == 4


def test_only_what_matches_fails_and_not_for_ever(world: World) -> None:
    world.relay.set("web", Faults(fail_status=500, fail_times=2, kinds=("PUT",), path="/index/"))
    assert world.ask("GET", "/index/a")[0] == 200
    assert world.ask("PUT", "/data/a", b"1")[0] == 200
    assert [world.ask("PUT", "/index/a", b"1")[0] for _ in range(3)] == [500, 500, 200]


def test_full_store(world: World) -> None:
    world.relay.set("web", Faults(full_after=100))
    Upstream.bodies.clear()
    assert [world.ask("PUT", "/a", bytes(size))[0] for size in (60, 60, 40, 1)] == [200, 507, 200, 507]
    assert world.ask("GET", "/a")[0] == 200
    assert [len(body) for body in Upstream.bodies] == [60, 40]


def test_latency_and_bandwidth(world: World) -> None:
    world.relay.set("web", Faults(latency=0.2))
    begin = time.monotonic()
    world.ask("GET", "/a")
    assert 0.2 <= time.monotonic() - begin < 1
    world.relay.set("web", Faults(bandwidth=600_000))
    begin = time.monotonic()
    assert len(world.ask("GET", "/big")[1]) == 300_000
    assert 0.45 <= time.monotonic() - begin < 1.5


def test_connection_is_cut_midway(world: World) -> None:
    world.relay.set("web", Faults(cut_after=100_000, cut_times=1))
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        world.ask("GET", "/big")
    assert len(world.ask("GET", "/big")[1]) == 300_000


def test_hanging_store_answers_nothing_until_it_is_back(world: World) -> None:
    world.relay.set("web", Faults(hang=True))
    Upstream.bodies.clear()
    with pytest.raises(TimeoutError):
        world.ask("PUT", "/late", b"1", timeout=0.5)
    world.relay.clear("web")
    assert world.ask("GET", "/a") == (200, b"/a")
    assert Upstream.bodies == []  # what hung is lost, as on a line that was down


def test_open_connections_can_be_cut(world: World) -> None:
    connection = world.connect()
    connection.request("GET", "/a")
    connection.getresponse().read()
    assert world.relay.cut("web") == 1
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection.request("GET", "/a")
        connection.getresponse()


def test_clock_of_the_store(world: World) -> None:
    def clock() -> float:
        connection = world.connect()
        connection.request("GET", "/a")
        answer = connection.getresponse()
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()

    world.relay.set("web", Faults(date_shift=3600))
    assert abs(clock() - time.time() - 3600) < 5
    world.relay.clear("web")
    assert abs(clock() - time.time()) < 5


def test_plain_tcp(world: World) -> None:
    with socket.create_connection((LOOPBACK, world.ports["tcp"]), timeout=5) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        assert world.relay.cut("tcp") >= 1
        with pytest.raises(ConnectionError):
            connection.sendall(b"again")
            assert connection.recv(100) != b"", "closed in order"
    assert world.relay.counts("tcp").kinds["CONNECT"] == 1


def test_store_that_is_down_is_a_reset(world: World, tmp_path: Path) -> None:
    lost = World(tmp_path / "lost", free_port(), free_port())
    lost.daemon.ensure()
    try:
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            lost.ask("GET", "/a")
    finally:
        stop_all(tmp_path / "lost")


def test_control_says_what_is_wrong(world: World, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="nowhere"):
        world.relay.set("nowhere", Faults())
    with pytest.raises(LabError, match="does not answer"):
        FaultRelay(tmp_path).endpoints()
