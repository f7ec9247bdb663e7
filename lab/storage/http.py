"""HTTP/1.1 as far as a relay needs it: heads, and bodies copied piece by piece as they were framed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

PIECE = 64 * 1024
HEAD_LIMIT = 64 * 1024
UNTIL_CLOSE = -1
CHUNKED = -2


@dataclass(frozen=True)
class Head:
    """A request's or an answer's first line and headers (names as sent)."""

    first: str
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The header's value, "" without it."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def replaced(self, name: str, value: str) -> Head:
        """The same with another value for a header that is there."""
        return Head(
            self.first, tuple((key, value if key.lower() == name else old) for key, old in self.headers)
        )

    def encode(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    @property
    def method(self) -> str:
        return self.first.split(" ", 1)[0]

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    @property
    def closes(self) -> bool:
        return "close" in self.get("connection").lower() or self.first.endswith("HTTP/1.0")


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head, or None when the other side has closed."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines[1:] if ":" in line)
    return Head(lines[0], tuple((name, value.strip()) for name, value in pairs))


def request_length(head: Head) -> int:
    """Bytes of a request's body, or CHUNKED."""
    if "chunked" in head.get("transfer-encoding").lower():
        return CHUNKED
    return int(head.get("content-length") or 0)


def answer_length(head: Head, method: str) -> int:
    """Bytes of an answer's body, CHUNKED or UNTIL_CLOSE."""
    if method == "HEAD" or head.status in (204, 304) or head.status < 200:
        return 0
    if "chunked" in head.get("transfer-encoding").lower():
        return CHUNKED
    length = head.get("content-length")
    return int(length) if length else UNTIL_CLOSE


async def body(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    """The body piece by piece, framing included. Raises ConnectionError when it ends too early."""
    if length == CHUNKED:
        async for piece in _chunks(reader):
            yield piece
        return
    left = length
    while left:
        piece = await reader.read(PIECE if left < 0 else min(PIECE, left))
        if not piece:
            if left < 0:
                return
            raise ConnectionError("a body ended early")
        left -= len(piece) if left > 0 else 0
        yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    try:
        while True:
            line = await reader.readuntil(b"\r\n")
            yield line
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            async for piece in body(reader, size + 2):
                yield piece
        while line != b"\r\n":  # trailers, up to the empty line
            line = await reader.readuntil(b"\r\n")
            yield line
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("a body ended early") from error
