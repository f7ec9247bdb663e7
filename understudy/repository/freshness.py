"""How fresh each service's backup is, judged from the repository alone by the control machine's clock.

A host that is dead, or whose timer never fires, says nothing; so nothing the host says is asked here (origin.md B4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..agent.repo.snapshots import Snapshot
from . import retention
from .retention import AHEAD, Owner
from .view import age as span

__all__ = ["Freshness", "judge", "overdue", "plain"]


@dataclass(frozen=True)
class Freshness:
    """One service in one repository. ``snapshot``: the newest good one by (epoch, seq), None when there is none.

    ``age`` and ``objective`` in seconds. ``shrank``: percent of bytes or files that its last snapshot has less than
    the one before with the same services, 0 when not more than the limit. ``failed``: it was left out of the last
    tick. ``ahead``: its newest snapshot is dated so many seconds in the future, and says nothing about its age.
    """

    service: str
    snapshot: str | None
    epoch: int
    seq: int
    age: float | None
    objective: float
    shrank: float = 0.0
    failed: bool = False
    ahead: float = 0.0

    @property
    def missing(self) -> bool:
        """No good snapshot at all."""
        return self.snapshot is None

    @property
    def overdue(self) -> bool:
        """Older than the objective, or missing, or of unknown age."""
        return self.age is None or self.age > self.objective

    def sentence(self) -> str:
        """What is wrong with it, "" when nothing is."""
        parts = []
        if self.missing:
            parts.append("has no good snapshot")
        elif self.age is None:
            parts.append("has only snapshots dated in the future")
        elif self.overdue:
            parts.append(
                f"was last backed up {span(self.age)} ago, where {span(self.objective)} is the objective"
            )
        if self.failed:
            parts.append("failed in the last tick")
        if self.shrank:
            parts.append(f"shrank by {self.shrank:.0f} % with its last snapshot")
        if self.ahead:
            parts.append(f"has a snapshot dated {span(self.ahead)} in the future")
        return f"{self.service} {', '.join(parts)}" if parts else ""


def judge(
    snapshots: Sequence[Snapshot],
    objectives: Mapping[str, float],
    now: float,
    owners: Mapping[int, Owner] | None = None,
    shrink_limit: float = 20,
) -> list[Freshness]:
    """One entry for each service of ``objectives`` (service → seconds), sorted by name.

    ``owners`` as in ``retention.Facts``; diverged snapshots count for nothing. ``shrink_limit`` in percent.
    """
    chain = sorted((s for s in snapshots if not retention.accepted(s, owners or {})), key=retention.order)
    return [_one(service, chain, objectives[service], now, shrink_limit) for service in sorted(objectives)]


def _one(service: str, chain: Sequence[Snapshot], objective: float, now: float, limit: float) -> Freshness:
    good = [one for one in chain if service in one.services]
    told = [one for one in chain if service in one.services or service in one.failed]
    failed = bool(told) and service in told[-1].failed
    if not good:
        return Freshness(service, None, 0, 0, None, objective, failed=failed)
    newest = good[-1]
    credible = [one for one in good if one.time <= now + AHEAD]
    return Freshness(
        service,
        newest.id,
        newest.epoch,
        newest.seq,
        max(0.0, now - credible[-1].time) if credible else None,
        objective,
        _shrank(good, limit),
        failed,
        max(0.0, newest.time - now) if newest.time > now + AHEAD else 0.0,
    )


def _shrank(good: Sequence[Snapshot], limit: float) -> float:
    newest = good[-1]
    before = next((one for one in reversed(good[:-1]) if one.services == newest.services), None)
    if before is None:
        return 0.0
    pairs = ((before.bytes, newest.bytes), (before.files, newest.files))
    worst = max((100.0 * (old - new) / old for old, new in pairs if old), default=0.0)
    return worst if worst > limit else 0.0


def overdue(found: Sequence[Freshness]) -> list[str]:
    """A sentence for each service with which something is wrong; empty when all is well."""
    return [one.sentence() for one in found if one.sentence()]


def plain(found: Sequence[Freshness]) -> list[dict[str, Any]]:
    """For ``--json``: the fields, with ``missing`` and ``overdue``."""
    return [asdict(one) | {"missing": one.missing, "overdue": one.overdue} for one in found]
