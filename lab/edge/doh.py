"""DNS over HTTPS: a resolver with its own cache and its own view of the zone, which tests can make misbehave.

RFC 8484 (GET ?dns=, POST) and application/dns-json (GET ?name=&type=), at /dns-query and /resolve.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from lab.cloudflare.answers import Json
from lab.edge import dnswire
from lab.edge.dnswire import Answer, Question
from lab.edge.views import View

NEGATIVE_TTL = 60
MESSAGE, JSON = "application/dns-message", "application/dns-json"


@dataclass(frozen=True)
class Trouble:
    """How a resolver misbehaves: ``fail`` is "", servfail, nxdomain, http (503), garbage, hang or old.

    ``old`` goes on with what it knew (its view learns nothing). ``delay``: seconds before each answer.
    """

    fail: str = ""
    delay: float = 0.0


class Resolver:
    """One resolver. ``asked`` counts questions, ``cached`` those that its cache answered."""

    def __init__(self, view: View, zones: Mapping[str, object]) -> None:
        self.view, self.zones = view, zones
        self.trouble = Trouble()
        self.cache: dict[tuple[str, str], tuple[float, int, list[Answer]]] = {}
        self.lock = threading.Lock()
        self.asked = self.cached = 0

    def set(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self.view.freeze(trouble.fail == "old")

    def resolve(self, name: str, kind: str) -> tuple[int, list[Answer]]:
        """Response code and answers, from the cache while it lasts."""
        now = time.monotonic()
        with self.lock:
            self.asked += 1
            kept = self.cache.get((name, kind))
            if kept and kept[0] > now:
                self.cached += 1
                left = int(kept[0] - now)
                return kept[1], [Answer(a.type, min(a.ttl, left), a.data) for a in kept[2]]
        code, answers = self._look(name, kind)
        ttl = min((answer.ttl for answer in answers), default=NEGATIVE_TTL)
        with self.lock:
            self.cache[name, kind] = (now + ttl, code, answers)
        return code, answers

    def _look(self, name: str, kind: str) -> tuple[int, list[Answer]]:
        if not any(name == zone or name.endswith(f".{zone}") for zone in self.zones):
            return dnswire.NXDOMAIN, []
        found = self.view.records(name) or self._wildcard(name)
        if not found:
            return dnswire.NXDOMAIN, []
        answers = [
            # A proxied name answers with addresses of the edge, so that nobody sees where it leads.
            Answer(record["type"], max(record["ttl"], 60), str(record["content"]).strip('"'))
            for record in found
            if record["type"] == kind and not record["proxied"]
        ]
        return dnswire.NOERROR, answers

    def _wildcard(self, name: str) -> list[Json]:
        parts = name.split(".")
        for start in range(1, len(parts) - 1):
            found = self.view.records("*." + ".".join(parts[start:]))
            if found:
                return found
            if self.view.records(".".join(parts[start:])):
                return []  # a name that exists hides the wildcards above it
        return []


class DohServer(ThreadingHTTPServer):
    """Serves one resolver at an address; with a certificate, over TLS."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], resolver: Resolver, certificate: tuple[Path, Path] | None = None
    ) -> None:
        super().__init__(address, DohHandler)
        self.resolver = resolver
        self.context: ssl.SSLContext | None = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)

    def finish_request(self, request: object, client_address: object) -> None:
        """The handshake happens in the connection's own thread: a silent client holds nobody up."""
        if self.context:
            request.settimeout(10)  # type: ignore[attr-defined]
            request = self.context.wrap_socket(request, server_side=True)  # type: ignore[arg-type]
        super().finish_request(request, client_address)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that distrusts the certificate is no news."""


class DohHandler(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: DohServer

    def do_GET(self) -> None:
        query = {key: values[-1] for key, values in parse_qs(urlsplit(self.path).query).items()}
        if "dns" in query:
            padded = query["dns"] + "=" * (-len(query["dns"]) % 4)
            self._message(base64.urlsafe_b64decode(padded))
        else:
            self._json(query.get("name", "").rstrip(".").lower(), query.get("type", "A").upper())

    def do_POST(self) -> None:
        self._message(self.rfile.read(int(self.headers.get("content-length") or 0)))

    def _troubled(self) -> bool:
        """Whether this request ends here, without a DNS answer."""
        trouble = self.server.resolver.trouble
        time.sleep(trouble.delay)
        if trouble.fail == "hang":
            while self.server.resolver.trouble.fail == "hang":
                time.sleep(0.1)
            self.close_connection = True
            return True
        if trouble.fail in ("http", "garbage"):
            self._send(503 if trouble.fail == "http" else 200, MESSAGE, b"no DNS at all")
            return True
        return False

    def _resolved(self, name: str, kind: str) -> tuple[int, list[Answer]]:
        codes = {"servfail": dnswire.SERVFAIL, "nxdomain": dnswire.NXDOMAIN}
        fail = self.server.resolver.trouble.fail
        return (codes[fail], []) if fail in codes else self.server.resolver.resolve(name, kind)

    def _message(self, raw: bytes) -> None:
        if self._troubled():
            return
        try:
            asked: Question = dnswire.question(raw)
        except ValueError:
            self._send(400, "text/plain", b"no DNS query")
            return
        code, answers = self._resolved(asked.name, asked.type)
        self._send(200, MESSAGE, dnswire.message(asked, code, answers))

    def _json(self, name: str, kind: str) -> None:
        if self._troubled():
            return
        code, answers = self._resolved(name, kind)
        number = dnswire.TYPES.get(kind, 0)
        rows = [
            {"name": name, "type": dnswire.TYPES[a.type], "TTL": a.ttl, "data": _quoted(a)} for a in answers
        ]
        whole = {"Status": code, "TC": False, "RD": True, "RA": True, "AD": False, "CD": False}
        body = {**whole, "Question": [{"name": name, "type": number}], **({"Answer": rows} if rows else {})}
        self._send(200, JSON, json.dumps(body).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The resolver counts; it does not print."""


def _quoted(answer: Answer) -> str:
    return f'"{answer.data}"' if answer.type == "TXT" else answer.data
