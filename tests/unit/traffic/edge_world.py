"""A Cloudflare of a test's own in this process, with connectors as the programs they are."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from lab.cloudflare.place import OWNER
from lab.cloudflare.place import Cloudflare as Place
from lab.cloudflare.program import Cloudflare, serve_control
from lab.storage.place import find_place
from understudy.cloudflare import Access, Account
from understudy.traffic.edge import Edge
from understudy.traffic.policy import Balancer
from understudy.traffic.world import Health, TrafficHost, World

CONNECTOR = Path(__file__).resolve().parents[3] / "lab/connector/cloudflared"


class Origin(ThreadingHTTPServer):
    """What stands behind a connector: says its name, and gives back what it was sent."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Origin)
        self.name, self.status = name, 200
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Origin(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def do_GET(self) -> None:
        self._say(f"{self.server.name} {self.headers['host']} {self.headers['x-forwarded-proto']}".encode())

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        self._say(body)

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _say(self, body: bytes) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class EdgeWorld:
    """One zone, hosts with an origin each, and visitors."""

    folder: Path
    cloud: Cloudflare
    place: Place
    origins: dict[str, Origin] = field(default_factory=dict)
    programs: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def edge(self, *hosts: str, balancer: Balancer | None = None) -> Edge:
        """The product's way to this zone; the first host is the primary."""
        rows = [
            TrafficHost(name, name == hosts[0], frozenset({"critical"}), self.origin(name).server_port)
            for name in hosts
        ]
        names = {"vault.example.org": "critical", "cloud.example.org": "critical"}
        account = Account(Access(self.place.owner_token(), self.place.api_url, timeout=5.0), {})
        health = {"critical": Health("vault.example.org", "/alive", "200")}
        return Edge(account, World("lab", "example.org", tuple(rows), names, ("critical",), balancer, health))

    def origin(self, name: str) -> Origin:
        return self.origins.setdefault(name, Origin(name))

    def connect(self, name: str, token: str) -> None:
        """Start the host's connector, as its unit does."""
        file = self.folder / f"{name}.token"
        file.write_text(token)
        words = ["tunnel", "--metrics", "127.0.0.1:0", "run", "--token-file", str(file)]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.programs[name] = subprocess.Popen([sys.executable, str(CONNECTOR), *words], stderr=log)

    def ask(
        self,
        host: str,
        colo: str = "ams",
        method: str = "GET",
        body: object = None,
        chunked: bool = False,
    ) -> tuple[int, str]:
        """One visitor's request: status and body."""
        place = urlsplit(self.place.edge(colo))
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
        try:
            connection.request(method, "/", body, {"Host": host}, encode_chunked=chunked)  # type: ignore[arg-type]
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


def until(check: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@contextmanager
def edge_world(folder: Path) -> Iterator[EdgeWorld]:
    place = find_place(folder / "cloudflare", "127.0.0.1")
    cloud = Cloudflare(place.folder, place.outside, place.first_port, "example.org")
    servers = [*cloud.start(), serve_control(cloud, place.folder)]
    world = EdgeWorld(folder, cloud, Place(place))
    world.place.control.token(OWNER, value=world.place.owner_token())
    world.place.control.delays((0, 0), (0, 0))
    try:
        yield world
    finally:
        for program in world.programs.values():
            program.kill()
            program.wait()
        for server in [*servers, *world.origins.values()]:
            server.shutdown()
            server.server_close()
