"""Where connectors arrive: each keeps a few connections, and requests to their tunnel go over them."""

from __future__ import annotations

import itertools
import queue
import socket
import socketserver
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from lab.cloudflare.answers import Json, now
from lab.edge import frames
from lab.edge.frames import Frame

PING_SECONDS = 1.0
IDLE_SECONDS = 5.0  # as QUIC's idle timeout at Cloudflare: a dead host is noticed then
ANSWER_SECONDS = 100.0
LOST = Frame(0, frames.RESET, b"")
Admit = Callable[[str, str, str], Json | None]


class ConnectorGone(Exception):
    """The connection broke before the answer was complete."""


class Connection:
    """One connection of one connector."""

    def __init__(self, sock: socket.socket, hello: Json, colo: str) -> None:
        self.sock, self.hello, self.colo = sock, hello, colo
        self.id = str(uuid.uuid4())
        self.opened = now()
        self.heard = time.monotonic()
        self.alive = True
        self.sending = threading.Lock()
        self.streams: dict[int, queue.Queue[Frame]] = {}
        self.numbers = itertools.count(1)

    def send(self, stream: int, kind: int, content: bytes | Json = b"") -> None:
        try:
            with self.sending:
                self.sock.sendall(frames.encode(stream, kind, content))
        except OSError as error:
            self.close()
            raise ConnectorGone(str(error)) from error

    def exchange(self, head: Json, body: Iterable[bytes]) -> tuple[Json, Iterator[bytes]]:
        """Carry one request; returns the answer's head ({status, headers}) and its body. Raises ConnectorGone."""
        stream, box = next(self.numbers), queue.Queue[Frame]()
        self.streams[stream] = box
        if not self.alive:
            raise ConnectorGone("closed")
        self.send(stream, frames.HEAD, head)
        for piece in body:
            self.send(stream, frames.DATA, piece)
        self.send(stream, frames.END)
        return self._next(box).json(), self._body(stream, box)

    def _body(self, stream: int, box: queue.Queue[Frame]) -> Iterator[bytes]:
        try:
            while (frame := self._next(box)).kind != frames.END:
                yield frame.content
        finally:
            self.streams.pop(stream, None)

    @staticmethod
    def _next(box: queue.Queue[Frame]) -> Frame:
        try:
            frame = box.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise ConnectorGone("no answer") from None
        if frame.kind == frames.RESET:
            raise ConnectorGone("the connection broke")
        return frame

    def listen(self) -> None:
        """Take frames until the other side goes."""
        with suppress(OSError):
            while self.alive and (frame := frames.read(self.sock)):
                self.heard = time.monotonic()
                box = self.streams.get(frame.stream)
                if box is not None:
                    box.put(frame)
        self.close()

    def close(self) -> None:
        self.alive = False
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        for box in list(self.streams.values()):
            box.put(LOST)


class Hub:
    """All connections by tunnel. ``admit`` answers whether a connector's secret is good, ``seen`` notes that it came."""

    def __init__(self, colos: list[str]) -> None:
        self.colos = colos
        self.admit: Admit = lambda account, tunnel, secret: None
        self.seen: Callable[[str], None] = lambda tunnel: None
        self.connections: dict[str, list[Connection]] = {}
        self.lock = threading.Lock()
        self.turn = itertools.count()

    def serve(self, sock: socket.socket) -> None:
        """One connection from its hello to its end."""
        sock.settimeout(IDLE_SECONDS)
        hello = frames.read(sock)
        if hello is None or hello.kind != frames.HELLO:
            return
        said = hello.json()
        tunnel = self.admit(str(said.get("account")), str(said.get("tunnel")), str(said.get("secret")))
        if tunnel is None:
            sock.sendall(frames.encode(0, frames.REFUSED, {"error": "Unauthorized: Invalid tunnel secret"}))
            return
        self._keep(sock, said, tunnel)

    def _keep(self, sock: socket.socket, hello: Json, tunnel: Json) -> None:
        colo = self.colos[int(hello.get("index", 0)) % min(2, len(self.colos))]
        origin = sock.getpeername()[0]
        connection = Connection(sock, {**hello, "secret": "", "origin": origin}, colo)
        config = tunnel["config"] if tunnel["config_src"] == "cloudflare" else None
        welcome = {"connection": connection.id, "colo": colo, "config": config, "version": tunnel["version"]}
        connection.send(0, frames.WELCOME, welcome)
        sock.settimeout(None)
        with self.lock:
            self.connections.setdefault(tunnel["id"], []).append(connection)
        self.seen(tunnel["id"])
        threading.Thread(target=self._watch, args=(connection,), daemon=True).start()
        try:
            connection.listen()
        finally:
            with self.lock:
                self.connections[tunnel["id"]].remove(connection)

    @staticmethod
    def _watch(connection: Connection) -> None:
        """A connection that says nothing for a while is dead: its host was cut off or stands still."""
        while connection.alive:
            with suppress(ConnectorGone):
                connection.send(0, frames.PING)
            time.sleep(PING_SECONDS)
            if time.monotonic() - connection.heard > IDLE_SECONDS:
                connection.close()

    def of(self, tunnel: str) -> list[Connection]:
        with self.lock:
            return [connection for connection in self.connections.get(tunnel, []) if connection.alive]

    def pick(self, tunnel: str) -> Connection | None:
        """A connection of the tunnel, each in its turn; None when no connector is there."""
        alive = self.of(tunnel)
        return alive[next(self.turn) % len(alive)] if alive else None

    def clients(self, tunnel: str) -> list[Json]:
        """The connectors of a tunnel as the API shows them."""
        found: dict[str, Json] = {}
        for connection in self.of(tunnel):
            hello = connection.hello
            client = found.setdefault(str(hello["connector"]), _client(connection))
            client["conns"].append(_conn(connection))
        return list(found.values())

    def drop(self, tunnel: str, client: str = "") -> None:
        for connection in self.of(tunnel):
            if client in ("", connection.hello["connector"]):
                connection.close()

    def configure(self, tunnel: str, config: Json, version: int) -> None:
        for connection in self.of(tunnel):
            with suppress(ConnectorGone):
                connection.send(0, frames.CONFIG, {"config": config, "version": version})


def _client(connection: Connection) -> Json:
    hello = connection.hello
    return {
        "id": hello["connector"],
        "version": hello.get("version", ""),
        "arch": hello.get("arch", ""),
        "run_at": connection.opened,
        "config_version": 1,
        "features": ["ha-origin"],
        "conns": [],
    }


def _conn(connection: Connection) -> Json:
    hello = connection.hello
    return {
        "id": connection.id,
        "uuid": connection.id,
        "colo_name": connection.colo,
        "client_id": hello["connector"],
        "client_version": hello.get("version", ""),
        "origin_ip": hello["origin"],
        "opened_at": connection.opened,
        "is_pending_reconnect": False,
    }


class HubServer(socketserver.ThreadingTCPServer):
    """Listens for connectors."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        super().__init__(address, _Handler)
        self.hub = hub


class _Handler(socketserver.BaseRequestHandler):
    server: HubServer
    request: Any

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError, ValueError, ConnectorGone):
            self.server.hub.serve(self.request)
