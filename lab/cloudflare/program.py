"""The emulated Cloudflare as one program: API, colos, resolvers, and the place where connectors arrive.

Runs as `python -m lab.cloudflare.program FOLDER ADDRESS FIRST_PORT DOMAIN` until it is ended. What it holds lies in
FOLDER, and so does its control socket (lab/cloudflare/control.py).
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lab.cloudflare.api import Api, ApiServer
from lab.cloudflare.balancers import Balancers
from lab.cloudflare.control import SOCKET, control_socket
from lab.cloudflare.probing import Prober
from lab.cloudflare.state import KINDS, State
from lab.cloudflare.tunnels import Tunnels
from lab.edge import authority
from lab.edge.balance import Steering
from lab.edge.doh import DohServer, Resolver, Trouble
from lab.edge.front import Colo, FrontServer
from lab.edge.hub import Hub, HubServer
from lab.edge.views import Delays, View

COLOS = ("ams", "fra", "vie")
RESOLVERS = 2
API, FIRST_COLO, FIRST_RESOLVER, CONNECTORS = 0, 1, 4, 6
"""Which of the place's ports is whose."""


class Cloudflare:
    """Everything of one lab's Cloudflare, wired together; ``start`` opens its ports."""

    def __init__(self, folder: Path, address: str, first_port: int, domain: str) -> None:
        self.folder, self.address, self.first_port = folder, address, first_port
        self.state = State(folder / "state.json", domain)
        self.delays = Delays()
        self.hub = Hub(list(COLOS))
        self.steering = Steering(self.state)
        self.colos = [Colo(self._view(name), self.hub, self.steering) for name in COLOS]
        self.resolvers = [self._resolver(f"resolver-{number}") for number in range(RESOLVERS)]
        endpoint = f"{address}:{self.port(CONNECTORS)}"
        tunnels = Tunnels(self.state, self.hub, lambda: endpoint)
        self.hub.admit, self.hub.seen = tunnels.admits, tunnels.seen
        self.api = Api(self.state, tunnels, Balancers(self.state, self.steering.healthy))
        self.prober = Prober(self.state, self.hub, self.steering)

    def port(self, number: int) -> int:
        """A port of the place; 0 as the first one means any."""
        return self.first_port + number if self.first_port else 0

    def _view(self, name: str) -> View:
        view = View(name, self.state.data["records"].values(), self.delays)
        self.state.watchers.append(view.learn)
        return view

    def _resolver(self, name: str) -> Resolver:
        zones = {zone["name"]: zone for zone in self.state.data["zones"].values()}
        return Resolver(self._view(name), zones)

    def views(self) -> list[View]:
        return [*(colo.view for colo in self.colos), *(resolver.view for resolver in self.resolvers)]

    def start(self) -> list[socketserver.BaseServer]:
        """Open all ports, each served in a thread of its own."""
        _, certificate, key = authority.ensure(self.folder, self.address)
        servers: list[socketserver.BaseServer] = [
            ApiServer((self.address, self.port(API)), self.api),
            *(
                FrontServer((self.address, self.port(FIRST_COLO + number)), colo)
                for number, colo in enumerate(self.colos)
            ),
            *(
                DohServer((self.address, self.port(FIRST_RESOLVER + number)), resolver, (certificate, key))
                for number, resolver in enumerate(self.resolvers)
            ),
            HubServer((self.address, self.port(CONNECTORS)), self.hub),
        ]
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        threading.Thread(target=self.prober.run, daemon=True).start()
        return servers

    def obey(self, asked: dict[str, Any]) -> Any:
        """One order of the control. Raises KeyError for one that does not exist."""
        order = asked.pop("order")
        orders = {
            "faults": lambda: self.api.faults.set(asked["faults"]),
            "calls": lambda: list(self.api.calls),
            "requests": lambda: [row for colo in self.colos for row in colo.requests],
            "forget": self._forget,
            "delays": lambda: self._set_delays(Delays(tuple(asked["text"]), tuple(asked["route"]))),
            "freeze": lambda: self._freeze(asked["place"], asked["frozen"]),
            "pending": lambda: {view.name: view.pending() for view in self.views()},
            "trouble": lambda: self.resolvers[asked["resolver"]].set(Trouble(**asked["trouble"])),
            "asked": lambda: [{"asked": r.asked, "cached": r.cached} for r in self.resolvers],
            "token": lambda: self.state.add_token(**asked),
            "zone": lambda: self.state.add_zone(asked["name"], asked["account"]),
            "data": lambda: self.state.data,
            "tunnels": lambda: {key: self.hub.clients(key) for key in self.state.data["tunnels"]},
            "put": lambda: self._put(asked["kind"], asked["item"]),
            "empty": self._empty,
            "clear": self._clear,
        }
        return orders[order]()

    def _set_delays(self, delays: Delays) -> None:
        self.delays = delays
        for view in self.views():
            view.delays = replace(delays)

    def _freeze(self, place: str, frozen: bool) -> None:
        next(view for view in self.views() if view.name == place).freeze(frozen)

    def _forget(self) -> None:
        self.api.calls.clear()
        for colo in self.colos:
            colo.requests.clear()

    def _put(self, kind: str, item: dict[str, Any]) -> None:
        """Somebody else's object, or ours changed behind our back; it arrives everywhere like any change."""
        with self.state.changing() as data:
            data[kind][item["id"]] = item

    def _clear(self) -> None:
        """Nothing goes wrong any more; what the account holds stays."""
        self.api.faults.set([])
        self._set_delays(Delays())
        for view in self.views():
            view.freeze(False)
        for resolver in self.resolvers:
            resolver.set(Trouble())

    def _empty(self) -> None:
        """An account on its first day: zones and tokens stay."""
        for tunnel in list(self.state.data["tunnels"]):
            self.hub.drop(tunnel)
        with self.state.changing() as data:
            for kind in KINDS:
                if kind not in ("zones", "tokens"):
                    data[kind] = {}

    def described(self) -> dict[str, Any]:
        return {"address": self.address, "delays": asdict(self.delays)}


class _Orders(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    cloudflare: Cloudflare


class _Order(socketserver.StreamRequestHandler):
    server: _Orders

    def handle(self) -> None:
        try:
            answer = {"answer": self.server.cloudflare.obey(json.loads(self.rfile.readline()))}
        except (KeyError, TypeError, ValueError, IndexError, StopIteration) as error:
            answer = {"error": repr(error)}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def serve_control(cloudflare: Cloudflare, folder: Path) -> socketserver.BaseServer:
    """Open the control socket in the folder."""
    orders = _Orders(str(folder / SOCKET), _Order, bind_and_activate=False)
    orders.socket.close()
    orders.socket = control_socket(folder)
    orders.socket.listen(16)
    orders.cloudflare = cloudflare
    threading.Thread(target=orders.serve_forever, args=(0.1,), daemon=True).start()
    return orders


def main(folder: Path, address: str, first_port: int, domain: str) -> None:
    cloudflare = Cloudflare(folder, address, first_port, domain)
    cloudflare.start()
    serve_control(cloudflare, folder)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    stopped.wait()
    os._exit(0)  # connections that stand still must not hold the lab up


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
