"""What a connector and the edge say to each other: frames of many requests on one connection.

A frame is a stream's number (4 bytes), a kind (1), a length (4), and the content. lab/connector/cloudflared speaks the
same and cannot import this: it travels to hosts alone.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, NamedTuple

HELLO, WELCOME, REFUSED, HEAD, DATA, END, RESET, CONFIG, PING, PONG = range(10)
HEADER = struct.Struct("!IBI")
PIECE = 64 * 1024
MOST = 1 << 20


class Frame(NamedTuple):
    """One frame. Requests have streams from 1; 0 is the connection itself."""

    stream: int
    kind: int
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


def encode(stream: int, kind: int, content: bytes | dict[str, Any] = b"") -> bytes:
    raw = json.dumps(content).encode() if isinstance(content, dict) else content
    return HEADER.pack(stream, kind, len(raw)) + raw


def read(sock: socket.socket) -> Frame | None:
    """The next frame, None when the other side has closed."""
    head = _exactly(sock, HEADER.size)
    if head is None:
        return None
    stream, kind, length = HEADER.unpack(head)
    if length > MOST:
        return None
    content = _exactly(sock, length)
    return None if content is None else Frame(stream, kind, content)


def _exactly(sock: socket.socket, size: int) -> bytes | None:
    parts = []
    while size:
        piece = sock.recv(min(size, PIECE))
        if not piece:
            return None
        parts.append(piece)
        size -= len(piece)
    return b"".join(parts)
