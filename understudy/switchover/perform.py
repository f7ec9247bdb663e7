"""What each step of a switchover does on the hosts and in the zone. Every one can be done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..agent.owner import record
from ..agent.owner.record import Ownership
from ..cloudflare import CloudflareError
from ..errors import UnderstudyError
from ..hostside import HostsideError
from ..traffic import balance, flip, tunnels
from ..traffic.edge import Edge
from . import through
from .drive import boottime
from .hosts import Remote, Unreachable
from .machine import LEASE, Journey, Outcome, Step

__all__ = ["Group", "Performer"]

GRANT_MARGIN = 10.0
"""Seconds before the source's thaw at which the target's grant ends."""
NO_END = 10 * 365 * 86400.0
COPY_LIMIT, STOP_LIMIT = 6 * 3600.0, 120.0
FLIP_TIMEOUT = 10.0
PROBE_WAIT = 90.0


@dataclass(frozen=True)
class Group:
    """What moves: its services in the plans, and the requests through the edge that prove them."""

    name: str
    services: tuple[str, ...]
    probes: tuple[dict[str, Any], ...] = ()


@dataclass
class Performer:
    """``edge`` None: the names' owner moves them himself, and ``point`` tells him which, and where to."""

    group: Group
    source: Remote
    target: Remote
    edge: Edge | None = None
    point: Callable[[Journey], None] = lambda journey: None
    say: Callable[[str], None] = lambda text: None
    silent: bool = False
    until: float = 0.0
    target_until: float = 0.0
    rows: dict[str, Any] = field(default_factory=dict)
    _stopping: Future[Outcome] | None = None
    _aside: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def left(self) -> float:
        """Seconds of the source's lease that are certain: it began after we asked for it."""
        return max(0.0, self.until - boottime())

    def perform(self, step: Step, journey: Journey) -> Outcome:
        """Do one step. Raises UnderstudyError."""
        if step != "refresh":
            self._stopped()
        return _STEPS[step](self, journey)

    # --- before the batch

    def admit(self, journey: Journey) -> Outcome:
        if self.edge:
            self._assert_unmoved(journey)
            through.admit(self.edge, self.target, self.say)
        self._save_diverged(journey)
        return Outcome()

    def _save_diverged(self, journey: Journey) -> None:
        """What the target wrote and nobody has goes off site before other data takes its place."""
        epochs = self.target.ask("journey", {"group": journey.group}).get("unsaved")
        if epochs and journey.mode == "planned":
            reply = self.target.ask("demote", {"group": journey.group, "lock_wait": 120}, COPY_LIMIT)
            saved = next((one["saved"] for one in reversed(reply["moved"]) if one.get("saved")), None)
            if saved:
                self.say(
                    f"what {self.target.name} alone had is saved as {saved['name']} ({saved['repository']})"
                )

    def copy(self, journey: Journey) -> Outcome:
        began = boottime()
        self._backup()
        self._refreshed("", "")
        return Outcome(seconds=boottime() - began)

    def freeze(self, journey: Journey) -> Outcome:
        return self._freeze(journey, servers=False)

    def stop(self, journey: Journey) -> Outcome:
        """Begun here and over before the refresh is: the base is made, so what still runs at the source changes nothing."""
        self._stopping = self._aside.submit(self._freeze, journey, servers=True)
        return Outcome()

    def _stopped(self) -> None:
        """Wait for the source's last servers to stop. Raises what became of that."""
        stopping, self._stopping = self._stopping, None
        if stopping is not None:
            stopping.result()

    def _freeze(self, journey: Journey, servers: bool) -> Outcome:
        # The target's own clock is read before the lease begins: its grant can then end before the source thaws.
        stamp = float(self.target.ask("journey", {"group": journey.group})["boottime"])
        asked = boottime()
        # The servers are stopped once the base is made: of a freeze that was over in between it would not be the last word.
        again = {"servers": True, "again": True} if servers else {"servers": False}
        request = {"group": journey.group, "id": journey.id, "seconds": LEASE, **again}
        self.source.ask("freeze", request, STOP_LIMIT)
        self.until, self.target_until = asked + LEASE, stamp + LEASE - GRANT_MARGIN
        return Outcome()

    def base(self, journey: Journey) -> Outcome:
        rows = self._backup(first_only=True)
        names = {f"{self.source.name}:{row['epoch']}:{row['seq']}" for row in rows}
        if len(names) != 1:
            raise UnderstudyError(
                f"the last backup of {journey.group} is in several snapshots: {', '.join(sorted(names))}"
            )
        return Outcome(base=names.pop())

    def _backup(self, first_only: bool = False) -> list[dict[str, Any]]:
        request = {"services": list(self.group.services), "reason": "switchover", "lock_wait": 120}
        reply = self.source.ask(
            "backup", request, min(COPY_LIMIT, max(self.left(), 60)) if first_only else COPY_LIMIT
        )
        rows = [row for row in reply.get("services") or [] if row["service"] in self.group.services]
        bad = next((row for row in rows if not row["ok"]), None)
        if bad or not rows:
            raise UnderstudyError(
                f"the backup before the move failed: {bad['error'] if bad else 'nothing was backed up'}"
            )
        first = rows[0]["repository"]
        return [row for row in rows if row["repository"] == first]

    def fence(self, journey: Journey) -> Outcome:
        if self.edge:
            tunnels.fence(self.edge, journey.source)
        self.silent = not self.source.reached(3)
        if not self.silent:
            # It may hear it late from the resolvers; a dead one hears nothing, and is fenced all the same.
            self.say(f"{journey.source} answers, and is fenced")
        return Outcome()

    def refresh(self, journey: Journey) -> Outcome:
        if journey.mode == "forced":
            return self._newest(journey)
        try:
            self._refreshed(journey.base, "")
        finally:
            self._stopped()
        return Outcome()

    def _newest(self, journey: Journey) -> Outcome:
        """The newest that counts; where the repository does not answer, what is published."""
        if journey.base:
            return Outcome(base=journey.base)
        try:
            reply = self.target.ask("refresh", {"group": journey.group, "lock_wait": 60}, COPY_LIMIT)
            names = [one["name"] for one in (reply.get("snapshots") or {}).values()]
        except HostsideError as error:
            self.say(f"{error}; going on with what is published")
            names = [one["name"] for one in through.published(self.target, journey.group).values()]
        return Outcome(base=max(names, key=_order, default=""))

    def _refreshed(self, base: str, snapshot: str) -> dict[str, Any]:
        reply = self.target.ask(
            "refresh", {"group": self.group.name, "snapshot": snapshot, "lock_wait": 120}, COPY_LIMIT
        )
        if reply.get("skipped"):
            raise UnderstudyError(f"{self.target.name}: {reply['skipped']}")
        if reply.get("missing"):
            name, why = next(iter(reply["missing"].items()))
            raise UnderstudyError(f"{self.target.name} has no {name}: {why}")
        held = {name: one["name"] for name, one in reply["snapshots"].items() if name in self.group.services}
        old = next((name for name, one in held.items() if base and one != base), None)
        if old:
            raise UnderstudyError(f"{self.target.name} holds {old} of {held[old]}, not of {base}")
        return reply

    def promote(self, journey: Journey) -> Outcome:
        request: dict[str, Any] = {
            "group": journey.group, "epoch": journey.epoch + 1, "nonce": journey.id, "base": journey.base, "lock_wait": 120,
        }  # fmt: skip
        if journey.mode == "forced" or journey.settled:
            request |= {"seconds": NO_END, "rollback": True}
        else:
            request |= {"until": self.target_until}
        limit = 900 if journey.mode == "forced" else max(20.0, self.left())
        rows = self.target.ask("promote", request, limit)["services"]
        other = next((row for row in rows if row["name"] != journey.base), None)
        if other and journey.mode == "planned":
            raise UnderstudyError(
                f"{self.target.name} made {other['service']} of {other['name']} live, not of {journey.base}"
            )
        return Outcome()

    # --- the batch

    def flip(self, journey: Journey) -> Outcome:
        return self._send(journey, journey.target, journey.id, journey.base, "won")

    def cancel(self, journey: Journey) -> Outcome:
        outcome = self._send(journey, journey.source, f"{journey.id}-c", "", "cancelled")
        return Outcome("unknown") if outcome.word == "lost" else outcome

    def _send(self, journey: Journey, owner: str, nonce: str, base: str, won: str) -> Outcome:
        edge = self._edge()
        held = flip.read(edge, [journey.group])
        if held[journey.group].claim_id != journey.claim:
            return self._found(held[journey.group].ownership, journey)
        try:
            flip.flip(edge, held, owner, {journey.group: base}, nonce=nonce)
        except flip.FlipLost:
            return Outcome("lost")
        except CloudflareError as error:
            self.say(str(error))
            return Outcome("unknown")
        except flip.FlipUnknown:
            return Outcome("unknown")
        return Outcome(won)

    def read(self, journey: Journey) -> Outcome:
        held = flip.read(self._edge(), [journey.group])[journey.group]
        return Outcome("open") if held.claim_id == journey.claim else self._found(held.ownership, journey)

    def _found(self, now: Ownership, journey: Journey) -> Outcome:
        words = {journey.id: "won", f"{journey.id}-c": "cancelled", f"{journey.id}-r": "won"}
        return Outcome(words.get(now.nonce, "lost"))

    def point_names(self, journey: Journey) -> Outcome:
        self.point(journey)
        return Outcome()

    # --- after it

    def order(self, journey: Journey) -> Outcome:
        """The pools' order follows the claim. Where it cannot be changed now, their monitors lead the same way, only later."""
        try:
            balance.order(self._edge(), journey.group, journey.target)
        except UnderstudyError as error:
            self.say(
                f"{error}; going on: the old host's pool turns unhealthy by itself, and the order is tried again later"
            )
        return Outcome()

    def settle(self, journey: Journey) -> Outcome:
        if self._gone():
            return Outcome("unreachable")
        try:
            reply = self.source.ask("guard", {"told": {journey.group: self._record(journey)}}, 60)
        except Unreachable:
            return Outcome("unreachable")
        stood = reply["groups"][journey.group].get("stood") == journey.id
        return Outcome("done" if stood else "served")

    def _gone(self) -> bool:
        """A source that did not answer when it was fenced gets a second to do so, not a connection's whole patience."""
        return self.silent and not self.source.reached(1)

    def weigh(self, journey: Journey) -> Outcome:
        return Outcome() if journey.mode == "forced" else self.settle(journey)

    def lift(self, journey: Journey) -> Outcome:
        request: dict[str, Any] = {"told": {journey.group: self._record(journey)}}
        if journey.settled or journey.mode == "forced":
            request["leave"] = {journey.group: {"promoted": journey.id}}
        try:
            facts = self.target.ask("guard", request, 120)["groups"][journey.group]
        except HostsideError as error:
            if error.kind == "not-ready":
                return Outcome("expired")
            raise
        return Outcome() if facts["action"] == "run" else Outcome("expired")

    def probe(self, journey: Journey) -> Outcome:
        if self.edge:
            if journey.balanced:
                balance.order(self.edge, journey.group, journey.target)
            through.probed(self.group.probes, PROBE_WAIT)
        return Outcome()

    def retire(self, journey: Journey) -> Outcome:
        try:
            if self._gone():
                raise Unreachable(journey.source)
            reply = self.source.ask(
                "demote",
                {"group": journey.group, "record": self._record(journey), "lock_wait": 120},
                COPY_LIMIT,
            )
            self.rows["demote"] = reply
        except Unreachable:
            self.say(
                f"{journey.source} does not answer: it stands by when it comes back, its guard sees to that"
            )
        return Outcome()

    # --- the ways back

    def withdraw(self, journey: Journey) -> Outcome:
        try:
            self.target.ask("demote", {"group": journey.group, "save": False}, 180)
        except Unreachable:
            self.say(f"{journey.target} does not answer: its grant ends by itself")
        return Outcome()

    def thaw(self, journey: Journey) -> Outcome:
        try:
            self.source.ask("thaw", {"group": journey.group, "id": journey.id}, 400)
        except Unreachable:
            self.say(f"{journey.source} does not answer: it thaws itself")
        self.until = 0.0
        return Outcome()

    def readmit(self, journey: Journey) -> Outcome:
        edge = self._edge()
        if flip.read(edge, [journey.group])[journey.group].ownership.owner == journey.source:
            through.admit(edge, self.source, self.say)
        return Outcome()

    def give_back(self, journey: Journey) -> Outcome:
        back = Ownership(journey.group, journey.source, journey.epoch + 2, f"{journey.id}-r")
        if not self.edge:
            return self._given_back(journey, back)
        edge = self._edge()
        held = flip.read(edge, [journey.group])
        now = held[journey.group].ownership
        if now.nonce == back.nonce:
            return self._given_back(journey, now)
        if now.nonce != journey.id:
            return Outcome("lost")
        try:
            flip.flip(edge, held, journey.source, {journey.group: ""}, nonce=f"{journey.id}-r")
        except flip.FlipLost:
            return Outcome("lost")
        except flip.FlipUnknown:
            pass
        return Outcome("unknown")

    def _given_back(self, journey: Journey, now: Ownership) -> Outcome:
        if self.edge and journey.balanced:
            balance.order(self.edge, journey.group, journey.source)
        leave = {journey.group: {"ran": journey.epoch}}
        self.source.ask("guard", {"told": {journey.group: record.text(now)}, "leave": leave}, 300)
        return Outcome("won")

    def _edge(self) -> Edge:
        assert self.edge is not None
        return self.edge

    def _assert_unmoved(self, journey: Journey) -> None:
        now = flip.read(self._edge(), [journey.group])[journey.group]
        if now.claim_id != journey.claim:
            raise UnderstudyError(
                f"{journey.group} has moved meanwhile: {now.ownership.owner} owns it, epoch {now.ownership.epoch}"
            )

    def _record(self, journey: Journey) -> str:
        return record.text(
            Ownership(journey.group, journey.target, journey.epoch + 1, journey.id, journey.base)
        )


def _order(name: str) -> tuple[int, int]:
    _, epoch, seq = name.rsplit(":", 2)
    return int(epoch), int(seq)


_STEPS: Mapping[Step, Callable[[Performer, Journey], Outcome]] = {
    "admit": Performer.admit, "copy": Performer.copy, "freeze": Performer.freeze, "base": Performer.base,
    "stop": Performer.stop, "order": Performer.order, "fence": Performer.fence, "refresh": Performer.refresh, "promote": Performer.promote,
    "flip": Performer.flip, "cancel": Performer.cancel, "read": Performer.read, "point": Performer.point_names,
    "settle": Performer.settle, "weigh": Performer.weigh, "lift": Performer.lift, "probe": Performer.probe,
    "retire": Performer.retire, "withdraw": Performer.withdraw, "thaw": Performer.thaw, "readmit": Performer.readmit,
    "return": Performer.give_back,
}  # fmt: skip
