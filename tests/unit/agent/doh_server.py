"""A tiny resolver that speaks DNS over HTTPS, for tests: real sockets, real TLS, answers as told."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Resolver", "message"]

Answer = Callable[[bytes], bytes | None]


def message(asked: bytes, texts: list[list[str]], rcode: int = 0, flags: int = 0x8180) -> bytes:
    """A DNS answer to ``asked``; each TXT record is a list of strings."""
    body = struct.pack("!6H", 0, flags | rcode, 1, len(texts), 0, 0) + asked[12:]
    for strings in texts:
        data = b"".join(bytes([len(s.encode())]) + s.encode() for s in strings)
        body += struct.pack("!HHHIH", 0xC00C, 16, 1, 60, len(data)) + data
    return body


class Resolver:
    """Answers with what ``answer(question)`` gives; None leaves the connection hanging until ``close``."""

    def __init__(self, answer: Answer, status: int = 200) -> None:
        self.asked: list[bytes] = []
        self._end = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append(asked)
                body = answer(asked)
                if body is None:
                    outer._end.wait(20)
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/dns-message")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/dns-query"

    def close(self) -> None:
        self._end.set()
        self.server.shutdown()
        self.server.server_close()
