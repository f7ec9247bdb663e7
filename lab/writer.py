"""Writers and readers outside the hosts: they ask public names at every colo of the lab's edge, and remember each answer.

A stand-in numbers its rows itself and goes on from what its data holds: a number that is not higher than the one before
tells what a failover brought back, and so what it lost.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

TIMEOUT = 5.0
COMMIT, ROWS = "/_lab/commit", "/_lab/rows"


@dataclass(frozen=True)
class Try:
    """One request: when it was sent and answered (seconds since the epoch), its status (0: none), the row's number."""

    sent: float
    over: float
    status: int
    number: int = 0

    @property
    def ok(self) -> bool:
        return self.status == 200


def ask(method: str, front: str, name: str, path: str) -> tuple[int, bytes]:
    """One request for a public name at a colo's front. Returns (status, body), (0, b"") without an answer."""
    place = urlsplit(front)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT)
    try:
        connection.request(method, path, headers={"Host": name, "Content-Length": "0"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


class Visitor(threading.Thread):
    """Asks for one public name without end, each time at the next colo; ``tries`` in the order they were made."""

    def __init__(self, fronts: Sequence[str], name: str, method: str, path: str, pause: float) -> None:
        super().__init__(daemon=True)
        self.fronts, self.name_, self.method, self.path, self.pause = fronts, name, method, path, pause
        self.tries: list[Try] = []
        self._over = threading.Event()

    def run(self) -> None:
        for front in itertools.cycle(self.fronts):
            if self._over.is_set():
                return
            sent = time.time()
            status, body = ask(self.method, front, self.name_, self.path)
            self.tries.append(Try(sent, time.time(), status, self.number(body) if status == 200 else 0))
            self._over.wait(self.pause)

    def number(self, body: bytes) -> int:
        return 0

    def end(self) -> None:
        """Stop after the request under way."""
        self._over.set()
        self.join(TIMEOUT + 1)

    def answered_since(self, moment: float) -> int:
        """How many requests sent after a moment were answered with 200."""
        return sum(one.ok and one.sent > moment for one in list(self.tries))

    def longest_gap(self, since: float = 0.0) -> float:
        """The longest time between two good answers, in seconds."""
        good = [one.over for one in list(self.tries) if one.ok and one.over >= since]
        return max((b - a for a, b in itertools.pairwise(good)), default=0.0)

    def failed(self, since: float = 0.0) -> int:
        return sum(not one.ok and one.sent >= since for one in list(self.tries))


class Writer(Visitor):
    """Has a stand-in write rows."""

    def __init__(self, fronts: Sequence[str], name: str, pause: float = 0.1) -> None:
        super().__init__(fronts, name, "POST", COMMIT, pause)

    def number(self, body: bytes) -> int:
        return int(json.loads(body)["n"])

    def rows(self) -> dict[str, object]:
        """What the service says of the rows it has, asked through the first colo that answers."""
        for front in self.fronts:
            status, body = ask("GET", front, self.name_, ROWS)
            if status == 200:
                found: dict[str, object] = json.loads(body)
                return found
        raise RuntimeError(f"{self.name_} does not tell its rows at any colo")

    def loss(self, since: float = 0.0) -> Loss:
        """What became of the acknowledged rows, looking at tries sent after ``since``."""
        return judge([one for one in list(self.tries) if one.ok and one.sent >= since])


@dataclass(frozen=True)
class Loss:
    """``acknowledged`` rows in all, ``lost`` the tries whose row is gone, ``back_at`` the number that data began anew after."""

    acknowledged: int
    lost: list[Try] = field(default_factory=list)
    back_at: int | None = None


def judge(good: Sequence[Try]) -> Loss:
    """Of acknowledged rows in order: those with a number that was given out again later are lost."""
    lost: list[Try] = []
    back_at: int | None = None
    for index in range(1, len(good)):
        if good[index].number <= good[index - 1].number:
            back_at = good[index].number - 1
            lost += [one for one in good[:index] if one.number > back_at and one not in lost]
    return Loss(len(good), lost, back_at)


@dataclass
class Crowd:
    """A writer and a reader for each public name. ``names``: public name to the path that readers ask for."""

    fronts: Sequence[str]
    names: dict[str, str]
    writers: list[Writer] = field(default_factory=list)
    readers: list[Visitor] = field(default_factory=list)

    def __enter__(self) -> Crowd:
        self.writers = [Writer(self.fronts, name) for name in self.names]
        self.readers = [Visitor(self.fronts, name, "GET", path, 0.1) for name, path in self.names.items()]
        for one in self.everyone():
            one.start()
        self.wait_for_rows()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.everyone():
            one._over.set()
        for one in self.everyone():
            one.end()

    def everyone(self) -> Iterable[Visitor]:
        return [*self.writers, *self.readers]

    def wait_for_rows(self, count: int = 3, seconds: float = 60.0) -> None:
        """Until every writer has had ``count`` more rows acknowledged. Raises RuntimeError."""
        moment, until = time.time(), time.monotonic() + seconds
        while silent := [w.name_ for w in self.writers if w.answered_since(moment) < count]:
            if time.monotonic() > until:
                raise RuntimeError(f"no row of {', '.join(silent)} was acknowledged within {seconds:g} s")
            time.sleep(0.1)
