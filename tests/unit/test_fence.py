"""The fence: its exact text, and what it stops in a network namespace with the real nft."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from understudy.agent import fence, http_call

NFT = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")


def test_the_text_for_nft() -> None:
    assert fence.ruleset("web", [8443, 8080, 8080]) == (
        "table inet understudy_fence_web\n"
        "delete table inet understudy_fence_web\n"
        "table inet understudy_fence_web {\n"
        "\tchain arriving {\n"
        "\t\ttype filter hook prerouting priority -150; policy accept;\n"
        '\t\tiifname "lo" ip saddr 127.0.0.254 accept\n'
        "\t\tmeta l4proto { tcp, udp } th dport { 8080, 8443 } ct state new fib daddr type local reject\n"
        "\t}\n"
        "\tchain leaving {\n"
        "\t\ttype filter hook output priority -150; policy accept;\n"
        "\t\tip saddr 127.0.0.254 accept\n"
        "\t\tmeta l4proto { tcp, udp } th dport { 8080, 8443 } ct state new fib daddr type local reject\n"
        "\t}\n"
        "}\n"
    )
    assert fence.removal("web") == (
        "table inet understudy_fence_web\ndelete table inet understudy_fence_web\n"
    )


def test_names_of_services_never_meet_nor_break_the_syntax() -> None:
    names = ["a-b", "a_b", "a.b", "ab", "a; flush ruleset", "a_2d_b"]
    tables = [fence.table(name) for name in names]
    assert len(set(tables)) == len(names)
    assert all(name.replace("_", "").isalnum() for name in tables)


def test_without_ports_there_is_nothing_to_fence() -> None:
    assert fence.up("web", []) is False


def test_a_probe_comes_from_the_address_that_it_names() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        peers: list[str] = []

        def serve() -> None:
            for _ in range(2):
                connection, peer = server.accept()
                peers.append(peer[0])
                with connection:
                    if len(peers) == 1:
                        connection.sendall(b"220 here\r\n")
                    else:
                        connection.recv(4096)
                        connection.sendall(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        http_call.connects({"url": f"tcp://127.0.0.1:{port}", "source": fence.SOURCE})
        answer = http_call.call({"url": f"http://127.0.0.1:{port}/", "source": fence.SOURCE})
        thread.join(10)
    assert peers == [fence.SOURCE] * 2 and answer.status == 204


@pytest.mark.parametrize(
    ("url", "local"),
    [("http://127.0.0.1:80/", True), ("tcp://127.3.2.1:1", True), ("http://10.0.0.1:80/", False), ("tcp://[::1]:1", False)],
)  # fmt: skip
def test_only_probes_of_the_loopback_may_come_from_there(url: str, local: bool) -> None:
    assert http_call.local(url) is local


WORLD = """
import socket, subprocess, sys
from understudy.agent import fence

def reaches(address, port, source=None):
    try:
        socket.create_connection((address, port), 2, source and (source, 0)).close()
        return True
    except OSError:
        return False

servers = [socket.create_server(("", port)) for port in (8080, 9090)]
kept = socket.create_connection(("127.0.0.1", 8080), 2)
def look():
    return [
        reaches("127.0.0.1", 8080), reaches("10.9.9.1", 8080), reaches("127.0.0.1", 8080, "127.0.0.254"),
        reaches("127.0.0.1", 9090),
    ]
print(look())
assert fence.up("web", [8080]) and fence.up("web", [8080])
print(look())
kept.sendall(b"still open")
fence.down("web", [8080])
fence.down("web", [8080])
print(look())
print(subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout.strip())
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"usf{os.getpid() % 100000}"
    if os.geteuid() or NFT is None or shutil.which("ip") is None:
        pytest.skip("needs root, ip netns and nft to build a network namespace")
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(
        ["ip", "netns", "exec", name, "sh", "-c", "ip link set lo up; ip addr add 10.9.9.1/32 dev lo"],
        check=True,
    )
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def test_only_our_own_probes_pass_and_open_connections_stay(namespace: str) -> None:
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    argv = ["ip", "netns", "exec", namespace, sys.executable, "-c", WORLD]
    ended = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n") == [
        "[True, True, True, True]",
        "[False, False, True, True]",
        "[True, True, True, True]",
        "",
        "",
    ]
