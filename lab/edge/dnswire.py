"""DNS messages, as far as a resolver over HTTPS needs them: one question, TXT and CNAME answers."""

from __future__ import annotations

import struct
from dataclasses import dataclass

NOERROR, FORMERR, SERVFAIL, NXDOMAIN = 0, 1, 2, 3
TYPES = {"A": 1, "CNAME": 5, "TXT": 16, "AAAA": 28}
NAMES = {number: name for name, number in TYPES.items()}
HEADER = struct.Struct("!6H")


@dataclass(frozen=True)
class Question:
    """What was asked; ``raw`` is the question section."""

    id: int
    name: str
    type: str
    raw: bytes


@dataclass(frozen=True)
class Answer:
    """One answer record; ``data`` is text."""

    type: str
    ttl: int
    data: str


def question(message: bytes) -> Question:
    """Read a query. Raises ValueError for anything that is not one."""
    try:
        number, flags, questions, *_ = HEADER.unpack_from(message)
        labels, at = [], HEADER.size
        while length := message[at]:
            labels.append(message[at + 1 : at + 1 + length].decode("ascii"))
            at += 1 + length
        kind, _ = struct.unpack_from("!2H", message, at + 1)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError("a malformed DNS message") from error
    if flags & 0x8000 or questions != 1:
        raise ValueError("no DNS query")
    return Question(number, ".".join(labels).lower(), NAMES.get(kind, str(kind)), message[12 : at + 5])


def message(asked: Question, code: int, answers: list[Answer]) -> bytes:
    """The reply to a query."""
    head = HEADER.pack(asked.id, 0x8180 | code, 1, len(answers), 0, 0)
    return head + asked.raw + b"".join(map(_answer, answers))


def _answer(answer: Answer) -> bytes:
    data = _text(answer.data) if answer.type == "TXT" else _name(answer.data)
    return b"\xc0\x0c" + struct.pack("!2HIH", TYPES[answer.type], 1, answer.ttl, len(data)) + data


def _text(text: str) -> bytes:
    raw = text.encode()
    pieces = [raw[at : at + 255] for at in range(0, len(raw), 255)] or [b""]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces)


def _name(name: str) -> bytes:
    labels = name.rstrip(".").encode("ascii").split(b".")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
