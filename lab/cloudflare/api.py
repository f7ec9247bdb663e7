"""The HTTP side of the emulated API: routes, permissions, faults, and a count of everything asked."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lab.cloudflare import permissions, zones
from lab.cloudflare.answers import AUTHENTICATION, NOT_FOUND_ROUTE, ApiError, Call, Json, envelope
from lab.cloudflare.balancers import Balancers
from lab.cloudflare.dns import Records
from lab.cloudflare.faults import Fault
from lab.cloudflare.state import State
from lab.cloudflare.tunnels import Tunnels
from lab.emulator import Faults

BASE = "/client/v4"
KEPT_CALLS = 5000
WRITES = ("POST", "PUT", "PATCH", "DELETE")
ID = r"([^/]+)"


@dataclass(frozen=True)
class Route:
    """One path of the API, the permission it asks for, and what answers. The first varying part is its scope."""

    method: str
    pattern: re.Pattern[str]
    permission: str
    handler: Callable[[Call], Any]


class Api:
    """The API without its HTTP server: one call in, status and envelope out."""

    def __init__(self, state: State, tunnels: Tunnels, balancers: Balancers) -> None:
        self.state = state
        self.faults = Faults(Fault)
        self.calls: deque[Json] = deque(maxlen=KEPT_CALLS)
        self.routes = [
            *_dns_routes(Records(state)),
            *_tunnel_routes(tunnels),
            *_balancer_routes(balancers),
        ]

    def answer(self, call: Call, headers: dict[str, str], sticky: bool = False) -> tuple[int, Json]:
        try:
            token = permissions.token_of(self.state, headers)
            return 200, envelope(self._result(call, token), call.query, sticky)
        except ApiError as error:
            return error.status, error.envelope()

    def note(self, call: Call, status: int) -> None:
        """``writes`` of the count are requests that may change something, whether or not they worked."""
        self.calls.append({"method": call.method, "path": call.path, "status": status, "at": time.time()})

    def _result(self, call: Call, token: Json) -> Any:
        if (call.method, call.path) == ("GET", "/user/tokens/verify"):
            return zones.verify(token)
        if (call.method, call.path) == ("GET", "/zones"):
            return zones.list_zones(self.state, token, call)
        zone = re.fullmatch(r"/zones/([^/]+)", call.path)
        if call.method == "GET" and zone:
            return zones.get_zone(self.state, token, Call("GET", call.path, zone.groups()))
        for route in self.routes:
            found = route.pattern.fullmatch(call.path)
            if found and route.method == call.method:
                permissions.check(self.state, token, route.permission, found[1])
                return route.handler(Call(call.method, call.path, found.groups(), call.query, call.body))
        raise ApiError(404, NOT_FOUND_ROUTE, "No route for that URI")


def _routes(permission: str, *rows: tuple[str, str, Callable[[Call], Any]]) -> list[Route]:
    """Reading asks for "PERMISSION Read", all else for "PERMISSION Write"."""
    return [
        Route(
            method,
            re.compile(path.replace("ID", ID)),
            f"{permission} {'Read' if method == 'GET' else 'Write'}",
            handler,
        )
        for method, path, handler in rows
    ]


def _dns_routes(records: Records) -> list[Route]:
    many, one = "/zones/ID/dns_records", "/zones/ID/dns_records/ID"
    return _routes(
        "DNS",
        ("GET", many, records.search),
        ("POST", many, records.create),
        ("POST", f"{many}/batch", records.batch),
        ("GET", one, records.get),
        ("PUT", one, records.put),
        ("PATCH", one, records.patch),
        ("DELETE", one, records.delete),
    )


def _tunnel_routes(tunnels: Tunnels) -> list[Route]:
    many, one = "/accounts/ID/cfd_tunnel", "/accounts/ID/cfd_tunnel/ID"
    return [
        # The token is the key to the tunnel, so reading is not enough for it.
        Route("GET", re.compile(f"{one}/token".replace("ID", ID)), "Tunnel Write", tunnels.token),
        *_routes(
            "Tunnel",
            ("GET", many, tunnels.search),
            ("POST", many, tunnels.create),
            ("GET", one, tunnels.get),
            ("PATCH", one, tunnels.patch),
            ("DELETE", one, tunnels.delete),
            ("GET", f"{one}/connections", tunnels.connections),
            ("DELETE", f"{one}/connections", tunnels.drop_connections),
            ("GET", f"{one}/configurations", tunnels.configuration),
            ("PUT", f"{one}/configurations", tunnels.configure),
        ),
    ]


def _balancer_routes(balancers: Balancers) -> list[Route]:
    account, zone = "/accounts/ID/load_balancers", "/zones/ID"
    found: list[Route] = []
    for permission, kind, path in (
        ("Monitors", "monitors", f"{account}/monitors"),
        ("Monitors", "pools", f"{account}/pools"),
        ("Balancers", "load_balancers", f"{zone}/load_balancers"),
        ("Health", "healthchecks", f"{zone}/healthchecks"),
    ):
        shelf = balancers.shelf(kind)
        found += _routes(
            permission,
            ("GET", path, shelf.search),
            ("POST", path, shelf.create),
            ("GET", f"{path}/ID", shelf.get),
            ("PUT", f"{path}/ID", shelf.put),
            ("PATCH", f"{path}/ID", shelf.patch),
            ("DELETE", f"{path}/ID", shelf.delete),
        )
    return [*found, *_routes("Monitors", ("GET", f"{account}/pools/ID/health", balancers.health))]


class ApiServer(ThreadingHTTPServer):
    """Serves one Api at an address."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], api: Api) -> None:
        super().__init__(address, ApiHandler)
        self.api = api


class ApiHandler(BaseHTTPRequestHandler):
    """One connection to the API."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ApiServer

    def _serve(self) -> None:
        split = urlsplit(self.path)
        body = self._body()
        path = split.path.removeprefix(BASE)
        call = Call(self.command, path.rstrip("/") or "/", (), dict(parse_qsl(split.query)), body)
        fault = self.server.api.faults.for_call(call.method, call.path)
        if fault and self._refused(fault, call):
            return
        if not split.path.startswith(BASE):
            self._send(404, ApiError(404, NOT_FOUND_ROUTE, "No route for that URI").envelope())
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer = self.server.api.answer(call, headers, sticky=bool(fault and fault.kind == "sticky"))
        self.server.api.note(call, status)
        if fault and fault.kind == "lost":
            self._cut(fault.seconds)
            return
        self._send(status, answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _body(self) -> Any:
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length) if length else b""
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            return None

    def _refused(self, fault: Fault, call: Call) -> bool:
        """Whether the fault takes the place of the answer; ``delay`` only waits."""
        if fault.kind in ("sticky", "lost"):
            return False
        if fault.kind in ("delay", "hang"):
            time.sleep(fault.seconds)
        if fault.kind == "delay":
            return False
        answers = {
            "status": (fault.status, ApiError(fault.status, fault.status, "the lab said so").envelope()),
            "forbidden": (403, AUTHENTICATION.envelope()),
            "silent-failure": (200, ApiError(200, 1000, "the lab said no").envelope()),
        }
        status, answer = answers.get(fault.kind, (0, {}))
        self.server.api.note(call, status)
        if status:
            self._send(status, answer)
        else:
            self._cut(0)
        return True

    def _cut(self, seconds: float) -> None:
        """Close the connection without an answer, by a reset."""
        time.sleep(seconds)
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _send(self, status: int, answer: Json) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("CF-Ray", "0-LAB")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Calls are kept by the Api, not printed."""
