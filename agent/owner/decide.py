"""The guard's table (protocol.md §1), as a pure function: what is known and what was answered in, what to do out.

    names me, epoch >= seen, ready             run; remember
    names me, epoch >= seen, not ready         remember, then stop
    names another, epoch > seen                remember, then stop
    names another, epoch = seen                stop (it is known already, or two were told the same epoch)
    names me, epoch = seen as another's        no answer: no batch can do that
    epoch < seen, NXDOMAIN, malformed, ...     no answer

    no answer, a grant holds                   stay behind the fence
    no answer, running                         go on
    no answer after a boot, last known "me"    wait, then run (offline: serve) or stay down; down when not ready
    no answer after a boot, another's          stay down

Ready: the data here is the owner's. It runs already; or it ran in that epoch, or in the one right before (its owner was
told to go on); or it is the first host and the first epoch; or it came with a grant for this very batch (epoch and
nonce) that has not ended. A batch that arrives after its grant has ended finds a source that may have served again
since (its freeze is over), so nothing is started on data that may lack those writes: the control machine decides
(tests/model shows what happens without this).

In auto mode (agent/owner/storelease.py) what would run or go on needs its lease besides: ``unleased`` stops it.

A grant whose epoch is higher than the answer's keeps the group behind its fence: the batch that will name this host is
on its way. Until any record was seen (epoch 0) the group is its first host's, whatever ``offline`` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .record import Ownership

__all__ = ["Action", "Verdict", "View", "decide", "unleased"]

Action = Literal["run", "stop", "go-on", "wait", "stay-down", "fenced"]


@dataclass(frozen=True)
class View:
    """``epoch``, ``owner``: the highest seen and whose it was ("" with epoch 0). ``ran``: the epoch in which the guard last

    let it run, 0 for never. ``running``: it did so in this boot. ``up``: seconds since its first look in this boot.
    ``grant``, ``nonce``: of the grant that holds, 0 and "" for none. ``off``: the guard is switched off.
    """

    host: str
    first: str
    epoch: int = 0
    owner: str = ""
    ran: int = 0
    running: bool = False
    up: float = 0.0
    wait: float = 120.0
    offline: str = "serve"
    grant: int = 0
    nonce: str = ""
    off: bool = False

    @property
    def mine(self) -> bool:
        """Whether the group was this host's by the last that was known."""
        return (self.owner or self.first) == self.host

    def ready(self, epoch: int, nonce: str = "") -> bool:
        """Whether the data here is what the owner of this epoch must have."""
        if self.running or (self.grant == epoch and nonce and self.nonce == nonce):
            return True
        return self.ran <= epoch <= self.ran + 1 and (self.ran > 0 or self.first == self.host)


@dataclass(frozen=True)
class Verdict:
    """``learn``: the answer is to be remembered before anything else is done."""

    action: Action
    why: str
    learn: bool = False


def decide(view: View, answer: Ownership | None) -> Verdict:
    """What to do with one group now."""
    if view.off:
        return Verdict("run", "the guard is switched off at this host")
    if answer is None or answer.epoch < view.epoch:
        return _silent(view, "no answer" if answer is None else f"epoch {answer.epoch} is old")
    if answer.owner == view.host:
        if answer.epoch == view.epoch and not view.mine:
            return _silent(view, f"epoch {answer.epoch} was {view.owner}'s")
        if not view.ready(answer.epoch, answer.nonce):
            why = f"named, epoch {answer.epoch}, but the data here is of epoch {view.ran}: finish the switchover, or promote"
            return Verdict("stop", why, learn=True)
        return Verdict("run", f"named, epoch {answer.epoch}", learn=True)
    if view.grant > answer.epoch:
        return Verdict(
            "fenced", f"granted for epoch {view.grant}, {answer.owner} owns {answer.epoch}", learn=True
        )
    return Verdict("stop", f"{answer.owner} owns it, epoch {answer.epoch}", learn=True)


def unleased(verdict: Verdict, why: str) -> Verdict:
    """The verdict on a group whose right to serve is over for this reason ("": it is not). What was answered is learnt."""
    if not why or verdict.action not in ("run", "go-on"):
        return verdict
    return Verdict("stop", f"{verdict.why}, and {why}", verdict.learn)


def _silent(view: View, said: str) -> Verdict:
    if view.grant > view.epoch:
        return Verdict("fenced", f"{said}; granted for epoch {view.grant}")
    if view.running:
        return Verdict("go-on", said)
    if not view.mine:
        return Verdict("stay-down", f"{said}; {view.owner or view.first} owned it")
    if not view.ready(view.epoch):
        return Verdict(
            "stay-down", f"{said}; it was ours, epoch {view.epoch}, but the data here is of {view.ran}"
        )
    if view.up < view.wait:
        return Verdict("wait", f"{said}; {view.wait - view.up:.0f} s left")
    if view.epoch == 0:
        return Verdict("run", f"{said}; no record was ever seen, and it is this host's first")
    if view.offline == "serve":
        return Verdict("run", f"{said} for {view.wait:.0f} s; it was ours, epoch {view.epoch}")
    return Verdict("stay-down", f"{said}; it was ours, and is told to stay down offline")
