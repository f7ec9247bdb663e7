"""The HTTP side all stand-ins share: routes, answers, the lab's own paths, a clean stop on SIGTERM."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn, Protocol
from urllib.parse import parse_qs, urlsplit


class Store(Protocol):
    """Where an application keeps what it acknowledged."""

    def commit(self, with_file: bool) -> dict[str, Any]:
        """Write the next numbered row so that it survives a power cut; ``{"n": number, ...}``."""

    def rows(self) -> dict[str, Any]:
        """``count``, ``max``, ``min``, ``missing`` of the numbered rows, and what else is wrong."""

    def close(self) -> None:
        """Finish the write under way and close."""


@dataclass(frozen=True)
class Place:
    """Where a stand-in runs: its environment, arguments, and the folder that is its ``/`` (tests move it)."""

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    arguments: tuple[str, ...] = ()
    root: Path = Path("/")

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    @property
    def version(self) -> str:
        """The tag of the image this runs in, without a leading v."""
        tag = self.environment.get("STANDIN_IMAGE", ":0.0.0").rpartition(":")[2]
        return tag.removeprefix("v")


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    match: re.Match[str] | None = None

    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode(errors="replace")).items()}

    def json(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def as_json(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value, separators=(",", ":")).encode(), status, "application/json")


def text(value: str, status: int = 200, content_type: str = "text/plain; charset=utf-8") -> Answer:
    return Answer(value.encode(), status, content_type)


def page(title: str, body: str = "", status: int = 200) -> Answer:
    document = f"<!doctype html><html><head><title>{title}</title></head><body>{body or title}</body></html>"
    return text(document, status, "text/html; charset=utf-8")


def redirect(to: str) -> Answer:
    return Answer(status=302, headers={"Location": to})


Handler = Callable[[Request], Answer]


class App:
    """One stand-in: what it answers and where it keeps its data."""

    def __init__(
        self, name: str, port: int, place: Place, store: Store | None = None, run_as: str | None = None
    ) -> None:
        self.name = name
        self.port = int(place.environment.get("STANDIN_PORT", port))
        self.place = place
        self.store = store
        self.run_as = run_as
        self.routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self.gate: Callable[[Request], Answer | None] = lambda request: None
        self.route("GET", "/_lab/version", self._version)
        self.route("GET", "/_lab/rows", self._rows)
        self.route("POST", "/_lab/commit", self._commit)

    def route(self, method: str, pattern: str, handler: Handler) -> None:
        """Answer a method on a whole path; the pattern's groups reach the handler as ``request.match``."""
        self.routes.append((method, re.compile(pattern), handler))

    def answer(self, request: Request) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        refusal = None if request.path.startswith("/_lab/") else self.gate(request)
        if refusal:
            return refusal
        for known, pattern, handler in self.routes:
            match = pattern.fullmatch(request.path)
            if match and known == method:
                request.match = match
                return handler(request)
        return text("Not Found\n", 404)

    def _version(self, request: Request) -> Answer:
        image = self.place.environment.get("STANDIN_IMAGE", "")
        return as_json({"standin": self.name, "image": image, "version": self.place.version})

    def _rows(self, request: Request) -> Answer:
        return as_json(self.store.rows()) if self.store else text(f"{self.name} keeps no data\n", 404)

    def _commit(self, request: Request) -> Answer:
        if not self.store:
            return text(f"{self.name} keeps no data\n", 404)
        return as_json(self.store.commit("file" in request.query))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    app: App

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.close_connection = True
            return self._send(text("a length is required\n", 411))
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        request = Request(self.command, parts.path, query, self.headers, self.rfile.read(length))
        try:
            answer = self.app.answer(request)
        except Exception as error:  # an application answers 500 and goes on
            print(f"{self.app.name}: {self.command} {parts.path}: {error!r}", file=sys.stderr, flush=True)
            answer = text("Internal Server Error\n", 500)
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

    def log_message(self, *_: object) -> None:
        """Requests are not logged: probes come often."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def become(user: str) -> None:
    """Go on as an ordinary user, as images do whose entrypoint starts as root."""
    if os.geteuid() != 0:
        return
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def serve(app: App, address: str = "") -> None:
    """Answer requests until SIGTERM or SIGINT; the write under way is finished first."""
    address = app.place.environment.get("STANDIN_ADDRESS", address)
    server = _Server((address, app.port), type("Handler", (_Handler,), {"app": app}))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGWINCH):  # Apache images are stopped by the last
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(
        f"{app.name} {app.place.version} (stand-in of the Understudy lab) listens on {app.port}", flush=True
    )
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        if app.store:
            app.store.close()


def refuse(sentence: str) -> NoReturn:
    """Stop before anything is written, with the reason in the log."""
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    sys.exit(1)
