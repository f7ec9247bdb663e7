"""Probes against a real HTTP server."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from understudy.agent import probe
from understudy.agent.root import Root


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, dict[str, str], bytes]] = []

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        Handler.seen.append((f"{self.command} {self.path}", dict(self.headers), body))
        path = self.path.partition("?")[0]
        if path == "/slow":
            time.sleep(1.5)
        if path == "/reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status = {"/down": 502, "/moved": 302, "/loop": 302}.get(path, 200)
        kind = "application/json; charset=utf-8" if path == "/status" else "text/html"
        answer = (
            b'{"installed": true, "n": 1, "a": {"b": ["x", null]}}'
            if path == "/status"
            else b"<h1>Hello\n there</h1>"
        )
        if path == "/echo":
            answer = self.headers.get("X-Token", "").encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        if status == 302:
            self.send_header(
                "Location", "/loop" if path == "/loop" else "https://cloud.example.org/status?x=1"
            )
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def port() -> Iterator[int]:
    Handler.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def ask(port: int, path: str = "/", **probe_keys: Any) -> dict[str, Any]:
    request = {"name": "x", "url": f"http://127.0.0.1:{port}{path}", **probe_keys}
    results: list[dict[str, Any]] = probe.run({"probes": [request]}, Root())["results"]
    return results[0]


def test_all_that_can_be_asked_for(port: int) -> None:
    wanted = {"installed": True, "n": 1, "a.b.0": "x", "a.b.1": None}
    result = ask(
        port, "/status", status=[200, 204], content_type="application/json", json=wanted, text='"n": 1'
    )
    assert result["ok"] and result["error"] is None and result["status"] == 200
    assert result["hop"] == f"127.0.0.1:{port}" and result["ms"] > 0


def test_what_is_sent(port: int) -> None:
    ask(port, "/x?y=1", host="cloud.example.org", method="POST", headers={"X-A": "b"}, body={"k": 1})
    line, headers, body = Handler.seen[0]
    assert line == "POST /x?y=1" and body == b'{"k": 1}'
    assert headers["Host"] == "cloud.example.org" and headers["X-A"] == "b"
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "keys", "sentence"),
    [
        ("/down", {}, "expected status below 400, got 502; the body starts '<h1>Hello there</h1>'"),
        ("/", {"status": [201, 204]}, "expected status 201 or 204, got 200"),
        ("/moved", {"status": [200]}, "got 302 (redirects to https://cloud.example.org/status?x=1)"),
        ("/", {"content_type": "application/json"}, "expected content type application/json, got text/html"),
        ("/", {"text": "Vaultwarden"}, "expected the text 'Vaultwarden', which is not there"),
        ("/", {"json": {"a": 1}}, "expected JSON, got text/html"),
        ("/status", {"json": {"installed": False}}, "expected JSON key installed = false, got true"),
        ("/status", {"json": {"n": True}}, "expected JSON key n = true, got 1"),
        ("/status", {"json": {"a.b.7": 1}}, "expected JSON key a.b.7 = 1, which is not there"),
        ("/status", {"json": {"n.x": 1}}, "expected JSON key n.x = 1, which is not there"),
        ("/slow", {"timeout": 0.2}, "no answer from 127.0.0.1:PORT within 0.2 s"),
        ("/reset", {}, "127.0.0.1:PORT closed the connection without an answer"),
    ],
)
def test_each_difference_has_its_own_sentence(
    port: int, path: str, keys: dict[str, Any], sentence: str
) -> None:
    result = ask(port, path, **keys)
    assert not result["ok"] and sentence.replace("PORT", str(port)) in result["error"]


def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert ask(port)["error"] == f"connection refused: nothing listens on 127.0.0.1:{port}"
    tcp = {"name": "x", "url": f"tcp://127.0.0.1:{port}"}
    assert "connection refused" in probe.run({"probes": [tcp]}, Root())["results"][0]["error"]


def test_something_that_is_not_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert "did not answer in HTTP" in ask(server.getsockname()[1])["error"]
        thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "tcp://127.0.0.1",
        "http://127.0.0.1:x/",
        "http://[::1/",
        "",
    ],
)
def test_addresses_that_are_not_probed(url: str) -> None:
    assert (
        "is not http(s)://"
        in probe.run({"probes": [{"name": "x", "url": url}]}, Root())["results"][0]["error"]
    )


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """(port, the certificate that signs what answers there)."""
    key, cert = tmp_path / "key", tmp_path / "pem"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(cert),
    ]
    subprocess.run([*argv, "-days", "1", *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1], cert
        server.shutdown()
        thread.join()


def test_a_public_name_is_asked_over_tls(secure: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    port, cert = secure
    request = {"probes": [{"name": "x", "url": f"https://127.0.0.1:{port}/status", "json": {"n": 1}}]}
    assert "has no certificate that holds" in probe.run(request, Root())["results"][0]["error"]
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert probe.run(request, Root())["results"][0]["ok"]


def test_open_port(port: int) -> None:
    assert probe.run({"probes": [{"name": "x", "url": f"tcp://127.0.0.1:{port}"}]}, Root())["results"][0][
        "ok"
    ]


def test_a_port_behind_which_nothing_serves(port: int) -> None:
    """As Docker's own proxy does where nothing listens in the container: it accepts and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = server.getsockname()[1]

        def hang_up() -> None:
            for _ in range(2):
                server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        asked: dict[str, object] = {"name": "x", "url": f"tcp://127.0.0.1:{silent}"}
        alone = probe.run({"probes": [asked]}, Root())["results"][0]
        either = probe.run({"probes": [{**asked, "any": [f"tcp://127.0.0.1:{port}"]}]}, Root())["results"][0]
        thread.join()
    assert not alone["ok"] and "nothing serves behind it" in alone["error"]
    assert either["ok"]


def test_redirects_are_followed_only_when_asked_and_only_to_the_same_address(port: int) -> None:
    assert ask(port, "/moved")["status"] == 302
    result = ask(port, "/moved", follow=True, json={"installed": True})
    assert (
        result["ok"]
        and Handler.seen[-1][1]["Host"] == "cloud.example.org"
        and Handler.seen[-1][0] == "GET /status?x=1"
    )
    assert ask(port, "/loop", follow=True, status=[200])["status"] == 302


def test_headers_are_never_shown(port: int) -> None:
    result = ask(port, "/echo", headers={"X-Token": "s3cret-token"}, text="nope")
    assert "s3cret-token" not in str(result) and "***" in result["error"]


def test_waits_until_it_is_right() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server: list[ThreadingHTTPServer] = []

    def later() -> None:
        time.sleep(0.6)
        server.append(ThreadingHTTPServer(("127.0.0.1", port), Handler))
        server[0].serve_forever()

    thread = threading.Thread(target=later)
    thread.start()
    result = ask(port, wait=10)
    assert result["ok"] and 0.5 < result["waited"] < 5
    server[0].shutdown()
    server[0].server_close()
    thread.join()


def test_waits_no_longer_than_told(port: int) -> None:
    result = ask(port, "/down", wait=0.5)
    assert not result["ok"] and 0.5 <= result["waited"] < 2 and len(Handler.seen) > 2


def test_many_at_once_in_their_order(port: int) -> None:
    probes = [{"name": str(n), "url": f"http://127.0.0.1:{port}/slow"} for n in range(6)]
    started = time.monotonic()
    results = probe.run({"probes": probes, "parallel": 6}, Root())["results"]
    assert time.monotonic() - started < 5 and [item["name"] for item in results] == list("012345")
