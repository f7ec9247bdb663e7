"""Two hosts, a zone, an edge, resolvers, a repository and operators, small enough to be explored whole.

The guard's table (agent/owner/decide.py) and the steps of a switchover (understudy/switchover/machine.py) are the real
ones; what surrounds them is as protocol.md promises it. Time goes in ticks of a minute, or shorter ones: a freeze
lasts three, a batch needs one that is left, the edge follows a batch before the tick ends. Writes are numbers; data is the set of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.model.explore import Broken, Event
from understudy.agent.owner.decide import Verdict, View, decide
from understudy.agent.owner.record import Ownership
from understudy.switchover import machine
from understudy.switchover.machine import Journey, Outcome

__all__ = ["Faults", "Host", "Operator", "Rules", "World", "begin", "good", "steps"]

FOREVER = 99
GROUP = "critical"
Data = int
"""A set of writes: bit N for write N."""


class Faults(NamedTuple):
    """How many of each may still happen. ``skew``: a host's clock gains or loses a tick on the others'."""

    crash: int = 0
    cut: int = 0
    pause: int = 0
    lost: int = 0
    kill: int = 0
    late: int = 0
    stale: int = 0
    skew: int = 0


NO_FAULTS = Faults()


class Grant(NamedTuple):
    epoch: int
    nonce: str
    left: int


class Freeze(NamedTuple):
    id: str
    left: int


class Host(NamedTuple):
    """``may``: "", "named", "granted", as agent/may.py. ``ran``, ``promoted`` as agent/owner/state.py."""

    name: str
    up: bool = True
    cut: bool = False
    paused: bool = False
    waited: bool = True
    epoch: int = 0
    owner: str = ""
    ran: int = 0
    promoted: str = ""
    may: str = ""
    procs: bool = False
    fence: bool = True
    freeze: Freeze | None = None
    grant: Grant | None = None
    data: Data = 0
    aside: Data = 0

    @property
    def acts(self) -> bool:
        return self.up and not self.paused

    @property
    def serves(self) -> bool:
        """Whether the applications take a write from the LAN."""
        return self.acts and self.procs and not self.fence and self.freeze is None


class Snapshot(NamedTuple):
    host: str
    epoch: int
    data: Data


class Operator(NamedTuple):
    """``journey`` is what its journal says; ``left`` what it knows of the lease; ``down``: killed, may be started again."""

    name: str
    target: str
    forced: bool
    journey: Journey | None = None
    left: int = 0
    down: bool = False


class Flight(NamedTuple):
    """A batch on its way: it is conditional on ``claim``."""

    claim: str
    new: Ownership
    operator: str


class World(NamedTuple):
    """``must``: writes acknowledged through the edge that no planned step may lose."""

    hosts: tuple[Host, Host]
    history: tuple[Ownership, ...]
    routed: str
    fenced: frozenset[str] = frozenset()
    flights: tuple[Flight, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    operators: tuple[Operator, ...] = ()
    faults: Faults = Faults()
    writes: int = 0
    lan: int = 0
    number: int = 0
    must: Data = 0
    acknowledged: Data = 0

    @property
    def claim(self) -> Ownership:
        return self.history[-1]

    def host(self, name: str) -> Host:
        return self.hosts[0] if self.hosts[0].name == name else self.hosts[1]

    def put(self, host: Host) -> World:
        first, second = self.hosts
        return self._replace(hosts=(host, second) if first.name == host.name else (first, host))

    def tell(self, operator: Operator) -> World:
        return self._replace(
            operators=tuple(operator if one.name == operator.name else one for one in self.operators)
        )

    def spend(self, kind: str) -> World:
        return self._replace(faults=self.faults._replace(**{kind: getattr(self.faults, kind) - 1}))


@dataclass(frozen=True)
class Rules:
    """What can be broken on purpose, to see that the model notices.

    ``prompt`` False: a batch may arrive after the freeze; then the source may acknowledge until the edge has followed,
    and what is promised is that none of it is lost.
    """

    decide: Callable[[View, Ownership | None], Verdict] = decide
    next_step: Callable[[Journey, float], machine.Step | None] = machine.next_step
    after: Callable[[Journey, machine.Step, Outcome], Journey] = machine.after
    prompt: bool = True
    conditional: bool = True
    fences: bool = True
    named_freezes: bool = True
    grants_end: bool = True
    keeps_aside: bool = True
    forgets_epochs: bool = False
    forgets_freezes: bool = False
    renews_only_what_stands: bool = True
    lease: int = 3

    @property
    def tick(self) -> float:
        """Seconds."""
        return machine.LEASE / self.lease


def begin(
    *operators: tuple[str, str, bool], faults: Faults = NO_FAULTS, writes: int = 2, lan: int = 0
) -> World:
    """A serves, epoch 1; ``operators``: (name, target, forced)."""
    first = Ownership(GROUP, "A", 1, "start")
    a = Host("A", epoch=1, owner="A", ran=1, may="named", procs=True, fence=False)
    b = Host("B", epoch=1, owner="A")
    people = tuple(Operator(*one) for one in operators)
    return World((a, b), (first,), "A", operators=people, faults=faults, writes=writes, lan=lan)


def good(world: World) -> bool:
    """Everybody is through, and somebody takes writes through the edge."""
    through = all(one.journey is not None and one.journey.ended for one in world.operators)
    return through and not world.flights and edge_serves(world) is not None


def edge_serves(world: World) -> Host | None:
    """The host that a write through the edge reaches and that takes it."""
    host = world.host(world.routed)
    reached = not host.cut and host.name not in world.fenced
    return host if reached and host.serves else None


def steps(rules: Rules) -> Callable[[World], Iterator[Event[World]]]:
    """Everything that can happen next."""

    def found(world: World) -> Iterator[Event[World]]:
        yield from _writes(rules, world)
        for host in world.hosts:
            yield from _host(rules, world, host)
        yield from _zone(rules, world)
        yield from _tick(rules, world)
        for operator in world.operators:
            yield from _operator(rules, world, operator)

    return found


# --- writers


def _writes(rules: Rules, world: World) -> Iterator[Event[World]]:
    host = edge_serves(world)
    if host and world.writes:
        if world.claim.owner != host.name and rules.prompt:
            raise Broken(
                f"{host.name} acknowledges a write through the edge; {world.claim.owner} owns the group"
            )
        if world.must & ~host.data:
            raise Broken(f"{host.name} serves through the edge without writes {world.must & ~host.data:b}")
        one = 1 << world.number
        done = world.put(host._replace(data=host.data | one))
        yield Event(
            f"a write reaches {host.name} through the edge",
            done._replace(number=world.number + 1, writes=world.writes - 1, must=world.must | one, acknowledged=world.acknowledged | one),
        )  # fmt: skip
    for host in world.hosts:
        if host.serves and world.lan:
            one = 1 << world.number
            done = world.put(host._replace(data=host.data | one))
            yield Event(
                f"a write reaches {host.name} from its LAN",
                done._replace(
                    number=world.number + 1, lan=world.lan - 1, acknowledged=world.acknowledged | one
                ),
                fault=True,
            )


def checked(world: World) -> World:
    """Every acknowledged write is somewhere."""
    kept = world.hosts[0].data | world.hosts[0].aside | world.hosts[1].data | world.hosts[1].aside
    for snapshot in world.snapshots:
        kept |= snapshot.data
    if world.acknowledged & ~kept:
        raise Broken(f"writes {world.acknowledged & ~kept:b} are nowhere any more")
    return world


# --- hosts


def _host(rules: Rules, world: World, host: Host) -> Iterator[Event[World]]:
    name = host.name
    if host.acts:
        yield from _looks(rules, world, host)
        if host.freeze and host.freeze.left <= 0 and host.may:
            yield Event(f"{name} thaws itself", world.put(host._replace(freeze=None, procs=True)))
        if not host.waited:
            yield Event(f"{name} has waited after its boot", world.put(host._replace(waited=True)))
        newest = Snapshot(name, host.epoch, host.data)
        if host.procs and not host.fence and newest not in world.snapshots and not host.cut:
            done = world._replace(snapshots=(*world.snapshots, newest))
            yield Event(f"{name} ticks", done, fault=True)
    for words, wrong, kind in _troubles(rules, host):
        if getattr(world.faults, kind):
            yield Event(f"{name} {words}", world.put(wrong).spend(kind), fault=True)
    if not host.up:
        yield Event(f"{name} is switched on", world.put(host._replace(up=True)))
    if host.cut:
        yield Event(f"{name} is connected again", world.put(host._replace(cut=False)))
    if host.paused:
        yield Event(f"{name} goes on", world.put(host._replace(paused=False)))


def _troubles(rules: Rules, host: Host) -> Iterator[tuple[str, Host, str]]:
    """(what happens, the host after it, the kind of fault)."""
    if host.up:
        # Nobody can tell how long it was off: the freeze begins anew.
        freeze = host.freeze._replace(left=rules.lease) if host.freeze and not rules.forgets_freezes else None
        off = host._replace(up=False, paused=False, procs=False, may="", fence=True, freeze=freeze)
        off = off._replace(grant=None, waited=False)
        yield "loses power", off._replace(epoch=0, owner="") if rules.forgets_epochs else off, "crash"
    if not host.cut:
        yield "is cut off", host._replace(cut=True), "cut"
    if host.acts:
        yield "is paused", host._replace(paused=True), "pause"
    for words, minutes in (("gains a tick", 1), ("loses a tick", -1)):
        if host.freeze or host.grant:
            yield words, _older(host, minutes), "skew"


def _looks(rules: Rules, world: World, host: Host) -> Iterator[Event[World]]:
    said: list[tuple[str, Ownership | None, bool]] = [("nothing", None, not host.cut)]
    if not host.cut:
        said += [(f"epoch {world.claim.epoch}", world.claim, False)]
        old = world.history[:-1] if world.faults.stale else ()
        said += [(f"epoch {one.epoch} of before", one, True) for one in old]
    for words, answer, fault in said:
        after = guard(rules, host, answer)
        if after != host:
            done = lifted(rules, world, host, after)
            done = done.spend("stale") if answer and answer != world.claim else done
            yield Event(f"the guard of {host.name} hears {words}", done, fault)


def lifted(rules: Rules, world: World, host: Host, after: Host) -> World:
    """The world once a host has changed by its guard's word; an owner must have every write that it must have."""
    opened = after.serves and not host.serves
    if opened and world.claim.owner == host.name and world.must & ~after.data:
        raise Broken(f"{host.name} takes over without writes {world.must & ~after.data:b}")
    return checked(world.put(after))


_GUARDED: dict[tuple[object, ...], Host] = {}


def guard(rules: Rules, host: Host, answer: Ownership | None) -> Host:
    """One look, as agent/guard.py acts on the verdict; the same in, the same out."""
    key = (rules.decide, rules.grants_end, host, answer)
    found = _GUARDED.get(key)
    if found is None:
        found = _GUARDED[key] = _guard(rules, host, answer)
    return found


def _guard(rules: Rules, host: Host, answer: Ownership | None) -> Host:
    grant = host.grant if host.grant and (host.grant.left > 0 or not rules.grants_end) else None
    view = View(
        host.name, "A", host.epoch, host.owner, ran=host.ran, running=host.may == "named", up=999.0 if host.waited else 0.0,
        grant=grant.epoch if grant else 0, nonce=grant.nonce if grant else "",
    )  # fmt: skip
    verdict = rules.decide(view, answer)
    if verdict.learn and answer:
        host = host._replace(epoch=answer.epoch, owner=answer.owner)
    if verdict.action == "run":
        host = host._replace(may="named", fence=False, grant=None, ran=max(host.ran, host.epoch))
        if host.freeze and host.freeze.left > 0:
            return host
        return host._replace(procs=True, freeze=None)
    if verdict.action == "go-on":
        return host
    if verdict.action == "fenced" or (not host.may and verdict.action != "stop"):
        return host._replace(fence=True, procs=host.procs and verdict.action == "fenced")
    return host._replace(may="", fence=True, procs=False, freeze=None, grant=None)


# --- the zone, the edge and time


def _zone(rules: Rules, world: World) -> Iterator[Event[World]]:
    if world.routed != world.claim.owner:
        yield Event("the edge follows", world._replace(routed=world.claim.owner))
    for flight in world.flights:
        yield Event(f"{flight.operator}'s batch arrives", arrive(rules, world, flight)[0])


def arrive(rules: Rules, world: World, flight: Flight) -> tuple[World, bool]:
    """The world after a batch was tried, and whether it was done."""
    rest = tuple(one for one in world.flights if one != flight)
    world = world._replace(flights=rest)
    if rules.conditional and flight.claim != world.claim.nonce:
        return world, False
    return world._replace(history=(*world.history, flight.new)), True


def _tick(rules: Rules, world: World) -> Iterator[Event[World]]:
    """A minute passes: the edge has followed; a batch that has not arrived never will, unless it may be late."""
    late = world.flights if world.faults.late else ()
    after = world._replace(routed=world.claim.owner, flights=late, hosts=tuple(map(_older, world.hosts)))  # type: ignore[arg-type]
    people = tuple(one._replace(left=max(0, one.left - 1)) for one in world.operators)
    after = after._replace(operators=people)
    if after != world:
        spent = after.spend("late") if world.flights and late else after
        yield Event("a minute passes", spent)
    if late:
        yield Event("a minute passes and the batch is gone", after._replace(flights=()))


def _older(host: Host, minutes: int = 1) -> Host:
    """Its own clock has gone on so much: leases that hold have less left."""
    freeze, grant = host.freeze, host.grant
    if freeze and freeze.left > 0:
        host = host._replace(freeze=freeze._replace(left=freeze.left - minutes))
    if grant and 0 < grant.left < FOREVER:
        host = host._replace(grant=grant._replace(left=grant.left - minutes))
    return host


# --- operators: the machine's steps on this world


def _operator(rules: Rules, world: World, operator: Operator) -> Iterator[Event[World]]:
    name, journey = operator.name, operator.journey
    if journey is None:
        yield Event(f"{name} begins", world.tell(operator._replace(journey=_journey(world, operator))))
        return
    if operator.down:
        again = operator._replace(down=False, left=0, journey=machine.resumed(journey))
        yield Event(f"{name} resumes", world.tell(again))
        return
    step = rules.next_step(journey, (operator.left + 0.5) * rules.tick if operator.left else 0.0)
    if step is None:
        return
    ready = machine.before(journey, step)
    holding = world.tell(operator._replace(journey=ready))
    if world.faults.kill:
        yield Event(
            f"{name} is killed before {step}",
            holding.tell(operator._replace(journey=ready, down=True)).spend("kill"),
            True,
        )
    for words, done, outcome in _PERFORM[step](rules, holding, ready, operator):
        yield from _told(rules, done, operator, ready, step, words, outcome)


def _told(
    rules: Rules,
    done: World,
    operator: Operator,
    ready: Journey,
    step: machine.Step,
    words: str,
    outcome: Outcome | None,
) -> Iterator[Event[World]]:
    """The operator learns an outcome, or is killed before it can write it down. None: the host cannot be reached."""
    label = f"{operator.name}: {step}{words}"
    present = next(one for one in done.operators if one.name == operator.name)
    if outcome is not None:
        after = rules.after(ready, step, outcome)
        yield Event(label, done.tell(present._replace(journey=after)))
        if done.faults.kill:
            yield Event(
                f"{label}, and it is killed",
                done.tell(present._replace(journey=ready, down=True)).spend("kill"),
                True,
            )
        return
    for way in _ways_out(ready):
        yield Event(f"{label}; {operator.name} goes another way", done.tell(present._replace(journey=way)))


def _ways_out(journey: Journey) -> Iterator[Journey]:
    """What a person may do when a host does not answer: take it back, or go on by force."""
    if journey.flip == "":
        if not journey.back:
            yield machine.abandon(journey)
        if journey.mode == "planned" and not journey.back:
            yield machine.force(journey)
    elif journey.flip == "won" and journey.mode == "planned" and journey.at != "return":
        yield machine.force(journey)


def _journey(world: World, operator: Operator) -> Journey:
    owner = world.claim
    start = Journey(operator.name, GROUP, owner.owner, operator.target, owner.epoch, claim=owner.nonce)
    if owner.owner == operator.target:
        return machine.replace(start, ended="lost", why="it is there already")
    return machine.replace(start, mode="forced") if operator.forced else start


Performed = Iterator[tuple[str, World, Outcome | None]]


def _reach(world: World, name: str) -> Host | None:
    host = world.host(name)
    return host if host.acts and not host.cut else None


def _nothing(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    yield "", world, Outcome()


def _freeze(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    host = _reach(world, journey.source)
    if not host or host.may != "named":
        yield "", world, None
    elif host.freeze and host.freeze.id != journey.id and rules.named_freezes:
        yield ": another has frozen it", world, None
    else:
        done = world.put(host._replace(freeze=Freeze(journey.id, rules.lease), procs=True))
        yield "", done.tell(operator._replace(left=rules.lease, journey=journey)), Outcome()


def _stop(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    """The freeze again, with the database servers: only while it has stood since the first."""
    host = _reach(world, journey.source)
    frozen = host.freeze if host else None
    if (
        not host
        or not frozen
        or (rules.renews_only_what_stands and (frozen.id != journey.id or frozen.left <= 0))
    ):
        done = (
            world.put(host._replace(freeze=Freeze(journey.id, rules.lease)))
            if host and not rules.renews_only_what_stands
            else world
        )
        yield "", done, None if rules.renews_only_what_stands or not host else Outcome()
        return
    done = world.put(host._replace(freeze=Freeze(journey.id, rules.lease)))
    yield "", done.tell(operator._replace(left=rules.lease, journey=journey)), Outcome()


def _base(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    host = _reach(world, journey.source)
    if not host or host.freeze is None or (rules.named_freezes and host.freeze.id != journey.id):
        yield "", world, None
        return
    snapshot = Snapshot(host.name, host.epoch, host.data)
    known = world.snapshots if snapshot in world.snapshots else (*world.snapshots, snapshot)
    yield "", world._replace(snapshots=known), Outcome(base=str(known.index(snapshot)))


def _fence(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    yield "", world._replace(fenced=world.fenced | {journey.source}) if rules.fences else world, Outcome()


def _admit(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    if world.claim.nonce != journey.claim:
        yield ": another has moved the group", world, None
    else:
        yield from _admitted(world, journey.target)


def _readmit(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    # A source that has lost the group meanwhile stays outside until it is a target.
    if world.claim.owner != journey.source:
        yield "", world, Outcome()
    else:
        yield from _admitted(world, journey.source)


def _admitted(world: World, name: str) -> Performed:
    if name not in world.fenced:
        yield "", world, Outcome()
    elif _reach(world, name):
        yield "", world._replace(fenced=world.fenced - {name}), Outcome()
    else:
        yield "", world, None


def _refresh(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    if journey.base:
        yield "", world, Outcome()
        return
    owned = {one.epoch: one.owner for one in world.history}
    ours = [n for n, one in enumerate(world.snapshots) if owned.get(one.epoch) == one.host]
    newest = max(ours, key=lambda n: (world.snapshots[n].epoch, n), default=-1)
    yield "", world, Outcome(base=str(newest))


def _promote(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    host = _reach(world, journey.target)
    other = (
        host
        and host.grant
        and host.grant.left > 0
        and host.grant.nonce != journey.id
        and host.grant.epoch > host.epoch
    )
    if not host or host.may == "named" or other:
        yield "", world, None
        return
    number = int(journey.base)
    data = world.snapshots[number].data if number >= 0 else 0
    left = FOREVER if journey.mode == "forced" or journey.settled else operator.left
    aside = host.aside | host.data if rules.keeps_aside else host.aside
    host = host._replace(
        data=data,
        aside=aside,
        procs=True,
        fence=True,
        may="granted",
        grant=Grant(journey.epoch + 1, journey.id, left),
        promoted=journey.id,
    )
    yield "", checked(world.put(host)), Outcome()


def _flip(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    new = Ownership(GROUP, journey.target, journey.epoch + 1, journey.id, journey.base)
    yield from _send(rules, world, Flight(journey.claim, new, operator.name), journey, "won")


def _send(rules: Rules, world: World, flight: Flight, journey: Journey, won: str) -> Performed:
    done, did = arrive(rules, world, flight)
    if did and journey.mode == "forced" and won == "won":
        done = done._replace(must=done.must & _announced(world, journey))
    yield "", done, Outcome(won if did else "lost")
    if world.faults.lost:
        yield "; the answer is lost", done.spend("lost"), Outcome("unknown")
        flying = world._replace(flights=(*world.flights, flight)).spend("lost")
        yield "; it is on its way", flying, Outcome("unknown")


def _announced(world: World, journey: Journey) -> Data:
    """What a forced switchover has said it would keep."""
    number = int(journey.base)
    return world.snapshots[number].data if number >= 0 else 0


def _read(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    nonces = [one.nonce for one in world.history]
    if journey.id in nonces and nonces[-1] in (journey.id, f"{journey.id}-r"):
        done = world
        if journey.mode == "forced" and nonces[-1] == journey.id:
            done = world._replace(must=world.must & _announced(world, journey))
        yield ": it is there", done, Outcome("won")
    elif nonces[-1] == f"{journey.id}-c":
        yield ": it is cancelled", world, Outcome("cancelled")
    elif nonces[-1] == journey.claim:
        yield ": not there", world, Outcome("open")
    else:
        yield ": another's", world, Outcome("lost")


def _cancel(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    new = Ownership(GROUP, journey.source, journey.epoch + 1, f"{journey.id}-c")
    for words, done, outcome in _send(
        rules, world, Flight(journey.claim, new, operator.name), journey, "cancelled"
    ):
        # A lost cancel says nothing yet about our batch.
        yield words, done, Outcome("unknown") if outcome and outcome.word == "lost" else outcome


def _withdraw(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    host = _reach(world, journey.target)
    if host and host.grant and host.grant.nonce == journey.id and host.may == "granted":
        world = world.put(host._replace(grant=None, may="", procs=False, fence=True))
    yield "", world, Outcome()


def _thaw(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    host = _reach(world, journey.source)
    mine = host and host.freeze and (host.freeze.id == journey.id or not rules.named_freezes)
    if host and mine:
        world = world.put(host._replace(freeze=None, procs=bool(host.may)))
    yield "", world, Outcome()


def _told_host(rules: Rules, world: World, host: Host, owner: Ownership, leave: bool) -> World:
    """The record told over SSH, with leave to run."""
    before = host
    if leave and host.may != "named" and owner.epoch >= host.epoch:
        host = host._replace(grant=Grant(owner.epoch, owner.nonce, FOREVER))
    return lifted(rules, world, before, guard(rules, host, owner))


def _settle(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    host, owner = _reach(world, journey.source), _ours(world, journey)
    if host is None:
        yield ": no answer", world, Outcome("unreachable")
        return
    stood = host.freeze is not None and host.freeze.id == journey.id
    yield "", _told_host(rules, world, host, owner, False), Outcome("done" if stood else "served")


def _ours(world: World, journey: Journey) -> Ownership:
    return next(one for one in reversed(world.history) if one.nonce in (journey.id, world.claim.nonce))


def _weigh(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    if journey.mode == "forced":
        yield "", world, Outcome()
        return
    for words, done, outcome in _settle(rules, world, journey, operator):
        yield words, done, None if outcome and outcome.word == "unreachable" else outcome


def _lift(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    host = _reach(world, journey.target)
    if host is None:
        yield "", world, None
        return
    owner = _ours(world, journey)
    if owner.nonce != journey.id:
        yield ": it has moved on", world, Outcome()
        return
    free = journey.settled or journey.mode == "forced"
    done = _told_host(rules, world, host, owner, free and host.promoted == journey.id)
    yield "", done, Outcome() if done.host(host.name).may == "named" else Outcome("expired")


def _return(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    back = f"{journey.id}-r"
    if world.claim.nonce == back:
        host = _reach(world, journey.source)
        if host is None:
            yield "", world, None
            return
        yield "", _told_host(rules, world, host, world.claim, host.ran == journey.epoch), Outcome("won")
    elif world.claim.nonce != journey.id:
        yield ": another has moved it", world, Outcome("lost")
    else:
        new = Ownership(GROUP, journey.source, world.claim.epoch + 1, back)
        for words, done, _ in _send(
            rules, world, Flight(world.claim.nonce, new, operator.name), journey, "returned"
        ):
            yield words, done, Outcome("unknown")


def _retire(rules: Rules, world: World, journey: Journey, operator: Operator) -> Performed:
    host = _reach(world, journey.source)
    if host and host.owner not in ("", host.name) and not host.may:
        aside = host.aside | host.data if rules.keeps_aside else host.aside
        world = checked(world.put(host._replace(aside=aside, data=0)))
    yield "", world, Outcome()


_PERFORM: dict[str, Callable[[Rules, World, Journey, Operator], Performed]] = {
    "copy": _nothing, "freeze": _freeze, "base": _base, "stop": _stop, "fence": _fence, "refresh": _refresh,
    "promote": _promote, "flip": _flip, "settle": _settle, "lift": _lift, "probe": _nothing, "retire": _retire,
    "read": _read, "cancel": _cancel, "withdraw": _withdraw, "thaw": _thaw, "weigh": _weigh, "return": _return,
    "admit": _admit, "readmit": _readmit,
}  # fmt: skip
