"""`replica up`: everything a replica needs, made or completed. Looks first, so that it may be killed and run again anywhere."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BadInput, Refused, UnderstudyError
from ..hetzner import Hetzner, HetznerError, NoCapacity, Taken, Unsure
from . import labels as labelling
from . import login, rotation, userdata
from .choice import candidates
from .identity import blob, known_hosts_line, mark, md5, new_key
from .labels import FRESH, READY
from .login import Door
from .model import Offer, Order, Rule, Server, Wall
from .price import Cost, cost
from .wish import Wish

SSH_SECONDS = 600.0
CLOUD_INIT_SECONDS = 900.0
Heard = Callable[[str], None]


@dataclass
class Phases:
    """How long each part took, in seconds, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begin, 2)


@dataclass(frozen=True)
class Request:
    """One `replica up`. ``public_keys`` are texts; ``pins`` makes the name of the file that will hold the host key."""

    stack: str
    wish: Wish
    public_keys: list[str]
    user: str
    key_file: str
    pins: Callable[[str], Path]
    heard: Heard
    phases: Phases = field(default_factory=Phases)

    @property
    def name(self) -> str:
        return self.wish.name

    @property
    def prefix(self) -> str:
        """What the replica's other objects are called, told apart from other stacks' in the same project."""
        return f"understudy-{self.stack}-{self.name}"

    def labels(self) -> dict[str, str]:
        return labelling.base(self.stack, self.name)


def quote(api: Hetzner, wish: Wish) -> tuple[list[Offer], Cost]:
    """What may be ordered, best first, and what the best costs. Raises BadInput, or Refused above the ceiling."""
    offers, prices = api.offers(), api.prices()
    found = candidates(offers, prices, wish)
    return found, cost(found[0], prices, wish)


def up(api: Hetzner, asked: Request) -> Server:
    """The server, reachable under a pinned host key of its own. Nothing that exists and fits is written again."""
    with asked.phases.timed("look"):
        server, offers = look(api, asked)
    with asked.phases.timed("key and firewall"):
        key = ensure_key(api, asked)
        wall = ensure_wall(api, asked)
    with asked.phases.timed("server"):
        server = ensure_server(api, asked, server, offers, key, wall)
    with asked.phases.timed("protection"):
        server = ensure_protected(api, asked, server, wall)
    with asked.phases.timed("login"):
        host_key = ensure_login(asked, server)
    with asked.phases.timed("identity"):
        server, host_key = ensure_identity(api, asked, server, host_key)
    pin(asked, server, host_key)
    return server


def look(api: Hetzner, asked: Request) -> tuple[Server | None, list[Offer]]:
    """The replica's server, or what may be ordered. Everything that would refuse is found here, before anything is made."""
    server = existing(api, asked)
    our_wall(api, asked)
    return server, [] if server else quote(api, asked.wish)[0]


def existing(api: Hetzner, asked: Request) -> Server | None:
    """The replica's server; Refused for a server of that name that is not ours."""
    found = api.server_named(asked.name)
    if found and not labelling.ours(found.labels, asked.stack, asked.name):
        raise Refused(
            f"the project has a server named {asked.name} that Understudy did not make for the stack {asked.stack}: "
            "it stays untouched; give the replica another name (hetzner.name)"
        )
    return found


def ensure_key(api: Hetzner, asked: Request) -> int:
    """The number of the first login key, found by its fingerprint before anything is made."""
    if not asked.public_keys:
        raise BadInput(
            "no SSH public key was found to let you into the replica: make one with `ssh-keygen -t ed25519`, or name "
            "its file in hetzner.ssh_keys"
        )
    public = asked.public_keys[0]
    found = api.key_like(md5(public))
    if found:
        return found.id
    try:
        return api.add_key(asked.prefix, public, asked.labels()).id
    except (Taken, Unsure):
        found = api.key_like(md5(public))
        if found:
            return found.id
        old = next((key for key in api.keys(labelling.selector(asked.stack, asked.name))), None)
        if old is None:
            raise Refused(
                f"the project has an SSH key named {asked.prefix} with other content: it stays untouched; remove it, "
                "or give the replica another name (hetzner.name)"
            ) from None
        api.delete("ssh_keys", old.id)  # ours, of a login key that you have replaced since
        return api.add_key(asked.prefix, public, asked.labels()).id


def wanted_rules(wish: Wish) -> frozenset[Rule]:
    """SSH and ping from the given networks; everything else is dropped by having any rule at all."""
    sources = frozenset(wish.ssh_from)
    return frozenset({Rule("tcp", "22", sources), Rule("icmp", "", sources)})


def our_wall(api: Hetzner, asked: Request) -> Wall | None:
    """The replica's firewall; Refused for one of that name that is not ours."""
    found = api.wall_named(asked.prefix)
    if found and not labelling.ours(found.labels, asked.stack, asked.name):
        raise Refused(
            f"the project has a firewall named {asked.prefix} that Understudy did not make: it stays untouched; "
            "rename it, or give the replica another name (hetzner.name)"
        )
    return found


def ensure_wall(api: Hetzner, asked: Request) -> Wall:
    rules = wanted_rules(asked.wish)
    found = our_wall(api, asked)
    if found is None:
        try:
            return api.add_wall(asked.prefix, rules, asked.labels())
        except (Taken, Unsure):
            found = our_wall(api, asked)
            if found is None:
                raise
    if found.rules != rules:
        asked.heard("firewall rules")
        api.wait(api.set_rules(found.id, rules), asked.heard)
    return found


def ensure_server(
    api: Hetzner, asked: Request, server: Server | None, offers: list[Offer], key: int, wall: Wall
) -> Server:
    """The server made and started: an existing one is waited for, a half-made one that failed is made anew."""
    if server:
        server = settled(api, asked, server)
    while server is None:
        server = ordered(api, asked, offers or quote(api, asked.wish)[0], key, wall)
    return server


def settled(api: Hetzner, asked: Request, server: Server) -> Server | None:
    """Waits for what is being done to the server; None when it could not be made and was removed again."""
    actions = api.last_actions(server.id)
    try:
        api.wait([number for number, _, status, _ in actions if status == "running"], asked.heard)
    except HetznerError as error:
        asked.heard(str(error))
    failed = [(what, why) for _, what, status, why in api.last_actions(server.id) if status == "error"]
    broken = [pair for pair in failed if pair[0] in ("create_server", "start_server")]
    if server.labels.get("state") == FRESH and broken:
        asked.heard(f"{broken[0][0].replace('_', ' ')} had failed: {broken[0][1]}; it is made anew")
        remove_server(api, server, asked.heard)
        return None
    again = api.server(server.id)
    if again is None:
        return None
    if again.status == "off":
        asked.heard("it is off: switching it on")
        api.wait([api.switch_on(again.id)], asked.heard)
    warn_about_drift(asked, again)
    return again


def warn_about_drift(asked: Request, server: Server) -> None:
    told = userdata.hash_of(asked.name, asked.user, asked.public_keys)
    now = {"spec-hash": labelling.spec_hash(asked.wish), "user-data-hash": told}
    if any(server.labels.get(name) != value for name, value in now.items()):
        asked.heard(
            "it was made from another description than group_data/replica.py has now; it is left as it is "
            f"(`understudy replica down {asked.name}` and up makes it anew)"
        )


def remove_server(api: Hetzner, server: Server, heard: Heard) -> None:
    if server.protected:
        api.wait([api.protect(server.id, False)], heard)
    number = api.delete_server(server.id)
    if number:
        api.wait([number], heard)


def ordered(api: Hetzner, asked: Request, offers: list[Offer], key: int, wall: Wall) -> Server:
    """A new server from the first offer that can be had."""
    full: list[str] = []
    for offer in offers:
        asked.heard(f"ordering {offer.type} in {offer.location}")
        try:
            return placed(api, asked, offer, key, wall)
        except NoCapacity as error:
            full.append(f"{offer.type} in {offer.location}")
            asked.heard(str(error))
        except HetznerError as error:
            server = existing(api, asked)
            if server is None or settled(api, asked, server) is not None:
                raise
            full.append(f"{offer.type} in {offer.location} ({error})")
    raise UnderstudyError(
        f"Hetzner has no capacity now for {', '.join(full)}: name more types or locations in hetzner, or try again later"
    )


def placed(api: Hetzner, asked: Request, offer: Offer, key: int, wall: Wall) -> Server:
    """One order, waited for. A lost answer is looked up by name and by the number of this run."""
    host_key = new_key(asked.name)
    run = secrets.token_hex(8)
    labels = {
        **asked.labels(),
        "state": FRESH,
        "run-id": run,
        "spec-hash": labelling.spec_hash(asked.wish),
        "user-data-hash": userdata.hash_of(asked.name, asked.user, asked.public_keys),
        rotation.CURRENT: mark(blob(host_key.public)),
    }
    text = userdata.user_data(asked.name, asked.user, asked.public_keys, host_key)
    address = ensure_address(api, asked, offer.location)
    order = Order(
        asked.name, offer.type, offer.location, asked.wish.image, text, labels, key, wall.id, address,
        ensure_volume(api, asked, offer.location),
    )  # fmt: skip
    try:
        server, actions = api.order(order)
    except (Taken, Unsure) as error:
        found = existing(api, asked)
        if found is None:
            raise
        asked.heard(f"{error}; it is there")
        server, actions = found, [n for n, _, status, _ in api.last_actions(found.id) if status == "running"]
    api.wait(actions, asked.heard)
    return api.server(server.id) or server


def ensure_address(api: Hetzner, asked: Request, location: str) -> int:
    """The kept address in this location, 0 when none is wished for."""
    if not asked.wish.keep_address:
        return 0
    name = f"{asked.prefix}-{location}"
    found = next(iter(api.addresses(name=name)), None)
    if found is None:
        try:
            return api.add_address(name, location, asked.labels()).id
        except (Taken, Unsure):
            found = next(iter(api.addresses(name=name)), None)
            if found is None:
                raise
    _require_ours(asked, found.labels, f"a primary IP named {name}")
    return found.id


def ensure_volume(api: Hetzner, asked: Request, location: str) -> int:
    """The extra disk in this location, 0 when none is wished for."""
    if not asked.wish.volume:
        return 0
    name = f"{asked.prefix}-{location}"
    found = next(iter(api.volumes(name=name)), None)
    if found is None:
        try:
            made, action = api.add_volume(name, asked.wish.volume, location, asked.labels())
            api.wait([action], asked.heard)
            return made.id
        except (Taken, Unsure):
            found = next(iter(api.volumes(name=name)), None)
            if found is None:
                raise
    _require_ours(asked, found.labels, f"a volume named {name}")
    return found.id


def _require_ours(asked: Request, labels: object, what: str) -> None:
    assert isinstance(labels, dict)
    if not labelling.ours(labels, asked.stack, asked.name):
        raise Refused(
            f"the project has {what} that Understudy did not make: it stays untouched; give the replica another name"
        )


def ensure_protected(api: Hetzner, asked: Request, server: Server, wall: Wall) -> Server:
    """Under its firewall, and protected as wished: read back, never assumed."""
    if wall.id not in server.walls:
        api.wait(api.attach_wall(wall.id, server.id), asked.heard)
    if server.protected != asked.wish.protect:
        api.wait([api.protect(server.id, asked.wish.protect)], asked.heard)
    again = api.server(server.id)
    if again is None or again.protected != asked.wish.protect or wall.id not in again.walls:
        raise UnderstudyError(
            f"Hetzner did not keep protection or firewall of {asked.name}: run the same again"
        )
    return again


def door(asked: Request, server: Server) -> Door:
    return Door(server.ip, user=asked.user, key_file=asked.key_file)


def ensure_login(asked: Request, server: Server) -> bytes:
    """The host key at the door, vouched for by the labels, and cloud-init through with its work."""
    marks = rotation.marks(server.labels)
    if not marks:
        raise Refused(f"{asked.name} has no label that vouches for its SSH host key: it is not connected to")
    place = door(asked, server)
    key = login.wait_for(place, marks, SSH_SECONDS, asked.heard)
    if server.labels.get("state") == READY:
        return key
    deadline = time.monotonic() + SSH_SECONDS
    while True:
        try:
            finish_cloud_init(place, key)
            return key
        except login.NotYet:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)


def finish_cloud_init(place: Door, key: bytes) -> None:
    """Until cloud-init has ended; what it complains about without failing (status 2) is not in our way."""
    with login.opened(place, key) as client:
        status, said, _ = login.ask(client, "cloud-init status --wait --long", CLOUD_INIT_SECONDS)
    if status not in (0, 2):
        words = " ".join(said.split())[-300:]
        raise UnderstudyError(f"cloud-init failed on the replica: {words}")


def ensure_identity(api: Hetzner, asked: Request, server: Server, key: bytes) -> tuple[Server, bytes]:
    """The replica has a host key of its own, and is labelled as finished."""
    known = dict(server.labels)
    if known.get("state") == READY and rotation.NEXT not in known:
        return server, key

    def keep(changed: dict[str, str]) -> None:
        finished = rotation.NEXT not in changed
        api.set_labels(server.id, {**changed, **({"state": READY} if finished else {})})

    sudo = "" if asked.user == "root" else "sudo "
    key = rotation.rotate(door(asked, server), key, known, keep, sudo)
    return api.server(server.id) or server, key


def pin(asked: Request, server: Server, key: bytes) -> None:
    """A file of its own for each key: who has read an older one in this process must not find it changed."""
    login.write_pin(asked.pins(mark(key)), known_hosts_line(server.ip, key))
