"""DNS records as plain values, whose they are, and the difference between those that are and those that should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import Refused

ADDRESSES = ("A", "AAAA", "CNAME")
AUTOMATIC = 1
OWNER_TTL = 60
TARGET = ".cfargotunnel.com"
Kind = Literal["route", "owner", "claim", "canary"]


@dataclass(frozen=True)
class Record:
    """The keys of a record that we manage; whatever else the API tells is not compared. ``ttl`` in seconds, 1: automatic.

    ``id`` is "" for one that is only wished for.
    """

    type: str
    name: str
    content: str
    proxied: bool
    ttl: int
    comment: str
    id: str = field(default="", compare=False)

    def body(self) -> dict[str, Any]:
        """What a post of it sends."""
        return {
            "type": self.type,
            "name": self.name,
            "content": self.content,
            "proxied": self.proxied,
            "ttl": self.ttl,
            "comment": self.comment,
        }


@dataclass(frozen=True)
class Batch:
    """One transaction of the API, in the order in which it works: deletes, patches, posts."""

    deletes: tuple[str, ...] = ()
    patches: tuple[tuple[str, dict[str, Any]], ...] = ()
    posts: tuple[Record, ...] = ()

    def __len__(self) -> int:
        return len(self.deletes) + len(self.patches) + len(self.posts)


@dataclass(frozen=True)
class Change:
    """One line of a plan."""

    action: Literal["create", "update", "delete"]
    name: str
    why: str


@dataclass(frozen=True)
class Difference:
    """What a converge of the records would do, as a batch and as lines for the owner."""

    batch: Batch
    changes: tuple[Change, ...]


def comment(stack: str, kind: Kind, what: str) -> str:
    """The ownership mark of a record; Cloudflare's Free plan takes 100 characters."""
    return f"{_mark(stack)}{kind} {what}"[:100]


def kind_of(record: Record, stack: str) -> str:
    """``route``, ``owner``, ``claim`` or ``canary`` for a record of ours, "" for anybody else's."""
    if not record.comment.startswith(_mark(stack)):
        return ""
    return record.comment.removeprefix(_mark(stack)).split(" ")[0]


def _mark(stack: str) -> str:
    return f"understudy/{stack}: "


def route(name: str, tunnel: str, group: str, stack: str) -> Record:
    """The proxied CNAME of a public name; ``tunnel`` is the id of the owner's tunnel."""
    return Record("CNAME", name, f"{tunnel}{TARGET}", True, AUTOMATIC, comment(stack, "route", f"of {group}"))


def text_record(name: str, content: str, kind: Kind, group: str, stack: str) -> Record:
    """A TXT record of ours, in quotes as the API keeps it."""
    return Record("TXT", name, f'"{content}"', False, OWNER_TTL, comment(stack, kind, f"of {group}"))


def difference(
    wanted: Iterable[Record], live: Iterable[Record], stack: str, *, retire: bool = True
) -> Difference:
    """Make ``wanted`` true among our records; with ``retire`` routes of ours that nobody wants go.

    Raises Refused naming every name that a foreign record holds.
    """
    live = list(live)
    by_name: dict[tuple[str, str], list[Record]] = {}
    for record in live:
        by_name.setdefault((_family(record.type), record.name), []).append(record)
    patches, posts, changes, kept, foreign = [], [], list[Change](), set[str](), list[str]()
    for record in wanted:
        there = by_name.get((_family(record.type), record.name), [])
        ours = [r for r in there if kind_of(r, stack) and r.type == record.type]
        strangers = [r for r in there if not kind_of(r, stack)]
        if strangers and record.type in ADDRESSES:
            foreign.append(_stranger(strangers[0], stack))
            continue
        if not ours:
            posts.append(record)
            changes.append(Change("create", record.name, f"{record.type} {record.content}"))
            continue
        kept.add(ours[0].id)
        keys = changed_keys(ours[0], record)
        if keys:
            patches.append((ours[0].id, {**keys, "type": record.type, "name": record.name}))
            changes.append(Change("update", record.name, _why(ours[0], keys)))
    if foreign:
        raise Refused("\n".join(foreign))
    gone = [r for r in live if retire and kind_of(r, stack) == "route" and r.id not in kept]
    changes += [Change("delete", r.name, "no service routes this name any more") for r in gone]
    return Difference(Batch(tuple(r.id for r in gone), tuple(patches), tuple(posts)), tuple(changes))


def changed_keys(live: Record, wanted: Record) -> dict[str, Any]:
    """The managed keys of ``wanted`` that differ, with the values wanted."""
    old, new = live.body(), wanted.body()
    keys = {key: value for key, value in new.items() if old[key] != value and key not in ("type", "name")}
    if "content" in keys and _plain(live.content) == _plain(wanted.content):
        del keys["content"]
    if wanted.proxied:
        keys.pop("ttl", None)  # the API says 1 for whatever is proxied
    return keys


def _plain(content: str) -> str:
    return content.strip('"') if content.startswith('"') else content.rstrip(".").lower()


def _family(kind: str) -> str:
    return "address" if kind in ADDRESSES else kind


def _why(live: Record, keys: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {getattr(live, key)} → {value}" for key, value in keys.items())


def _stranger(record: Record, stack: str) -> str:
    return (
        f"{record.name} has a {record.type} record ({record.content}) that is not ours: delete it, or give it the "
        f"comment {comment(stack, 'route', 'adopted')!r} to hand it over"
    )
