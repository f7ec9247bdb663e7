"""The only module that speaks to Hetzner, through its own SDK; everything else sees plain values.

The SDK repeats some failures and waits without end for others. Here every request has a time limit; what may pass by
itself (locks, 5xx, rate limits, broken connections) is tried again for ``patience`` seconds; a lost answer to a create
is Unsure and never repeated blind. Every failure is one sentence.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .errors import BadInput, UnderstudyError
from .replica.model import Offer, Order, Prices, Rule, Server, Thing, Wall

if TYPE_CHECKING:
    import hcloud

T = TypeVar("T")
ENDPOINT = "https://api.hetzner.cloud/v1"
CONNECT, READ = 5.0, 20.0
PATIENCE = 120.0
ACTION_SECONDS = 1800.0
MOST_PAGES = 40
PASSING = {
    "locked",
    "conflict",
    "rate_limit_exceeded",
    "unavailable",
    "server_error",
    "bad_gateway",
    "timeout",
}
FULL = {"resource_unavailable", "placement_error", "no_space_left_in_location"}


class HetznerError(UnderstudyError):
    """Hetzner refused, or did not answer. ``code`` is its own word, "" without one."""

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code


class Unreachable(HetznerError):
    """No answer, after trying for as long as allowed."""


class Unsure(HetznerError):
    """The answer was lost: what was asked may have been done."""


class Taken(HetznerError):
    """The name, or the key, is there already."""


class NoCapacity(HetznerError):
    """This type cannot be had in this location now."""


@dataclass(frozen=True)
class Access:
    """How a project is reached. ``read`` is the time limit of one request, ``patience`` that of all its tries, in seconds."""

    token: str
    endpoint: str = ENDPOINT
    read: float = READ
    patience: float = PATIENCE


class Hetzner:
    """One project. Names and numbers in, plain values out."""

    def __init__(self, access: Access) -> None:
        import hcloud

        if not access.token:
            raise BadInput(
                "HCLOUD_TOKEN is not set: make an API token (Read & Write) in the project's Security page"
            )
        self.access = access
        self.sdk: hcloud.Client = hcloud.Client(
            access.token,
            access.endpoint.rstrip("/"),
            application_name="understudy",
            timeout=(CONNECT, access.read),
        )
        inner: Any = getattr(self.sdk, "_client", None)
        if hasattr(inner, "_retry_max_retries"):
            inner._retry_max_retries = 0  # repeating is decided here; else the SDK's own few tries remain

    # Reading

    def offers(self) -> list[Offer]:
        """Every server type in every location where it is sold, priced by the live price list."""
        listed = self._pricing()["server_types"]
        prices = {(row["name"], p["location"]): p for row in listed for p in row["prices"]}
        types = self._all("server types", self.sdk.server_types.get_list)
        return [
            _offer(kind, place, prices[kind.name, place.location.name])
            for kind in types
            for place in kind.locations or []
            if (kind.name, place.location.name) in prices
        ]

    def prices(self) -> Prices:
        found = self._pricing()
        four = next(row for row in found["primary_ips"] if row["type"] == "ipv4")["prices"]
        return Prices(
            Decimal(found["vat_rate"]),
            {row["location"]: Decimal(row["price_monthly"]["net"]) for row in four},
            {row["location"]: Decimal(row["price_hourly"]["net"]) for row in four},
            Decimal(found["volume"]["price_per_gb_month"]["net"]),
        )

    def servers(self, selector: str) -> list[Server]:
        listing = self._all("servers", self.sdk.servers.get_list, label_selector=selector)
        return [_server(row) for row in listing]

    def server_named(self, name: str) -> Server | None:
        found = self._all("servers", self.sdk.servers.get_list, name=name)
        return _server(found[0]) if found else None

    def server(self, number: int) -> Server | None:
        """The server, None when it is gone."""
        return self._or_none(
            lambda: _server(self._read("the server", lambda: self.sdk.servers.get_by_id(number)))
        )

    def key_like(self, fingerprint: str) -> Thing | None:
        found = self._all("SSH keys", self.sdk.ssh_keys.get_list, fingerprint=fingerprint)
        return _thing(found[0]) if found else None

    def keys(self, selector: str) -> list[Thing]:
        return [
            _thing(row) for row in self._all("SSH keys", self.sdk.ssh_keys.get_list, label_selector=selector)
        ]

    def wall_named(self, name: str) -> Wall | None:
        found = self._all("firewalls", self.sdk.firewalls.get_list, name=name)
        return _wall(found[0]) if found else None

    def walls(self, selector: str) -> list[Wall]:
        return [
            _wall(row) for row in self._all("firewalls", self.sdk.firewalls.get_list, label_selector=selector)
        ]

    def addresses(self, selector: str = "", name: str = "") -> list[Thing]:
        listing = self._all("primary IPs", self.sdk.primary_ips.get_list, **_chosen(selector, name))
        return [_thing(row, user=row.assignee_id or 0, ip=row.ip) for row in listing]

    def volumes(self, selector: str = "", name: str = "") -> list[Thing]:
        listing = self._all("volumes", self.sdk.volumes.get_list, **_chosen(selector, name))
        return [_thing(row, user=row.server.id if row.server else 0, size=row.size) for row in listing]

    def last_actions(self, number: int) -> list[tuple[int, str, str, str]]:
        """Number, command, status and reason of what was done to a server, oldest first."""
        server = _numbered("servers", number)
        listing = self._all("actions", lambda **page: self.sdk.servers.get_actions_list(server, **page))
        return [(a.id, a.command, a.status, _reason(a.error)) for a in sorted(listing, key=lambda a: a.id)]

    # Writing

    def add_key(self, name: str, public: str, labels: dict[str, str]) -> Thing:
        return _thing(self._create("the SSH key", lambda: self.sdk.ssh_keys.create(name, public, labels)))

    def add_wall(self, name: str, rules: frozenset[Rule], labels: dict[str, str]) -> Wall:
        sent = cast(Any, labels)  # the SDK names another type than it takes
        made = self._create("the firewall", lambda: self.sdk.firewalls.create(name, _sdk_rules(rules), sent))
        return _wall(made.firewall)

    def set_rules(self, number: int, rules: frozenset[Rule]) -> list[int]:
        """Numbers of the actions that do it."""
        wall = _numbered("firewalls", number)
        done = self._write("the firewall", lambda: self.sdk.firewalls.set_rules(wall, _sdk_rules(rules)))
        return [action.id for action in done]

    def attach_wall(self, number: int, server: int) -> list[int]:
        from hcloud.firewalls import FirewallResource

        wall = _numbered("firewalls", number)
        target = [FirewallResource(type="server", server=_numbered("servers", server))]
        done = self._write("the firewall", lambda: self.sdk.firewalls.apply_to_resources(wall, target))
        return [action.id for action in done]

    def order(self, wish: Order) -> tuple[Server, list[int]]:
        """Create a server; the numbers are of the actions that make and start it."""
        made = self._create("the server", lambda: self.sdk.servers.create(**_order(wish)))
        return _server(made.server), [made.action.id, *(action.id for action in made.next_actions)]

    def set_labels(self, number: int, labels: dict[str, str]) -> None:
        server = _numbered("servers", number)
        self._write("the server's labels", lambda: self.sdk.servers.update(server, labels=labels))

    def protect(self, number: int, on: bool) -> int:
        server = _numbered("servers", number)
        change = self.sdk.servers.change_protection
        return int(self._write("the protection", lambda: change(server, delete=on, rebuild=on)).id)

    def switch_on(self, number: int) -> int:
        server = _numbered("servers", number)
        return int(self._write("the server", lambda: self.sdk.servers.power_on(server)).id)

    def delete_server(self, number: int) -> int:
        """The number of the action, 0 when the server was gone already."""
        server = _numbered("servers", number)
        action = self._or_none(lambda: self._write("the server", lambda: self.sdk.servers.delete(server)))
        return int(action.id) if action else 0

    def add_address(self, name: str, location: str, labels: dict[str, str]) -> Thing:
        from hcloud.locations import Location

        def make() -> Any:
            where = Location(name=location)
            return self.sdk.primary_ips.create(
                type="ipv4", name=name, location=where, auto_delete=False, labels=labels
            )

        row = self._create("the address", make).primary_ip
        return _thing(row, ip=row.ip)

    def add_volume(self, name: str, size: int, location: str, labels: dict[str, str]) -> tuple[Thing, int]:
        from hcloud.locations import Location

        where, sent = Location(name=location), cast(Any, labels)  # the SDK names another type than it takes
        made = self._create(
            "the volume",
            lambda: self.sdk.volumes.create(size, name, labels=sent, location=where, format="ext4"),
        )
        return _thing(made.volume, size=size), made.action.id

    def delete(self, kind: str, number: int) -> None:
        """Remove a key, firewall, address or volume (the SDK's plural name); one that is gone is fine."""
        client = getattr(self.sdk, kind)
        row = _numbered(kind, number)
        self._or_none(lambda: self._write(kind.replace("_", " "), lambda: client.delete(row)))

    # Waiting

    def wait(
        self, actions: Sequence[int], heard: Callable[[str], None], seconds: float = ACTION_SECONDS
    ) -> None:
        """Until every action has succeeded. Raises HetznerError with the reason when one fails or takes too long."""
        deadline = time.monotonic() + seconds
        for number in actions:
            pause, said = 0.2, ""
            while True:
                action = self._read("the action", lambda n=number: self.sdk.actions.get_by_id(n))  # type: ignore[misc]
                said = _tell(action, said, heard)
                if action.status == "success":
                    break
                if action.status == "error":
                    raise HetznerError(
                        f"Hetzner could not finish {action.command}: {_reason(action.error)}",
                        _code(action.error),
                    )
                if time.monotonic() > deadline:
                    raise HetznerError(
                        f"Hetzner has not finished {action.command} in {seconds:.0f} s: run the same again later, "
                        "it goes on where it is"
                    )
                time.sleep(pause)
                pause = min(3.0, pause * 1.3)

    # How every request is made

    def _pricing(self) -> dict[str, Any]:
        found: dict[str, Any] = self._read(
            "the price list", lambda: self.sdk.request(method="GET", url="/pricing")
        )
        return dict(found["pricing"])

    def _all(self, what: str, listing: Callable[..., Any], **chosen: Any) -> list[Any]:
        """Every page, with an end: an API that never stops is an error."""
        found, page = list[Any](), 1
        while page <= MOST_PAGES:
            answer = self._read(what, lambda n=page: listing(page=n, per_page=50, **chosen))  # type: ignore[misc]
            rows, meta = answer
            known = {row.id for row in found}
            if any(row.id in known for row in rows):
                raise HetznerError(f"Hetzner's list of {what} repeats itself: try again later")
            found += rows
            following = meta.pagination.next_page if meta and meta.pagination else None
            if not following:
                return found
            page = following
        raise HetznerError(f"Hetzner's list of {what} has no end: try again later")

    def _read(self, what: str, ask: Callable[[], T]) -> T:
        return self._tried(what, ask, repeat=True)

    def _write(self, what: str, ask: Callable[[], T]) -> T:
        """A write that may be made twice without harm."""
        return self._tried(what, ask, repeat=True)

    def _create(self, what: str, ask: Callable[[], T]) -> T:
        """A write that must not be made twice: a lost answer is Unsure."""
        return self._tried(what, ask, repeat=False)

    def _tried(self, what: str, ask: Callable[[], T], repeat: bool) -> T:
        import hcloud
        import requests

        deadline, pause = time.monotonic() + self.access.patience, 0.5
        while True:
            try:
                return ask()
            except hcloud.APIException as error:
                if str(error.code) not in PASSING and not _server_side(error.code):
                    raise _refusal(what, error) from error
                failure = _refusal(what, error)
                sure = str(error.code) in {
                    "locked",
                    "conflict",
                    "rate_limit_exceeded",
                    "unavailable",
                    "503",
                    "429",
                }
            except requests.RequestException as error:
                failure = _unreachable(self.access.endpoint, error)
                sure = isinstance(error, requests.exceptions.ConnectTimeout) or _refused(error)
            if not repeat and not sure:
                raise Unsure(f"{failure} Whether {what} was made is not known.")
            if time.monotonic() + pause > deadline:
                raise failure
            time.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - only spreads the load
            pause = min(8.0, pause * 1.7)

    def _or_none(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except HetznerError as error:
            if error.code == "not_found":
                return None
            raise


def _numbered(kind: str, number: int) -> Any:
    """The SDK's object of a kind (its plural name) by number, without asking for it."""
    from hcloud.firewalls import Firewall
    from hcloud.primary_ips import PrimaryIP
    from hcloud.servers import Server as SdkServer
    from hcloud.ssh_keys import SSHKey
    from hcloud.volumes import Volume

    kinds: dict[str, Any] = {
        "servers": SdkServer,
        "firewalls": Firewall,
        "ssh_keys": SSHKey,
        "primary_ips": PrimaryIP,
        "volumes": Volume,
    }
    return kinds[kind](id=number)


def _chosen(selector: str, name: str) -> dict[str, str]:
    return {**({"label_selector": selector} if selector else {}), **({"name": name} if name else {})}


def _server_side(code: object) -> bool:
    return str(code) in {"429", "500", "502", "503", "504"}


def _refused(error: Exception) -> bool:
    """The connection was never made, so that nothing can have been done."""
    return "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error)


def _unreachable(endpoint: str, error: Exception) -> Unreachable:
    import requests

    why = "did not answer in time" if isinstance(error, requests.Timeout) else "cannot be reached"
    return Unreachable(f"Hetzner's API {why} ({endpoint}): check the line and try again.")


HINTS = {
    "unauthorized": "Hetzner does not know the token: set HCLOUD_TOKEN to an API token of this project",
    "token_readonly": "the token may only read: make one with Read & Write in the project's Security page",
    "forbidden": "the token may not do this: make one with Read & Write in the project's Security page",
    "resource_limit_exceeded": "the project's limit is reached: delete what you do not need, or ask for a higher limit in "
    "the console",
    "rate_limit_exceeded": "too many requests this hour: try again in some minutes",
    "deprecated_api_endpoint": "Hetzner has taken away a part of its API that this version uses: update Understudy",
    "protected": "it is protected against deletion in the console: take the protection away there",
    "maintenance": "Hetzner is under maintenance: try again later",
}


def _refusal(what: str, error: hcloud.APIException) -> HetznerError:
    """The error as a sentence, of the class that says what to do about it."""
    code, message = str(error.code), str(error.message)
    fields = (error.details or {}).get("fields") if isinstance(error.details, dict) else None
    detail = "; ".join(f"{field['name']}: {' '.join(field.get('messages') or [])}" for field in fields or [])
    told = f"{message}{f' ({detail})' if detail else ''}"
    if code in ("unauthorized", "token_readonly", "forbidden"):
        wrong = HetznerError(f"{HINTS[code]} (Hetzner says: {told})", code)
        wrong.exit_code = BadInput.exit_code
        return wrong
    kinds: dict[str, type[HetznerError]] = {"uniqueness_error": Taken, **dict.fromkeys(FULL, NoCapacity)}
    sentence = f"Hetzner refuses {what}: {told} ({code})"
    if code in HINTS:
        sentence += f": {HINTS[code]}"
    return kinds.get(code, HetznerError)(sentence, code)


def _reason(error: Any) -> str:
    if not error:
        return ""
    return f"{error.get('message', '')} ({error.get('code', '')})"


def _code(error: Any) -> str:
    return str(error.get("code", "")) if error else ""


def _tell(action: Any, said: str, heard: Callable[[str], None]) -> str:
    line = f"{action.command.replace('_', ' ')} {action.progress} %"
    if line != said:
        heard(line)
    return line


def _offer(kind: Any, place: Any, price: dict[str, Any]) -> Offer:
    return Offer(
        kind.name,
        place.location.name,
        kind.architecture,
        int(kind.cores),
        float(kind.memory),
        int(kind.disk),
        kind.cpu_type == "dedicated",
        bool(place.available) and place.deprecation is None,
        Decimal(price["price_monthly"]["net"]),
        Decimal(price["price_hourly"]["net"]),
    )


def _server(row: Any) -> Server:
    net = row.public_net
    return Server(
        row.id,
        row.name,
        row.status,
        dict(row.labels or {}),
        net.ipv4.ip if net and net.ipv4 else "",
        row.server_type.name,
        row.location.name,
        row.created.timestamp(),
        bool((row.protection or {}).get("delete")),
        tuple(volume.id for volume in row.volumes or []),
        net.primary_ipv4.id if net and net.primary_ipv4 else 0,
        tuple(wall.firewall.id for wall in (net.firewalls or [])) if net else (),
    )


def _thing(row: Any, user: int = 0, size: int = 0, ip: str = "") -> Thing:
    location = getattr(row, "location", None)
    protection = getattr(row, "protection", None) or {}
    where = location.name if location else ""
    return Thing(
        row.id, row.name, dict(row.labels or {}), where, user, size, ip, bool(protection.get("delete"))
    )


def _wall(row: Any) -> Wall:
    rules = frozenset(
        Rule(rule.protocol, rule.port or "", frozenset(rule.source_ips))
        for rule in row.rules or []
        if rule.direction == "in"
    )
    return Wall(row.id, row.name, dict(row.labels or {}), rules=rules)


def _sdk_rules(rules: frozenset[Rule]) -> list[Any]:
    from hcloud.firewalls import FirewallRule

    return [
        FirewallRule(
            direction="in", protocol=rule.protocol, source_ips=sorted(rule.sources), port=rule.port or None
        )
        for rule in sorted(rules, key=lambda rule: (rule.protocol, rule.port))
    ]


def _order(wish: Order) -> dict[str, Any]:
    from hcloud.firewalls import Firewall
    from hcloud.images import Image
    from hcloud.locations import Location
    from hcloud.primary_ips import PrimaryIP
    from hcloud.server_types import ServerType
    from hcloud.servers import ServerCreatePublicNetwork
    from hcloud.ssh_keys import SSHKey
    from hcloud.volumes import Volume

    net = ServerCreatePublicNetwork(ipv4=PrimaryIP(id=wish.address)) if wish.address else None
    return {
        "name": wish.name,
        "server_type": ServerType(name=wish.type),
        "image": Image(name=wish.image),
        "location": Location(name=wish.location),
        "ssh_keys": [SSHKey(id=wish.key)],
        "firewalls": [Firewall(id=wish.wall)],
        "user_data": wish.user_data,
        "labels": dict(wish.labels),
        "public_net": net,
        "volumes": [Volume(id=wish.volume)] if wish.volume else None,
        "automount": bool(wish.volume) or None,
    }
