"""The only module that speaks to Cloudflare, through its own SDK; everything else sees plain values.

Reads are tried again a few times, with an end; a batch is sent once. Every failure is one sentence.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import BadInput, UnderstudyError
from .traffic.records import Batch, Record

if TYPE_CHECKING:
    import cloudflare as sdk

T = TypeVar("T")
TIMEOUT = 20.0
TRIES = 3
PAUSE = 0.5
MOST_PAGES = 50
NOBODY = "0" * 32
SILENT = "Cloudflare answered 200 without saying that it worked"  # which is no error to the SDK
GLOBAL_KEY = re.compile(r"^[0-9a-f]{37}$")
GLOBAL_VARIABLES = ("CLOUDFLARE_API_KEY", "CLOUDFLARE_EMAIL", "CLOUDFLARE_API_USER_SERVICE_KEY")
TUNNEL_EDIT = "Account: Cloudflare Tunnel: Edit"
TUNNEL_READ = "Account: Cloudflare Tunnel: Read"
DNS_EDIT = "Zone: DNS: Edit"
DNS_READ = "Zone: DNS: Read"
ZONE_READ = "Zone: Zone: Read"


class CloudflareError(UnderstudyError):
    """Cloudflare refused, or did not answer. ``code`` is its own number, 0 without one."""

    def __init__(self, sentence: str, code: int = 0) -> None:
        super().__init__(sentence)
        self.code = code


class Unsure(CloudflareError):
    """The answer was lost: what was asked may have been done, may be done still, or not."""


@dataclass(frozen=True)
class Zone:
    """The zone and the account that holds it."""

    id: str
    name: str
    account: str


@dataclass(frozen=True)
class Tunnel:
    """A tunnel; ``remote``: its configuration is kept at Cloudflare. ``status``: inactive, healthy, degraded, down."""

    id: str
    name: str
    remote: bool
    status: str


@dataclass(frozen=True)
class Access:
    """How the account is reached. ``timeout`` in seconds, for each request."""

    token: str
    api_url: str = ""
    zone: str = ""
    account: str = ""
    timeout: float = TIMEOUT


def check_token(token: str, environment: Mapping[str, str]) -> None:
    """Raises BadInput for anything but an API token: a global key can do everything and is never used."""
    for name in GLOBAL_VARIABLES:
        if environment.get(name):
            raise BadInput(
                f"{name} is set: Understudy does not work with a global key, which may do everything in the account. "
                "Unset it and make an API token (docs/traffic.md)"
            )
    if GLOBAL_KEY.match(token) or token.startswith("v1.0-"):
        raise BadInput(
            "the Cloudflare token is a global or origin key, which may do too much: make an API token (docs/traffic.md)"
        )
    if not re.fullmatch(r"[A-Za-z0-9_.-]{20,}", token):
        raise BadInput("the Cloudflare token has not the form of an API token: copy it once more")


class Account:
    """One zone and its account, reached with one token. Nothing is asked before the first method."""

    def __init__(self, access: Access, environment: Mapping[str, str] = os.environ) -> None:
        check_token(access.token, environment)
        self.access = access
        self.writes = 0
        self._zone: Zone | None = None
        self._client: sdk.Cloudflare | None = None

    @property
    def client(self) -> sdk.Cloudflare:
        """The SDK's client, made on first use: without it the SDK need not be installed."""
        if self._client is None:
            import cloudflare
            import httpx

            address = self.access.api_url or None
            limits = httpx.Timeout(self.access.timeout, connect=min(5.0, self.access.timeout))
            self._client = cloudflare.Cloudflare(
                api_token=self.access.token, base_url=address, max_retries=0, timeout=limits
            )
        return self._client

    def verify(self) -> None:
        """Raises CloudflareError unless the token lives."""
        found = self._read("check the token", "", lambda: self.client.user.tokens.verify())
        if found.status != "active":
            raise CloudflareError(
                f"the Cloudflare token is {found.status}: make another one (docs/traffic.md)"
            )

    def zone(self, domain: str) -> Zone:
        """The zone that holds ``domain``: the configured one, else the longest of its parents that the token sees."""
        if self._zone is None:
            self._zone = self._configured(domain) or self._searched(domain)
        return self._zone

    def _configured(self, domain: str) -> Zone | None:
        if not self.access.zone:
            return None
        if self.access.account:
            return Zone(self.access.zone, domain, self.access.account)
        found = self._read(
            "read the zone", ZONE_READ, lambda: self.client.zones.get(zone_id=self.access.zone)
        )
        return Zone(found.id, found.name, str(found.account.id))

    def _searched(self, domain: str) -> Zone:
        labels = domain.split(".")
        for start in range(len(labels) - 1):
            name = ".".join(labels[start:])
            page = self._read("look for the zone", ZONE_READ, lambda n=name: self.client.zones.list(name=n))  # type: ignore[misc]
            for zone in _items(page, "look for the zone"):
                account = self.access.account or str(zone.account.id)
                return Zone(zone.id, zone.name, account)
        raise CloudflareError(
            f"the Cloudflare token sees no zone for {domain}: it is a token for another zone, or lacks {ZONE_READ}"
        )

    def check_permissions(self, zone: Zone, *, tunnels: bool = True, writing: bool = False) -> None:
        """Raises CloudflareError naming the permission that is missing.

        Writing is tried on an object that does not exist: "not found" comes only to those who may.
        """
        self._read(
            "read DNS records",
            DNS_READ,
            lambda: self.client.dns.records.list(zone_id=zone.id, per_page=5),
        )
        if tunnels:
            self.tunnels(zone)
        if writing:
            self._may("change DNS records", DNS_EDIT, lambda: self._no_record(zone))
            if tunnels:
                self._may("change tunnels", TUNNEL_EDIT, lambda: self._no_tunnel(zone))

    def _no_record(self, zone: Zone) -> Any:
        return self.client.dns.records.delete(NOBODY, zone_id=zone.id)

    def _no_tunnel(self, zone: Zone) -> Any:
        nobody = "00000000-0000-0000-0000-000000000000"
        return self.client.zero_trust.tunnels.cloudflared.delete(nobody, account_id=zone.account)

    def _may(self, what: str, permission: str, call: Callable[[], Any]) -> None:
        import cloudflare

        def asked() -> bool:
            with suppress(cloudflare.NotFoundError, cloudflare.BadRequestError):
                call()
            return True

        self._read(what, permission, asked)

    def records(self, zone: Zone, **wanted: str) -> list[Record]:
        """Every record of the zone, or those of a ``name``."""
        found: list[Record] = []
        seen: set[str] = set()
        for page in range(1, MOST_PAGES + 1):
            items = self._records_page(zone, page, wanted)
            new = [record for record in items if record.id not in seen]
            found += new
            seen |= {record.id for record in new}
            if len(items) < 100 or not new:  # a page that comes again would never end
                return found
        raise CloudflareError(f"{zone.name} has more than {MOST_PAGES * 100} records: that many are not read")

    def _records_page(self, zone: Zone, page: int, wanted: Mapping[str, str]) -> list[Record]:
        name: Any = {"exact": wanted["name"]} if "name" in wanted else self._not_given()
        got = self._read(
            "read DNS records",
            DNS_READ,
            lambda: self.client.dns.records.list(zone_id=zone.id, name=name, page=page, per_page=100),
        )
        return [_record(item) for item in _items(got, "read DNS records")]

    @staticmethod
    def _not_given() -> Any:
        import cloudflare

        return cloudflare.NOT_GIVEN

    def batch(self, zone: Zone, batch: Batch) -> dict[str, list[str]]:
        """Send one transaction, once. Returns the ids of what was posted, by name.

        Raises Unsure when no answer came, CloudflareError when Cloudflare refused it whole.
        """
        patches: Any = [{"id": key, **body} for key, body in batch.patches]
        posts: Any = [record.body() for record in batch.posts]
        got = self._write(
            "change DNS records",
            DNS_EDIT,
            lambda: self.client.dns.records.batch(
                zone_id=zone.id,
                deletes=[{"id": key} for key in batch.deletes],
                patches=patches,
                posts=posts,
            ),
        )
        made: dict[str, list[str]] = {}
        for item in got.posts or []:
            made.setdefault(item.name, []).append(item.id)
        return made

    def tunnels(self, zone: Zone) -> list[Tunnel]:
        """The account's tunnels that are not deleted."""
        found: dict[str, Tunnel] = {}
        for page in range(1, MOST_PAGES + 1):
            query = f"is_deleted=false&page={page}&per_page=100"
            path = f"/accounts/{zone.account}/cfd_tunnel?{query}"
            items = [_tunnel(item) for item in self._plain("list tunnels", TUNNEL_READ, path) or []]
            new = [item for item in items if item.id not in found]
            found |= {item.id: item for item in new}
            if len(items) < 100 or not new:
                break
        return list(found.values())

    def _plain(self, what: str, permission: str, path: str) -> Any:
        """A read by the SDK's client alone, without its model: importing those of tunnels takes a second of CPU,

        which a converge that changes nothing need not pay.
        """
        answer: Any = self._read(what, permission, lambda: self.client.get(path, cast_to=object))
        if not isinstance(answer, dict) or answer.get("success") is not True:
            raise Unsure(f"could not {what}: {SILENT}")
        return answer.get("result")

    def create_tunnel(self, zone: Zone, name: str) -> Tunnel:
        """A new tunnel whose configuration is kept at Cloudflare. After a lost answer it is looked up by its name."""
        secret = new_secret()
        try:
            made = self._write(
                f"create the tunnel {name}",
                TUNNEL_EDIT,
                lambda: self.client.zero_trust.tunnels.cloudflared.create(
                    account_id=zone.account, name=name, config_src="cloudflare", tunnel_secret=secret
                ),
            )
            return _tunnel(made)
        except CloudflareError as error:
            there = [tunnel for tunnel in self.tunnels(zone) if tunnel.name == name]
            if there and (isinstance(error, Unsure) or error.code == 1013):
                return there[0]
            raise

    def tunnel_token(self, zone: Zone, tunnel: str) -> str:
        """The secret with which a connector serves the tunnel."""
        path = f"/accounts/{zone.account}/cfd_tunnel/{tunnel}/token"
        return str(self._plain("read the token of a tunnel", TUNNEL_EDIT, path))

    def ingress(self, zone: Zone, tunnel: str) -> list[dict[str, Any]]:
        """The rules of a tunnel as (hostname, path, service); [] when it was never configured."""
        path = f"/accounts/{zone.account}/cfd_tunnel/{tunnel}/configurations"
        got = self._plain("read the configuration of a tunnel", TUNNEL_READ, path) or {}
        rules = (got.get("config") or {}).get("ingress") or []
        return [
            {
                "hostname": rule.get("hostname") or "",
                "path": rule.get("path") or "",
                "service": rule.get("service"),
            }
            for rule in rules
        ]

    def configure(self, zone: Zone, tunnel: str, service: str) -> None:
        """One catch-all rule: everything goes to ``service``."""
        rules: Any = [{"service": service}]
        self._write(
            "configure a tunnel",
            TUNNEL_EDIT,
            lambda: self.client.zero_trust.tunnels.cloudflared.configurations.update(
                tunnel, account_id=zone.account, config={"ingress": rules}
            ),
            again=True,
        )

    def delete_tunnel(self, zone: Zone, tunnel: str) -> None:
        """Only ever for a canary: hosts keep their tunnels for ever."""
        self._write(
            "delete a tunnel",
            TUNNEL_EDIT,
            lambda: self.client.zero_trust.tunnels.cloudflared.delete(tunnel, account_id=zone.account),
        )

    def connectors(self, zone: Zone, tunnel: str) -> int:
        """How many connectors the edge has for a tunnel."""
        path = f"/accounts/{zone.account}/cfd_tunnel/{tunnel}/connections"
        return len(self._plain("list the connections of a tunnel", TUNNEL_READ, path) or [])

    def rotate(self, zone: Zone, tunnel: str) -> None:
        """A new secret: nobody with the old one gets a new connection."""
        secret = new_secret()
        self._write(
            "rotate the secret of a tunnel",
            TUNNEL_EDIT,
            lambda: self.client.zero_trust.tunnels.cloudflared.edit(
                tunnel, account_id=zone.account, tunnel_secret=secret
            ),
            again=True,
        )

    def disconnect(self, zone: Zone, tunnel: str) -> None:
        """End every connection that a tunnel has."""
        self._write(
            "end the connections of a tunnel",
            TUNNEL_EDIT,
            lambda: self.client.zero_trust.tunnels.cloudflared.connections.delete(
                tunnel, account_id=zone.account
            ),
            again=True,
        )

    def balancing(self, zone: Zone, kind: str) -> list[dict[str, Any]]:
        """All ``monitors``, ``pools`` or ``load_balancers``, as the API has them."""
        found = self._plain(f"list {_said(kind)}", _permission(kind, "Read"), _place(zone, kind))
        if not isinstance(found, list):
            raise Unsure(f"could not list {_said(kind)}: {SILENT}")
        return [dict(item) for item in found]

    def make(self, zone: Zone, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create one; what the API made of it. After a lost answer the next converge finds it by its description."""
        what = f"create a {_said(kind)[:-1]}"
        return self._sent(what, kind, lambda: self.client.post(_place(zone, kind), body=body, cast_to=object))

    def change(self, zone: Zone, kind: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change some keys of one."""
        path, what = f"{_place(zone, kind)}/{key}", f"change a {_said(kind)[:-1]}"
        return self._sent(what, kind, lambda: self.client.patch(path, body=body, cast_to=object), again=True)

    def remove(self, zone: Zone, kind: str, key: str) -> None:
        """Delete one."""
        path, what = f"{_place(zone, kind)}/{key}", f"delete a {_said(kind)[:-1]}"
        self._sent(what, kind, lambda: self.client.delete(path, cast_to=object))

    def _sent(self, what: str, kind: str, call: Callable[[], Any], again: bool = False) -> dict[str, Any]:
        answer: Any = self._write(what, _permission(kind, "Edit"), call, again)
        if not isinstance(answer, dict) or answer.get("success") is not True:
            raise Unsure(f"could not {what}: {SILENT}")
        return dict(answer.get("result") or {})

    def _read(self, what: str, permission: str, call: Callable[[], T | None]) -> T:
        got = self._asked(what, permission, call, TRIES)
        if got is None:
            raise Unsure(f"could not {what}: {SILENT}")
        return got

    def _write(
        self,
        what: str,
        permission: str,
        call: Callable[[], T | None],
        again: bool = False,
    ) -> T:
        """``again``: doing it twice is the same as once."""
        self.writes += 1
        got = self._asked(what, permission, call, TRIES if again else 1)
        if got is None:
            raise Unsure(f"could not {what}: {SILENT}")
        return got

    def _asked(self, what: str, permission: str, call: Callable[[], T | None], tries: int) -> T | None:
        refusals = 0
        for left in reversed(range(tries)):
            try:
                return call()
            except Exception as error:
                problem = _problem(error, what, permission, self.access.timeout)
                refusals += _is_refusal(error)
                if not (_may_pass(error) and left) and not (_is_refusal(error) and refusals == 1 and left):
                    raise problem from error
                time.sleep(PAUSE * 2 ** (tries - 1 - left))
        raise AssertionError("every try returns or raises")


def _place(zone: Zone, kind: str) -> str:
    """Monitors and pools are the account's, load balancers the zone's."""
    if kind == "load_balancers":
        return f"/zones/{zone.id}/load_balancers"
    return f"/accounts/{zone.account}/load_balancers/{kind}"


def _said(kind: str) -> str:
    return kind.replace("_", " ")


def _permission(kind: str, right: str) -> str:
    if kind == "load_balancers":
        return f"Zone: Load Balancers: {right}"
    return f"Account: Load Balancing: Monitors and Pools: {right}"


def _items(page: Any, what: str) -> list[Any]:
    """A page's items: a list that could not be read is never an empty one."""
    if page.result is None:
        raise Unsure(f"could not {what}: {SILENT}")
    return list(page.result)


def _record(item: Any) -> Record:
    comment = item.comment or ""
    proxied, ttl = bool(item.proxied), int(item.ttl or 1)
    return Record(item.type, item.name, item.content or "", proxied, ttl, comment, item.id)


def _tunnel(item: Any) -> Tunnel:
    """``item`` is the API's JSON or the SDK's model of it."""
    facts = item if isinstance(item, dict) else item.to_dict()
    source = facts.get("config_src") or ("cloudflare" if facts.get("remote_config") else "local")
    return Tunnel(facts["id"], facts["name"], source == "cloudflare", facts.get("status") or "inactive")


def new_secret() -> str:
    """A tunnel's secret as the API takes it."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _is_refusal(error: Exception) -> bool:
    return getattr(error, "status_code", 0) == 403


def _may_pass(error: Exception) -> bool:
    """Whether the same call may work in a moment."""
    import cloudflare

    if isinstance(error, cloudflare.APIConnectionError):
        return True
    status = getattr(error, "status_code", 0)
    return status == 429 or status >= 500


def _problem(error: Exception, what: str, permission: str, timeout: float) -> CloudflareError:
    """The one sentence for whatever the SDK raised."""
    import cloudflare

    if isinstance(error, cloudflare.APITimeoutError):
        return Unsure(f"could not {what}: Cloudflare did not answer within {timeout:g} s")
    if isinstance(error, cloudflare.APIConnectionError):
        return Unsure(f"could not {what}: Cloudflare's API cannot be reached ({_cause(error)})")
    if not isinstance(error, cloudflare.APIStatusError):
        raise error
    code, message = _first(error.body)
    status = error.status_code
    if status >= 500:
        return Unsure(f"could not {what}: Cloudflare answered {status} ({message})", code)
    if status == 429:
        return CloudflareError(
            f"could not {what}: Cloudflare's rate limit is reached, try again in five minutes"
        )
    if status == 401 or code in (1000, 1001, 6003, 9106):
        return CloudflareError(
            f"could not {what}: Cloudflare does not know this token ({message}): "
            "`understudy secrets edit cloudflare`, or set CLOUDFLARE_API_TOKEN",
            code,
        )
    if status == 403 and permission:
        return CloudflareError(
            f"could not {what}: the Cloudflare token lacks {permission} for this zone or account", code
        )
    return CloudflareError(f"could not {what}: {message} (Cloudflare's code {code})", code)


def _first(body: Any) -> tuple[int, str]:
    errors: Iterable[Any] = body.get("errors") or [] if isinstance(body, dict) else []
    for error in errors:
        if isinstance(error, dict):
            return int(error.get("code") or 0), str(error.get("message") or "no reason given")
    return 0, "no reason given"


def _cause(error: Exception) -> str:
    return str(error.__cause__ or error).strip() or type(error).__name__
