"""The HTTP side of the emulated API: tokens, rate limits, faults, and a count of everything asked."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lab.emulator import Faults
from lab.hetzner.answers import ApiError, Call, Json
from lab.hetzner.faults import Fault, places
from lab.hetzner.project import Project

BASE = "/v1"
CONTROL = "/_lab/"
KEPT_CALLS = 5000
WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Token:
    """What a token may do, and in which project."""

    project: str
    read_only: bool = False


@dataclass
class Rate:
    """Requests a project may make: ``limit`` at once, one more a second."""

    limit: int = 3600
    left: float = 3600
    at: float = field(default_factory=time.monotonic)

    def take(self) -> bool:
        now = time.monotonic()
        self.left = min(self.limit, self.left + now - self.at)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def headers(self) -> dict[str, str]:
        reset = int(time.time() + self.limit - self.left)
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(int(self.left)),
            "RateLimit-Reset": str(reset),
        }


class Api:
    """The API without its HTTP server."""

    def __init__(self, projects: dict[str, Project], tokens: dict[str, Token]) -> None:
        self.projects, self.tokens = projects, tokens
        self.faults, self.rate = Faults(Fault), Rate()
        self.calls: deque[Json] = deque(maxlen=KEPT_CALLS)
        self.lock = threading.Lock()

    def answer(self, call: Call, authorization: str, fault: Fault | None) -> tuple[int, Json | None]:
        try:
            if call.path.startswith("/datacenters"):
                raise ApiError(410, "deprecated_api_endpoint", "datacenters are gone: see locations")
            self._require_route(call)
            token = self._token(authorization)
            with self.lock:
                if not self.rate.take():
                    raise ApiError(429, "rate_limit_exceeded", "limit of requests per hour reached")
            if token.read_only and call.method != "GET":
                raise ApiError(401, "token_readonly", "the token is only allowed to perform GET requests")
            if fault and fault.kind == "capacity":
                raise ApiError(412, "resource_unavailable", "error during placement")
            return self.projects[token.project].answer(call, fault)
        except ApiError as error:
            return error.status, error.body()

    def _require_route(self, call: Call) -> None:
        """An unknown path is told before the token is looked at."""
        routes = next(iter(self.projects.values())).routes
        if not any(route.pattern.fullmatch(call.path) for route in routes):
            raise ApiError(404, "not_found", "api route not found")

    def _token(self, authorization: str) -> Token:
        given = authorization.removeprefix("Bearer ").strip()
        if not given:
            raise ApiError(401, "unauthorized", "token is required")
        if given not in self.tokens:
            raise ApiError(401, "unauthorized", "the token you have provided is invalid")
        return self.tokens[given]

    def note(self, call: Call, status: int) -> None:
        self.calls.append({"method": call.method, "path": call.path, "status": status, "at": time.time()})

    def control(self, method: str, name: str, body: Any) -> Json:
        """For tests: GET calls, DELETE calls, PUT faults, GET faults, PUT settings, DELETE everything."""
        if (method, name) == ("PUT", "faults"):
            self.faults.set(body)
        elif (method, name) == ("DELETE", "calls"):
            self.calls.clear()
        elif (method, name) == ("PUT", "settings"):
            self._settings(body)
        elif (method, name) == ("GET", "calls"):
            return {"calls": list(self.calls)}
        elif (method, name) != ("GET", "faults"):
            return {"error": f"no {method} {name}"}
        return {"faults": self.faults.as_rows()}

    def _settings(self, body: Json) -> None:
        if "rate" in body:
            self.rate = Rate(body["rate"], body["rate"])
        for project in self.projects.values():
            if "seconds" in body:
                project.actions.pace.seconds = float(body["seconds"])
            if "servers" in body:
                project.servers.limits.servers = int(body["servers"])


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
        api, split = self.server.api, urlsplit(self.path)
        body = self._body()
        if split.path.startswith(CONTROL):
            self._send(200, api.control(self.command, split.path.removeprefix(CONTROL), body))
            return
        if not split.path.startswith(BASE + "/") or not isinstance(body, dict):
            wrong = ApiError(404, "not_found", "api route not found")
            bad = ApiError(400, "json_error", "the request is not valid JSON")
            error = wrong if isinstance(body, dict) else bad
            self._send(error.status, error.body())
            return
        path = split.path.removeprefix(BASE).rstrip("/")
        call = Call(self.command, path, parse_qs(split.query), body)
        fault = api.faults.for_call(
            call.method, call.path, lambda fault: places(fault, call.method, call.path, call.body)
        )
        if fault and fault.kind == "impostor" and "user_data" in body:
            body["user_data"] = body["user_data"].replace("\nssh_keys:", "\nx_ssh_keys:")
        if not (fault and self._refused(fault, call)):
            self._answered(call, fault)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _answered(self, call: Call, fault: Fault | None) -> None:
        api, authorization = self.server.api, self.headers.get("authorization", "")
        status, answer = api.answer(call, authorization, fault)
        if fault and fault.kind == "twice":
            status, answer = api.answer(call, authorization, None)
        api.note(call, status)
        if fault and fault.kind == "lost":
            self._cut(fault.seconds)
            return
        self._send(status, answer)

    def _body(self) -> Any:
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length) if length else b""
        try:
            return json.loads(raw) if raw else {}
        except ValueError:
            return None

    def _refused(self, fault: Fault, call: Call) -> bool:
        """Whether the fault takes the place of the answer; ``delay`` only waits."""
        if fault.kind in ("delay", "hang"):
            time.sleep(fault.seconds)
        if fault.kind not in ("error", "html", "hang", "reset"):
            return False
        self.server.api.note(call, fault.status if fault.kind in ("error", "html") else 0)
        if fault.kind == "error":
            self._send(fault.status, ApiError(fault.status, fault.code, "the lab said so").body())
        elif fault.kind == "html":
            self._send_bytes(fault.status, b"<html>the lab said so</html>", "text/html", {})
        else:
            self._cut(0)
        return True

    def _cut(self, seconds: float) -> None:
        """Close the connection without an answer, by a reset."""
        time.sleep(seconds)
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _send(self, status: int, answer: Json | None) -> None:
        body = b"" if answer is None else json.dumps(answer).encode()
        self._send_bytes(status, body, "application/json", self.server.api.rate.headers())

    def _send_bytes(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "X-Correlation-Id": "lab"}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Calls are kept by the Api, not printed."""
