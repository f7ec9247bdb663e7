"""Redis's RDB files, as far as we must know them."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import IO

__all__ = ["Facts", "facts", "same", "trimmed"]

_MAGIC = re.compile(rb"(REDIS\d{4}|VALKEY\d{3})$")
_AUX, _SELECT, _RESIZE, _END = 0xFA, 0xFE, 0xFB, 0xFF
_CHECKSUM = 8
_MARK = re.compile(rb"[0-9a-f]{40}$")
# Fields that change although nothing was written.
_UNSTEADY = re.compile(rb"(ctime|used-mem|repl-.*)$")


@dataclass(frozen=True)
class Facts:
    """``skip``: byte ranges (from, to) that change by themselves. ``first``: (db number, keys) of the first database."""

    skip: tuple[tuple[int, int], ...]
    first: tuple[int, int] | None
    size: int


def trimmed(stream: IO[bytes]) -> int:
    """Cut off the mark that a transfer to a pipe leaves at the end. Returns the size of what is left."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 49))
    end = stream.read(49)
    if len(end) == 49 and end[0] == _END and _MARK.search(end):
        size -= 40
        stream.truncate(size)
    return size


def facts(path: str) -> Facts:
    """Read the head and the tail of an RDB file. Raises ValueError when it is none, or has no end."""
    size = os.stat(path).st_size
    with open(path, "rb") as stream:
        if not _MAGIC.match(stream.read(9)):
            raise ValueError("it does not begin as a Redis dump does" if size else "it is empty")
        skip, first = _head(stream)
        stream.seek(max(0, size - _CHECKSUM - 1))
        if stream.read(1)[:1] != bytes([_END]):
            raise ValueError("it is truncated")
    return Facts((*skip, (size - _CHECKSUM, size)), first, size)


def _head(stream: IO[bytes]) -> tuple[list[tuple[int, int]], tuple[int, int] | None]:
    skip = []
    while True:
        code = _byte(stream)
        if code == _AUX:
            name, start = _string(stream), stream.tell()
            _string(stream)
            if _UNSTEADY.match(name):
                skip.append((start, stream.tell()))
        elif code == _SELECT:
            number = _length(stream)
            return skip, (number, _length(stream)) if _byte(stream) == _RESIZE else None
        else:
            return skip, None


def _byte(stream: IO[bytes]) -> int:
    got = stream.read(1)
    if not got:
        raise ValueError("it is truncated")
    return got[0]


def _length(stream: IO[bytes]) -> int:
    first = _byte(stream)
    kind, low = first >> 6, first & 0x3F
    if kind == 0:
        return low
    if kind == 1:
        return low << 8 | _byte(stream)
    width = {0x80: 4, 0x81: 8}.get(first)
    if width is None:
        return -(low + 1)  # not a length: how a string is packed
    return int.from_bytes(stream.read(width), "big")


def _string(stream: IO[bytes]) -> bytes:
    length = _length(stream)
    if length >= 0:
        return stream.read(length)
    if length in (-1, -2, -3):  # a number of 1, 2 or 4 bytes
        return stream.read(1 << (-length - 1))
    packed, _ = _length(stream), _length(stream)
    return stream.read(packed)


def same(one: str, other: str) -> bool:
    """Whether two RDB files hold the same: equal but for times, memory, replication and checksum."""
    try:
        mine, kept = facts(one), facts(other)
        return _steady(one, mine) == _steady(other, kept)
    except ValueError:
        return False


def _steady(path: str, of: Facts) -> bytes:
    digest, at = hashlib.sha256(), 0
    with open(path, "rb") as stream:
        for start, end in (*of.skip, (of.size, of.size)):
            left = start - at
            while left > 0 and (chunk := stream.read(min(left, 1 << 20))):
                digest.update(chunk)
                left -= len(chunk)
            at = stream.seek(end)
    return digest.digest()
