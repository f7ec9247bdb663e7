"""What lies in a repository: our snapshots by their tags, strangers, and the small marks of this control machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..agent.repo import snapshots as tags
from ..errors import Refused
from .restic import Session

__all__ = [
    "CREATED",
    "PRUNED",
    "TAMPERED",
    "Listing",
    "adopt",
    "listed",
    "must_be_ours",
    "older_tests",
    "ours",
    "read",
]

CREATED = "understudy-created"
PRUNED = "understudy-prune"
TAMPERED = "understudy-tamper"  # the day the store last withstood the tamper test
_HOST = "understudy-admin"


@dataclass(frozen=True)
class Listing:
    """``snapshots``: ours, in order. ``strangers``: ids of all others. ``created``, ``pruned`` and ``tampered``: id to seconds."""

    snapshots: tuple[tags.Snapshot, ...]
    strangers: tuple[str, ...]
    created: Mapping[str, float]
    pruned: Mapping[str, float]
    tampered: Mapping[str, float]

    @property
    def last_prune(self) -> float | None:
        """When the last prune ended well, in seconds since the epoch."""
        return max(self.pruned.values(), default=None)

    @property
    def last_tamper(self) -> float | None:
        """When the tamper test was last passed, in seconds since the epoch."""
        return max(self.tampered.values(), default=None)


def read(raw: Sequence[dict[str, Any]]) -> Listing:
    """The listing from restic's JSON."""
    found: list[tags.Snapshot] = []
    strangers: list[str] = []
    marks: dict[str, dict[str, float]] = {CREATED: {}, PRUNED: {}, TAMPERED: {}}
    for one in raw:
        snapshot = tags.parse(one)
        mark = next((tag for tag in one.get("tags") or () if tag in marks), None)
        if snapshot is not None:
            found.append(snapshot)
        elif mark is not None:
            marks[mark][one["id"]] = _seconds(one)
        else:
            strangers.append(one["id"])
    return Listing(
        tuple(tags.untorn(found)), tuple(strangers), marks[CREATED], marks[PRUNED], marks[TAMPERED]
    )


def _seconds(one: dict[str, Any]) -> float:
    shaped = {**one, "tags": ["understudy", "group:-", "tier:-", "epoch:1", "seq:1"]}
    snapshot = tags.parse(shaped)
    return snapshot.time if snapshot is not None else 0.0


def listed(session: Session, timeout: float = 600) -> Listing:
    """Read the repository's snapshots without a lock. Raises ResticError."""
    return read(session.json(["snapshots"], timeout))


def ours(listing: Listing) -> bool:
    """Whether Understudy made this repository: it carries the mark, or holds snapshots and all of them are ours."""
    return bool(listing.created) or (bool(listing.snapshots) and not listing.strangers)


def older_tests(found: Listing) -> list[str]:
    """Marks of tamper tests that a newer one makes superfluous."""
    return sorted(found.tampered, key=lambda id: found.tampered[id])[:-1]


def must_be_ours(listing: Listing, label: str) -> None:
    """Raises Refused when the repository was made by somebody else."""
    if not ours(listing):
        raise Refused(
            f"{label}: Understudy did not make this repository ({len(listing.strangers)} snapshots of others in it,"
            " no mark of ours), so it never prunes, unlocks or changes it: use one of its own"
        )


def adopt(session: Session, timeout: float = 300) -> None:
    """Mark a new, empty repository as made by Understudy. Raises Refused when others' snapshots are in it."""
    listing = listed(session)
    if listing.created:
        return
    if listing.strangers:
        must_be_ours(listing, session.repository.label)
    mark(session, CREATED, timeout)


def mark(session: Session, tag: str, timeout: float = 300, pass_fds: Sequence[int] = ()) -> str:
    """Write a mark: a snapshot of one small file. Returns its id. Raises ResticError."""
    argv = ["backup", "--json", "--retry-lock", "1m", "--host", _HOST, "--tag", tag]
    argv += ["--stdin", "--stdin-filename", f"{tag}.txt"]
    result = session.run(argv, timeout, lock=True, feed=f"{tag}\n".encode(), pass_fds=pass_fds)
    return str(result.summary.get("snapshot_id", ""))
