"""The edge as visitors meet it: one HTTP front a colo. The Host header leads to a record, a tunnel, a connector."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab.cloudflare.answers import Json
from lab.edge.balance import Steering
from lab.edge.hub import Connection, ConnectorGone, Hub
from lab.edge.views import ROUTE, View

KEPT_REQUESTS = 20000
TARGET = ".cfargotunnel.com"
NO_RECORD, NO_CONNECTOR = 1016, 1033
HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}


class Refusal(Exception):
    """What a visitor is told instead of the service's answer: Cloudflare's status and its error code."""

    def __init__(self, status: int, code: int) -> None:
        super().__init__(f"error code: {code}")
        self.status, self.code = status, code


class Colo:
    """One colo: what it knows of the zone, and everything that was asked of it."""

    def __init__(self, view: View, hub: Hub, steering: Steering) -> None:
        self.view, self.hub, self.steering = view, hub, steering
        self.requests: deque[Json] = deque(maxlen=KEPT_REQUESTS)

    def tunnel(self, host: str) -> str:
        """The tunnel that serves a name as this colo knows it. Raises Refusal."""
        steered = self.steering.tunnel(host)
        if steered:
            return steered
        for name in (host, f"*.{host.partition('.')[2]}"):
            for record in self.view.records(name):
                content = str(record["content"]).rstrip(".")
                if record["type"] == ROUTE and record["proxied"] and content.endswith(TARGET):
                    return content.removesuffix(TARGET)
        raise Refusal(530, NO_RECORD)

    def connection(self, tunnel: str) -> Connection:
        found = self.hub.pick(tunnel)
        if found is None:
            raise Refusal(530, NO_CONNECTOR)
        return found


class FrontServer(ThreadingHTTPServer):
    """Serves one colo at an address."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], colo: Colo) -> None:
        super().__init__(address, FrontHandler)
        self.colo = colo


class FrontHandler(BaseHTTPRequestHandler):
    """One visitor's connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FrontServer

    def _serve(self) -> None:
        colo, began = self.server.colo, time.time()
        row: Json = {"at": began, "host": self._host(), "method": self.command, "path": self.path}
        row |= {"colo": colo.view.name, "tunnel": "", "status": 0}
        try:
            row["tunnel"] = colo.tunnel(self._host())
            self._pass(colo.connection(row["tunnel"]), row)
        except Refusal as refusal:
            row["status"] = refusal.status
            self._plain(refusal.status, str(refusal))
        except ConnectorGone:
            self.close_connection = True
            if not row["status"]:
                row["status"] = 502
                self._plain(502, "error code: 502")
        finally:
            row["ms"] = round((time.time() - began) * 1000, 1)
            colo.requests.append(row)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve
    do_PROPFIND = do_MKCOL = do_MOVE = do_COPY = do_REPORT = do_PROPPATCH = do_LOCK = do_UNLOCK = _serve

    def _host(self) -> str:
        return (self.headers.get("host") or "").partition(":")[0].lower()

    def _pass(self, connection: Connection, row: Json) -> None:
        ray = f"{secrets.token_hex(8)}-{row['colo']}"
        answer, body = connection.exchange(self._head(ray), self._body())
        row["status"] = int(answer["status"])
        self._answer(answer, body, ray)

    def _head(self, ray: str) -> Json:
        visitor = self.client_address[0]
        headers = [[name, value] for name, value in self.headers.items() if name.lower() not in HOP]
        headers += [["CF-Connecting-IP", visitor], ["X-Forwarded-For", visitor]]
        headers += [["X-Forwarded-Proto", "https"], ["CF-Ray", ray], ["CF-Visitor", '{"scheme":"https"}']]
        return {"method": self.command, "path": self.path, "headers": headers}

    def _body(self) -> Iterator[bytes]:
        length = int(self.headers.get("content-length") or 0)
        if "chunked" in (self.headers.get("transfer-encoding") or "").lower():
            yield from self._chunks()
            return
        while length > 0:
            piece = self.rfile.read(min(length, 64 * 1024))
            if not piece:
                raise ConnectorGone("the visitor went away")
            length -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _answer(self, answer: Json, body: Iterable[bytes], ray: str) -> None:
        self.send_response_only(int(answer["status"]))
        names = {name.lower() for name, _ in answer["headers"]}
        for name, value in answer["headers"]:
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("CF-Ray", ray)
        bare = self.command == "HEAD" or int(answer["status"]) in (204, 304)
        chunked = "content-length" not in names and not bare
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        with suppress(BrokenPipeError, ConnectionResetError):
            self.end_headers()
            for piece in body:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                self.wfile.write(b"0\r\n\r\n")

    def _plain(self, status: int, text: str) -> None:
        body = text.encode()
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response_only(status, "Origin Error")
            self.send_header("Server", "cloudflare")
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Requests are kept by the colo."""
