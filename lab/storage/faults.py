"""What can go wrong on the way to a store, and the hand on its switches.

The relay itself (lab/storage/relay.py) runs as a program of its own; FaultRelay speaks to it from tests:

    relay.set("offsite", Faults(fail_status=503, fail_share=0.3))
    with relay.counting("offsite") as seen: ...
    assert seen.total <= 15
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.shell import LabError

SOCKET = "relay.sock"
ASK_SECONDS = 10


@dataclass(frozen=True)
class Faults:
    """How one endpoint misbehaves. The default is not at all.

    ``latency``: seconds each request (or TCP connection) waits. ``bandwidth``: bytes a second, both ways and all
    connections together; 0 for no limit. ``fail_status``: answered instead of the store, with the S3 error
    ``fail_code``, to ``fail_share`` of the requests that match, ``fail_times`` of them at most (0: no end).
    ``full_after``: uploads that would go beyond so many bytes since this was set get ``full_status``; -1 for off.
    ``cut_after``: a connection is reset once so many bytes of bodies went over it, either way; -1 for off;
    ``cut_times`` connections at most (0: no end). ``hang``: nothing is answered, nothing is closed. ``hang_after``: the
    same once so many bytes of bodies have passed, all connections and both ways together; -1 for off.
    ``date_shift``: seconds added to the store's Date header. ``kinds`` (GET, LIST, PUT, ...) and ``path`` (a part of
    the address) limit which requests latency, failing and cutting are for; empty means all.
    """

    latency: float = 0.0
    bandwidth: int = 0
    fail_status: int = 0
    fail_code: str = "SlowDown"
    fail_share: float = 1.0
    fail_times: int = 0
    full_after: int = -1
    full_status: int = 507
    cut_after: int = -1
    cut_times: int = 0
    hang: bool = False
    hang_after: int = -1
    date_shift: int = 0
    kinds: tuple[str, ...] = ()
    path: str = ""


@dataclass(frozen=True)
class Request:
    """One request as the relay saw it. `status` 0: no answer was given. Bytes are those of bodies."""

    kind: str
    target: str
    status: int
    sent: int
    received: int
    seconds: float


@dataclass
class Counts:
    """What went through an endpoint. `kinds` are HTTP methods, with LIST for a GET that lists."""

    kinds: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    faulted: int = 0
    sent: int = 0
    received: int = 0

    @property
    def total(self) -> int:
        return sum(self.kinds.values())


class FaultRelay:
    """The control of a running relay; `folder` is where its socket lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, **request: Any) -> Any:
        """One order and its answer. LabError when no relay runs or it refuses."""
        # A socket's address has to be short, and the state folder of a lab need not be.
        folder = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ASK_SECONDS)
                connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile("rb") as answers:
                    answer = json.loads(answers.readline() or b"{}")
        except OSError as error:
            raise LabError(f"the relay before the stores does not answer: {error}") from error
        finally:
            os.close(folder)
        if "answer" not in answer:
            raise LabError(f"the relay before the stores refused: {answer.get('error', 'no answer')}")
        return answer["answer"]

    def endpoints(self) -> list[str]:
        found: list[str] = self.ask(order="endpoints")
        return found

    def set(self, endpoint: str, faults: Faults) -> None:
        """The endpoint misbehaves like this from now on, and in no other way."""
        self.ask(order="set", endpoint=endpoint, faults=asdict(faults))

    def clear(self, endpoint: str = "") -> None:
        """One endpoint, or every one, behaves again."""
        for name in [endpoint] if endpoint else self.endpoints():
            self.set(name, Faults())

    def cut(self, endpoint: str) -> int:
        """Resets every open connection of the endpoint; returns how many."""
        return int(self.ask(order="cut", endpoint=endpoint))

    def counts(self, endpoint: str) -> Counts:
        """What went through since the last reset."""
        return Counts(**self.ask(order="counts", endpoint=endpoint))

    def requests(self, endpoint: str) -> list[Request]:
        """The requests since the last reset, oldest first; the last 5000 at most."""
        return [Request(*row) for row in self.ask(order="requests", endpoint=endpoint)]

    def reset(self, endpoint: str = "") -> None:
        """Forgets what was counted, at one endpoint or at all."""
        for name in [endpoint] if endpoint else self.endpoints():
            self.ask(order="reset", endpoint=name)

    @contextmanager
    def counting(self, endpoint: str) -> Iterator[Counts]:
        """Counts from zero; the yielded counts are filled when the block ends."""
        self.reset(endpoint)
        seen = Counts()
        yield seen
        seen.__dict__.update(self.counts(endpoint).__dict__)

    @contextmanager
    def faulty(self, endpoint: str, faults: Faults) -> Iterator[None]:
        """Misbehaves inside the block only."""
        self.set(endpoint, faults)
        try:
            yield
        finally:
            self.clear(endpoint)
