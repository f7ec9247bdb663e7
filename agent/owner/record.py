"""The two TXT records of a move group, as text: the broadcast that agents read and the claim that a batch swaps.

``*._understudy-owner-GROUP.DOMAIN`` (a wildcard, TTL 60: a random label is in no cache) says who owns the group.
``_understudy-claim-GROUP.DOMAIN`` is deleted by id and posted anew in every batch: that is what makes a flip conditional.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Malformed", "Ownership", "claim_name", "owner_name", "parse", "text"]

_MARK = "understudy=1"
_KEYS = ("group", "owner", "epoch", "nonce", "base")


class Malformed(ValueError):
    """The text is no record of ours, or a broken one: no answer, never "nobody owns it"."""


@dataclass(frozen=True)
class Ownership:
    """``epoch`` counts flips from 1; ``nonce`` is the operator's random word; ``base`` is the snapshot that the
    owner started from ("" for the first one), as ``HOST:EPOCH:SEQ``."""

    group: str
    owner: str
    epoch: int
    nonce: str
    base: str = ""


def owner_name(group: str, domain: str, label: str = "*") -> str:
    """The record's name; agents put a random ``label`` where the zone has ``*``."""
    return f"{label}._understudy-owner-{group}.{domain}"


def claim_name(group: str, domain: str) -> str:
    """The name of the record that a batch deletes and posts."""
    return f"_understudy-claim-{group}.{domain}"


def text(ownership: Ownership) -> str:
    """The content of both records, without quotes; at most 255 bytes, so that it is one TXT string."""
    words = [f"{key}={getattr(ownership, key)}" for key in _KEYS if getattr(ownership, key) != ""]
    content = " ".join([_MARK, *words])
    if len(content.encode()) > 255 or len(content.split()) != len(words) + 1:
        raise Malformed(f"{content!r} does not fit into one TXT string")
    return content


def parse(content: str) -> Ownership:
    """Read a record's content, with or without the quotes that resolvers keep. Raises Malformed."""
    words = content.strip().strip('"').split()
    if not words or words[0] != _MARK:
        raise Malformed("no record of understudy")
    pairs = dict(word.partition("=")[::2] for word in words[1:])
    missing = [key for key in ("group", "owner", "epoch", "nonce") if not pairs.get(key)]
    if missing or not pairs["epoch"].isdecimal() or int(pairs["epoch"]) < 1:
        raise Malformed(f"the record lacks {missing[0] if missing else 'a whole epoch'}: {content!r}")
    return Ownership(
        pairs["group"], pairs["owner"], int(pairs["epoch"]), pairs["nonce"], pairs.get("base", "")
    )
