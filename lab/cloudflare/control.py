"""The hand on the switches of a lab's Cloudflare, for tests:

cloud.faults(Fault("lost", path="/batch", times=1))
cloud.delays(text=(0.5, 4), route=(0.5, 4))
assert cloud.writes() == []
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.cloudflare.answers import Json
from lab.cloudflare.faults import Fault
from lab.cloudflare.state import ALL
from lab.edge.doh import Trouble
from lab.shell import LabError

SOCKET = "cloudflare.sock"
ASK_SECONDS = 10
WRITES = ("POST", "PUT", "PATCH", "DELETE")


def control_socket(folder: Path) -> socket.socket:
    """The control socket, bound by a short name: a socket's address has room for 108 bytes."""
    (folder / SOCKET).unlink(missing_ok=True)
    number = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{number}/{SOCKET}")
    finally:
        os.umask(old)
        os.close(number)
    return listener


class Control:
    """Orders to the running program; ``folder`` is where its socket lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, order: str, **asked: Any) -> Any:
        """One order and its answer. LabError when nothing runs there or it refuses."""
        number = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ASK_SECONDS)
                connection.connect(f"/proc/self/fd/{number}/{SOCKET}")
                connection.sendall(json.dumps({"order": order, **asked}).encode() + b"\n")
                with connection.makefile("rb") as answers:
                    answer = json.loads(answers.readline() or b"{}")
        except OSError as error:
            raise LabError(f"the lab's Cloudflare does not answer: {error}") from error
        finally:
            os.close(number)
        if "answer" not in answer:
            raise LabError(f"the lab's Cloudflare refused: {answer.get('error', 'no answer')}")
        return answer["answer"]

    def faults(self, *faults: Fault) -> None:
        """The API goes wrong like this from now on, and in no other way."""
        self.ask("faults", faults=[asdict(fault) for fault in faults])

    @contextmanager
    def faulty(self, *faults: Fault) -> Iterator[None]:
        """Goes wrong inside the block only."""
        self.faults(*faults)
        try:
            yield
        finally:
            self.faults()

    def calls(self) -> list[Json]:
        """Calls of the API since the last ``forget``: method, path, status, at."""
        found: list[Json] = self.ask("calls")
        return found

    def writes(self) -> list[str]:
        """Those that may change something, whether or not they worked."""
        return [f"{call['method']} {call['path']}" for call in self.calls() if call["method"] in WRITES]

    def requests(self) -> list[Json]:
        """Visitors' requests since the last ``forget``: at, host, method, path, colo, tunnel, status, ms."""
        found: list[Json] = self.ask("requests")
        return sorted(found, key=lambda row: float(row["at"]))

    def forget(self) -> None:
        """Nothing has been asked yet."""
        self.ask("forget")

    def delays(self, text: tuple[float, float], route: tuple[float, float]) -> None:
        """Seconds (shortest, longest) until a change is known at each colo and resolver, by kind of record."""
        self.ask("delays", text=text, route=route)

    def freeze(self, place: str, frozen: bool = True) -> None:
        """A colo (ams, fra, vie) or a resolver (resolver-0, resolver-1) learns nothing new."""
        self.ask("freeze", place=place, frozen=frozen)

    def pending(self) -> int:
        """Changes that have not arrived everywhere."""
        return sum(self.ask("pending").values())

    def settle(self, seconds: float = 30.0) -> None:
        """Wait until every change has arrived everywhere."""
        deadline = time.monotonic() + seconds
        while self.pending():
            if time.monotonic() > deadline:
                raise LabError(f"changes have not arrived everywhere within {seconds:g} s")
            time.sleep(0.05)

    def trouble(self, resolver: int, trouble: Trouble | None = None) -> None:
        """A resolver (0 or 1) misbehaves like this; without one it behaves."""
        self.ask("trouble", resolver=resolver, trouble=asdict(trouble or Trouble()))

    def token(
        self,
        permissions: Sequence[str] = ALL,
        zones: Sequence[str] | None = None,
        status: str = "active",
        value: str = "",
    ) -> str:
        """A new API token with these permissions (lab/cloudflare/state.py)."""
        names = list(zones) if zones is not None else None
        return str(self.ask("token", permissions=list(permissions), zones=names, status=status, value=value))

    def zone(self, name: str, account: str | None = None) -> str:
        """A further zone; returns its id."""
        return str(self.ask("zone", name=name, account=account))

    def data(self) -> Json:
        """All that the account holds, by kind and id."""
        found: Json = self.ask("data")
        return found

    def records(self) -> dict[str, Json]:
        """Records by type and name."""
        return {f"{r['type']} {r['name']}": r for r in self.data()["records"].values()}

    def put(self, kind: str, item: Json) -> None:
        """An object of somebody else, or one of ours changed behind our back."""
        self.ask("put", kind=kind, item=item)

    def connectors(self) -> dict[str, int]:
        """Connections by the tunnel's name."""
        names = {key: tunnel["name"] for key, tunnel in self.data()["tunnels"].items()}
        found = self.ask("tunnels").items()
        return {names[key]: sum(len(c["conns"]) for c in clients) for key, clients in found}

    def clear(self) -> None:
        """Nothing goes wrong any more; what the account holds stays."""
        self.ask("clear")

    def empty(self) -> None:
        """An account on its first day; zones and tokens stay."""
        self.ask("empty")
