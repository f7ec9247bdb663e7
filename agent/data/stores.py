"""The repositories of one tick: opened, found reachable, their clocks read, their snapshots known."""

from __future__ import annotations

import os
import time

from ..errors import AgentError
from ..may import GUARD_PLAN
from ..repo import repository, snapshots, store
from ..repo.restic import Repo
from ..repo.snapshots import Snapshot
from ..root import Root
from . import clock, ledger
from .plan import Plan
from .state import Good, State

__all__ = ["Stores", "had_snapshots", "learn"]

_CLOCK_LIMIT = 60.0


class Stores:
    """``shut`` is why a repository cannot be used, by (name, group); ``off`` how far this host's clock is ahead."""

    def __init__(self, root: Root, plan: Plan, state: State) -> None:
        self._root, self._plan, self._state = root, plan, state
        self.repos: dict[tuple[str, str], Repo] = {}
        self.shut: dict[tuple[str, str], str] = {}
        self.off: float | None = None
        self._asked: dict[str, AgentError | None] = {}

    def open(self, wanted: set[tuple[str, str]], missing: dict[str, AgentError]) -> None:
        """Open each (name, group); what fails is noted and stops no other."""
        for name, group in sorted(wanted):
            try:
                if name in missing:
                    raise missing[name]
                repo = repository.open(self._root, self._plan, name, group)
                self._reach(repo)
                if f"{repo.key}/{group}" not in self._state.known:
                    learn(self._root, self._state, repo, self._plan.host)
                self.repos[name, group] = repo
            except AgentError as error:
                self.shut[name, group] = error.sentence

    def _reach(self, repo: Repo) -> None:
        """Once per store: does it answer, and how far is our clock from its."""
        if repo.name not in self._asked:
            self._asked[repo.name] = None
            try:
                said = store.date(repo)
                if said is not None and self.off is None:
                    self.off = clock.now(self._root) - said
            except AgentError as error:
                self._asked[repo.name] = error
        failed = self._asked[repo.name]
        if failed:
            raise failed

    @property
    def clock_wrong(self) -> str | None:
        """The sentence about a clock that is more than a minute off, or None."""
        if self.off is None or abs(self.off) <= _CLOCK_LIMIT:
            return None
        ahead = "ahead of" if self.off > 0 else "behind"
        return f"this host's clock is {abs(self.off):.0f} s {ahead} the store's; snapshots carry the store's time"

    def corrected(self, at: float) -> float:
        """A moment of this host's clock as a snapshot should carry it."""
        return at - (self.off or 0.0) if self.clock_wrong else at


def learn(root: Root, state: State, repo: Repo, host: str) -> None:
    """Take sequence and last good snapshots from the repository. Raises AgentError kind "vanished" when those we knew

    of are all gone: an emptied store must never look like a first day.
    """
    everybodys = snapshots.listed(repo)
    own = [snapshot for snapshot in everybodys if snapshot.host == host]
    if not own and had_snapshots(root, state, repo):
        raise AgentError(
            f"{repo.title} at {repo.where} has lost every snapshot of this host: find out why;"
            " `understudy repo init --again` begins anew",
            "vanished",
        )
    state.forget(repo.key, repo.group)
    if not os.path.exists(root.at(GUARD_PLAN)):
        # Nobody else may own the group, and what is made here from now on is newer than all there is.
        highest = max((snapshot.order for snapshot in everybodys), default=(0, 0))
        state.epochs[repo.group] = max(highest[0], state.epochs.get(repo.group, 0))
        state.seq = max(state.seq, highest[1])
    for snapshot in own:
        state.seq = max(state.seq, snapshot.seq)
        for service in snapshot.services:
            state.good.setdefault(repo.key, {})[service] = _good(snapshot)
    state.known = sorted({*state.known, f"{repo.key}/{repo.group}"})


def _good(snapshot: Snapshot) -> Good:
    # Sizes of single services are not in a snapshot; 0 means unknown, and never that something shrank.
    return Good(
        snapshot.id, snapshot.group, snapshot.tier, snapshot.epoch, snapshot.seq, list(snapshot.services),
        snapshot.time, snapshot.time, min(snapshot.time, time.time()),
    )  # fmt: skip


def had_snapshots(root: Root, state: State, repo: Repo) -> bool:
    """Whether this host ever stored something there since the repository was last made on purpose."""
    if any(good.group == repo.group for good in state.good.get(repo.key, {}).values()):
        return True
    for record in ledger.records(root, months=1200):
        if (
            record.get("group") == repo.group
            and record.get("key", record.get("repository")) == repo.key
            and record.get("ok")
        ):
            if record["kind"] == "init":
                return False
            if record["kind"] in ("backup", "copy"):
                return True
    return False
