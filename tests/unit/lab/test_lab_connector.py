"""The stand-in connector, run as the program it is."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "lab/connector/cloudflared"
TUNNEL = "6ff42ae2-765d-4adf-8112-31c55c1551ef"


def encode(fields: object) -> str:
    return base64.b64encode(json.dumps(fields).encode()).decode()


GOOD = {"a": "account", "t": TUNNEL, "s": base64.b64encode(b"x" * 32).decode()}


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=20
    )


def run_with_token(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path.write_text(text)
    return call("tunnel", "--no-autoupdate", "run", "--token-file", str(path))


def test_version_reads_like_the_real_one() -> None:
    assert call("--version").stdout.startswith("cloudflared version 2026.")


@pytest.mark.parametrize(
    "text",
    [
        "not base64 !",
        base64.b64encode(b"no json").decode(),
        encode([]),
        encode({**GOOD, "t": "no-uuid"}),
        encode({**GOOD, "s": ""}),
        encode({"a": "account", "t": TUNNEL}),
    ],
)
def test_a_malformed_token_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    done = run_with_token(tmp_path / "token", text)
    assert done.returncode == 255
    assert "Provided Tunnel token is not valid." in done.stderr
    assert text not in done.stderr + done.stdout


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    done = run_with_token(tmp_path / "token", "\n")
    assert done.returncode == 255
    assert "requires the ID or name of the tunnel" in done.stderr


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "Token"
    done = call("tunnel", "run", "--token-file", str(missing))
    assert done.returncode == 255
    assert f"Failed to read token file: open {missing}: no such file or directory" in done.stderr


@contextmanager
def running(token: Path, port: int, notify: Path) -> Iterator[subprocess.Popen[str]]:
    """A connector, ready by its own word: the notification systemd would get."""
    address = f"127.0.0.1:{port}"
    arguments = ["tunnel", "--no-autoupdate", "--metrics", address, "--protocol", "http2"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(notify))
        manager.settimeout(20)
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments, "run", "--token-file", str(token)],
            env={"NOTIFY_SOCKET": str(notify), "PATH": "/usr/bin:/bin"},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            yield process
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_serves_readiness_and_stops_in_order(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(encode(GOOD) + "\n")
    port = free_port()
    with running(token, port, tmp_path / "notify") as process:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            ready = json.load(answer)
        assert (ready["status"], ready["readyConnections"]) == (200, 4)
        assert ready["connectorId"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b"cloudflared_tunnel_ha_connections 4" in answer.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert process.stderr is not None
        said = process.stderr.read()
    assert f"tunnelID={TUNNEL}" in said
    assert GOOD["s"] not in said


def test_a_taken_metrics_port_is_an_error(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(encode(GOOD))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        done = call("tunnel", "--metrics", address, "run", "--token-file", str(token))
    assert done.returncode == 255
    assert f"listen tcp {address}" in done.stderr


@pytest.mark.parametrize(
    ("config", "status", "said"),
    [
        ("ingress: [{service: 'http://127.0.0.1:8080'}]", 0, "OK"),
        (
            "ingress: [{hostname: a.example.org, service: 'http://127.0.0.1:8080'}]",
            255,
            "last ingress rule must match",
        ),
        (
            "ingress: [{hostname: a.example.org}, {service: 'http_status:404'}]",
            255,
            "Rule #1 doesn't have a service",
        ),
        ("tunnel: x", 255, "No ingress rules"),
        ("ingress: [", 255, "error parsing YAML"),
    ],
)
def test_ingress_rules_are_validated(tmp_path: Path, config: str, status: int, said: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(config)
    done = call("tunnel", "--config", str(path), "ingress", "validate")
    assert done.returncode == status
    assert said in done.stdout + done.stderr
