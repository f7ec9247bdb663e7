"""An emulated Cloudflare of a test's own, and an Edge on it as the product makes one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lab.cloudflare.answers import Json
from lab.cloudflare.api import Api, ApiServer
from lab.cloudflare.balancers import Balancers
from lab.cloudflare.state import ALL, State
from lab.cloudflare.tunnels import Tunnels
from understudy.cloudflare import Access, Account
from understudy.traffic.edge import Edge
from understudy.traffic.world import TrafficHost, World

DOMAIN = "example.org"
HOSTS = (
    TrafficHost("lemongrab", True, frozenset({"critical", "rest"}), 8080),
    TrafficHost("standby", False, frozenset({"critical"}), 8080),
)
NAMES = {
    "example.org": "critical",
    "vault.example.org": "critical",
    "cloud.example.org": "critical",
    "media.example.org": "rest",
}
WORLD = World("lab", DOMAIN, HOSTS, NAMES, ("critical", "rest"))
WRITES = ("POST", "PUT", "PATCH", "DELETE")


class NoHub:
    """No connector ever comes; what was dropped is remembered."""

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.connected: dict[str, list[Json]] = {}

    def clients(self, tunnel: str) -> list[Json]:
        return self.connected.get(tunnel, [])

    def drop(self, tunnel: str, client: str = "") -> None:
        self.dropped.append(tunnel)
        self.connected.pop(tunnel, None)

    def configure(self, tunnel: str, config: Json, version: int) -> None:
        pass


@dataclass
class Cloud:
    """The emulator in this process."""

    state: State
    api: Api
    hub: NoHub
    url: str

    def token(self, permissions: tuple[str, ...] = ALL, **more: object) -> str:
        return self.state.add_token(list(permissions), **more)  # type: ignore[arg-type]

    def account(self, token: str = "", **more: object) -> Account:
        access = Access(token or self.token(), self.url, timeout=5.0)
        return Account(replace(access, **more), {})  # type: ignore[arg-type]

    def edge(self, world: World = WORLD, token: str = "", **more: object) -> Edge:
        return Edge(self.account(token, **more), world)

    def fault(self, **fault: object) -> None:
        self.api.faults.set([fault])

    def calm(self) -> None:
        self.api.faults.set([])

    def writes(self) -> list[str]:
        return [f"{c['method']} {c['path']}" for c in self.api.calls if c["method"] in WRITES]

    def records(self) -> dict[str, Json]:
        """Records by type and name."""
        return {f"{r['type']} {r['name']}": r for r in self.state.data["records"].values()}


@contextmanager
def cloud(folder: Path, domain: str = DOMAIN) -> Iterator[Cloud]:
    state = State(folder / "state.json", domain)
    hub = NoHub()
    api = Api(state, Tunnels(state, hub, lambda: "127.0.0.1:1"), Balancers(state, lambda p, o: (True, "")))
    server = ApiServer(("127.0.0.1", 0), api)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield Cloud(state, api, hub, f"http://127.0.0.1:{server.server_port}/client/v4")
    finally:
        server.shutdown()
        server.server_close()
