"""A canary on the owner's real zone: proves the conditional batch, and measures how fast changes arrive.

Only names that begin with ``understudy-canary`` or belong to the group ``canary`` are touched, and all are removed again.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..agent.owner import doh
from ..agent.owner import record as ownership
from ..agent.owner.record import Malformed, Ownership
from ..cloudflare import CloudflareError
from ..errors import UnderstudyError
from . import public, records
from .edge import Edge
from .records import TARGET, Batch, Record

GROUP = "canary"
PATIENCE = 300.0
"""Seconds: what Cloudflare's documentation promises a change to take at most."""
EVERY = 0.25
NO_CONNECTOR = 530


@dataclass
class Measured:
    """What was found. Seconds by resolver and round; ``route`` by round."""

    texts: dict[str, list[float]] = field(default_factory=dict)
    route: list[float] = field(default_factory=list)
    stale_batch: str = ""
    writes: int = 0

    def lines(self) -> Iterable[str]:
        """One line a fact."""
        yield f"a batch with a vanished record: {self.stale_batch}"
        for resolver, seconds in self.texts.items():
            yield f"ownership seen through {resolver}: {_spread(seconds)}"
        if self.route:
            yield f"a public name led elsewhere: {_spread(self.route)}"
        yield f"{self.writes} writes, all taken back"


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"{ordered[0]:.1f} to {ordered[-1]:.1f} s, median {statistics.median(ordered):.1f} s, {len(ordered)} rounds"


@dataclass(frozen=True)
class Canary:
    """The edge, and how the public side is asked: resolvers, their authority ("": the system's), and the front."""

    edge: Edge
    resolvers: tuple[str, ...]
    cacert: str = ""
    front_url: str = ""
    say: Callable[[str], None] = lambda line: None

    def run(self, rounds: int = 3) -> Measured:
        """Measure; the canary is taken away also when something fails."""
        measured = Measured()
        account, zone = self.edge.account, self.edge.zone
        account.verify()
        account.check_permissions(zone, writing=True)
        self._sweep()
        try:
            self._texts(measured, rounds)
            self._routes(measured, rounds)
        finally:
            self._sweep()
        measured.writes = account.writes
        return measured

    def _sweep(self) -> None:
        """Take away what a killed run left."""
        account, zone, stack = self.edge.account, self.edge.zone, self.edge.world.stack
        left = [r.id for r in account.records(zone) if records.kind_of(r, stack) == "canary"]
        if left:
            account.batch(zone, Batch(deletes=tuple(left)))
        for tunnel in account.tunnels(zone):
            if tunnel.name == self._tunnel_name():
                account.delete_tunnel(zone, tunnel.id)

    def _tunnel_name(self) -> str:
        return f"understudy-canary-{self.edge.world.stack}"

    def _texts(self, measured: Measured, rounds: int) -> None:
        account, zone = self.edge.account, self.edge.zone
        claim, owner = self._pair(0)
        made = account.batch(zone, Batch(posts=(claim, owner)))
        claim_id, owner_id = made[claim.name][0], made[owner.name][0]
        gone = claim_id
        for epoch in range(1, rounds + 1):
            claim, owner = self._pair(epoch)
            patches = ((owner_id, {"content": owner.content}),)
            made = account.batch(zone, Batch((claim_id,), patches, (claim,)))
            began, claim_id = time.monotonic(), made[claim.name][0]
            for resolver, seconds in self._seen(epoch, began).items():
                measured.texts.setdefault(resolver, []).append(seconds)
        measured.stale_batch = self._stale(gone, owner_id)

    def _pair(self, epoch: int) -> tuple[Record, Record]:
        domain, stack = self.edge.world.domain, self.edge.world.stack
        text = ownership.text(Ownership(GROUP, "canary", epoch + 1, secrets.token_hex(8)))
        names = (ownership.claim_name(GROUP, domain), ownership.owner_name(GROUP, domain))
        one, two = (records.text_record(name, text, "canary", GROUP, stack) for name in names)
        return one, two

    def _seen(self, epoch: int, began: float) -> dict[str, float]:
        """Seconds until each resolver gave this epoch to a name that nobody asked for before."""
        seen: dict[str, float] = {}
        while len(seen) < len(self.resolvers):
            for resolver in self.resolvers:
                if resolver not in seen and self._epoch(resolver) == epoch + 1:
                    seen[resolver] = time.monotonic() - began
                    self.say(f"round {epoch}: {resolver} after {seen[resolver]:.1f} s")
            self._patience(began, "the resolvers did not all give the new record")
        return seen

    def _epoch(self, resolver: str) -> int:
        name = ownership.owner_name(GROUP, self.edge.world.domain, secrets.token_hex(8))
        try:
            texts = doh.query(resolver, name, self.cacert)
            return max((ownership.parse(text).epoch for text in texts), default=0)
        except (doh.NoAnswer, Malformed):
            return 0

    def _stale(self, gone: str, owner_id: str) -> str:
        """Send a batch whose claim has vanished: it has to fail, and to change nothing."""
        account, zone = self.edge.account, self.edge.zone
        before = {r.id: r.content for r in account.records(zone)}
        claim, owner = self._pair(99)
        try:
            account.batch(zone, Batch((gone,), ((owner_id, {"content": owner.content}),), (claim,)))
        except CloudflareError as error:
            if {r.id: r.content for r in account.records(zone)} == before:
                return f"refused whole (code {error.code})"
        raise UnderstudyError(
            "a batch that deletes a vanished record changed something: a flip would not be safe in this zone, do not use "
            "switchover, and tell the authors"
        )

    def _routes(self, measured: Measured, rounds: int) -> None:
        """Lead a name of the canary's to a host and to nowhere, in turn."""
        hosts = [one for name, one in self.edge.tunnels().items() if one.status in ("healthy", "degraded")]
        if not hosts:
            self.say("no tunnel is connected: how fast a name is led elsewhere was not measured")
            return
        account, zone, stack = self.edge.account, self.edge.zone, self.edge.world.stack
        name = f"understudy-canary-{secrets.token_hex(4)}.{self.edge.world.domain}"
        nowhere = account.create_tunnel(zone, self._tunnel_name())
        mark = records.comment(stack, "canary", "route")
        route = Record("CNAME", name, f"{hosts[0].id}{TARGET}", True, records.AUTOMATIC, mark)
        key = account.batch(zone, Batch(posts=(route,)))[name][0]
        self._led(name, time.monotonic(), lambda status: status not in (0, NO_CONNECTOR))
        for number in range(rounds):
            for tunnel in (nowhere.id, hosts[0].id):
                account.batch(zone, Batch(patches=((key, {"content": f"{tunnel}{TARGET}"}),)))
                began, led = time.monotonic(), tunnel != nowhere.id
                seconds = self._led(name, began, lambda s, led=led: s > 0 and (s != NO_CONNECTOR) == led)  # type: ignore[misc]
                measured.route.append(seconds)
                self.say(f"round {number + 1}: {name} after {seconds:.1f} s")

    def _led(self, name: str, began: float, right: Callable[[int], bool]) -> float:
        while not right(public.status(name, self.front_url)):
            self._patience(began, f"{name} was not led elsewhere")
        return time.monotonic() - began

    @staticmethod
    def _patience(began: float, what: str) -> None:
        if time.monotonic() - began > PATIENCE:
            raise UnderstudyError(f"{what} within {PATIENCE:.0f} s")
        time.sleep(EVERY)
