"""Asks who owns a group: TXT over HTTPS (RFC 8484, POST application/dns-message), each resolver on its own.

A random label under the wildcard is in no cache. Whatever is not a whole, well-formed record of ours is no answer, and
its reason a sentence; nothing here means "nobody owns it".
"""

from __future__ import annotations

import http.client
import secrets
import ssl
import struct
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..parts import gather
from .record import Malformed, Ownership, owner_name, parse

__all__ = ["Heard", "NoAnswer", "ask", "query", "strings"]

_TIMEOUT = 4.0
_TXT, _IN = 16, 1
_MOST = 16384


class NoAnswer(Exception):
    """The message says why."""


@dataclass
class Heard:
    """``answer``: the highest epoch that a resolver gave, or None. ``silent``: resolver to why it gave none."""

    answer: Ownership | None = None
    silent: dict[str, str] = field(default_factory=dict)


def ask(
    resolvers: Sequence[str], group: str, domain: str, cacert: str = "", timeout: float = _TIMEOUT
) -> Heard:
    """Ask all resolvers at once; takes ``timeout`` seconds at most."""
    readers = {url: partial(_one, url, group, domain, cacert, timeout) for url in resolvers}
    said = gather(readers, timeout)
    heard = Heard()
    found: list[Ownership] = []
    for url, value in said.items():
        if isinstance(value, Ownership):
            found.append(value)
        else:
            heard.silent[url] = str(value["unreadable"]) if isinstance(value, dict) else str(value)
    if found:
        newest = max(found, key=lambda one: one.epoch)
        same = {one.owner for one in found if one.epoch == newest.epoch}
        if len(same) == 1:
            heard.answer = newest
        else:
            heard.silent["all"] = f"epoch {newest.epoch} is said to be {' and '.join(sorted(same))}'s"
    return heard


def _one(url: str, group: str, domain: str, cacert: str, timeout: float) -> Ownership | str:
    name = owner_name(group, domain, secrets.token_hex(8))
    try:
        texts = [text for text in query(url, name, cacert, timeout) if text.startswith("understudy=")]
        if len(set(texts)) != 1:
            return f"{len(set(texts))} ownership records"
        found = parse(texts[0])
        return found if found.group == group else f"the record is {found.group}'s"
    except (NoAnswer, Malformed) as error:
        return str(error)


def query(url: str, name: str, cacert: str = "", timeout: float = _TIMEOUT) -> list[str]:
    """The TXT strings of a name. Raises NoAnswer."""
    asked = _question(name)
    place = urllib.parse.urlsplit(url)
    connection = _connection(place, cacert, timeout)
    headers = {"Content-Type": "application/dns-message", "Accept": "application/dns-message"}
    try:
        connection.request("POST", place.path or "/dns-query", asked, headers)
        response = connection.getresponse()
        body = response.read(_MOST)
    except ssl.SSLError as error:
        raise NoAnswer(f"TLS: {error.reason or error}") from error
    except TimeoutError as error:
        raise NoAnswer(f"no answer within {timeout:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(
            str(getattr(error, "strerror", None) or error or type(error).__name__).lower()
        ) from error
    finally:
        connection.close()
    if response.status != 200:
        raise NoAnswer(f"HTTP status {response.status}")
    return strings(body, asked)


def _connection(place: urllib.parse.SplitResult, cacert: str, timeout: float) -> http.client.HTTPConnection:
    host = place.hostname or ""
    if place.scheme == "http":
        return http.client.HTTPConnection(host, place.port, timeout=timeout)
    try:
        context = ssl.create_default_context(cafile=cacert or None)
    except OSError as error:
        raise NoAnswer(f"{cacert or 'the certificates of this host'} cannot be read") from error
    return http.client.HTTPSConnection(host, place.port, timeout=timeout, context=context)


def _question(name: str) -> bytes:
    labels = name.rstrip(".").encode("ascii").split(b".")
    if any(not 0 < len(label) < 64 for label in labels):
        raise NoAnswer(f"{name} is no DNS name")
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    # Id 0, as RFC 8484 advises; recursion desired; one question.
    return struct.pack("!6H", 0, 0x0100, 1, 0, 0, 0) + packed + struct.pack("!2H", _TXT, _IN)


def strings(body: bytes, asked: bytes) -> list[str]:
    """The TXT strings of a DNS message that answers ``asked``. Raises NoAnswer for anything else."""
    try:
        return list(_strings(body, asked))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise NoAnswer("a malformed DNS message") from error


def _strings(body: bytes, asked: bytes) -> Iterator[str]:
    _, flags, questions, answers = struct.unpack_from("!4H", body)
    if not flags & 0x8000 or flags & 0x0200:
        raise NoAnswer("a truncated DNS message" if flags & 0x0200 else "no DNS answer")
    if flags & 0xF:
        raise NoAnswer(
            {2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}.get(flags & 0xF, f"DNS error {flags & 0xF}")
        )
    question = asked[12:].lower()
    if questions != 1 or body[12 : 12 + len(question)].lower() != question:
        raise NoAnswer("an answer to another question")
    at = 12 + len(question)
    for _ in range(answers):
        at = _after_name(body, at)
        kind, _, _, length = struct.unpack_from("!HHIH", body, at)
        at += 10
        data = body[at : at + length]
        if len(data) != length:
            raise NoAnswer("a malformed DNS message")
        if kind == _TXT:
            yield _text(data)
        at += length


def _after_name(body: bytes, at: int) -> int:
    while True:
        length = body[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if length == 0:
            return at


def _text(data: bytes) -> str:
    parts, at = [], 0
    while at < len(data):
        length = data[at]
        if at + 1 + length > len(data):
            raise NoAnswer("a malformed TXT record")
        parts.append(data[at + 1 : at + 1 + length])
        at += 1 + length
    return b"".join(parts).decode("ascii")
