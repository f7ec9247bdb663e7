"""A resolver on the lab's own network that says who owns a group: real TLS, real DNS messages, records as the test sets."""

from __future__ import annotations

import re
import ssl
import struct
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["Resolver"]


class Resolver:
    """``records``: group to the text of its record; a group that is not in it does not exist."""

    def __init__(self, address: str, folder: Path) -> None:
        self.records: dict[str, str] = {}
        self.asked = 0
        self.cacert = folder / "resolver.pem"
        key = folder / "resolver.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(self.cacert),
             "-days", "2", "-subj", f"/CN={address}", "-addext", f"subjectAltName=IP:{address}"],
            check=True, capture_output=True,
        )  # fmt: skip
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = outer.answer(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/dns-message")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer((address, 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cacert, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://{address}:{self.server.server_port}/dns-query"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, asked: bytes) -> bytes:
        """The DNS message that answers one."""
        self.asked += 1
        found = re.search(rb"_understudy-owner-([a-z]+)", asked)
        text = self.records.get(found[1].decode()) if found else None
        head = struct.pack("!6H", 0, 0x8180 | (0 if text else 3), 1, 1 if text else 0, 0, 0) + asked[12:]
        if text is None:
            return head
        data = bytes([len(text)]) + text.encode()
        return head + struct.pack("!HHHIH", 0xC00C, 16, 1, 60, len(data)) + data

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
