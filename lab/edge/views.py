"""What one place of Cloudflare's network knows of a zone: every change arrives there after a delay of its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from lab.cloudflare.answers import Json

TEXT = "TXT"
ROUTE = "CNAME"


@dataclass(frozen=True)
class Delays:
    """Seconds, shortest and longest, until a change of the API is known at a place; drawn evenly for each change, place
    and kind: text records and all others on their own, so that the two come in any order.
    """

    text: tuple[float, float] = (0.2, 2.0)
    route: tuple[float, float] = (0.2, 2.0)

    def draw(self, record: Json) -> float:
        low, high = self.text if record["type"] == TEXT else self.route
        return random.uniform(low, high)  # noqa: S311 - a delay, no secret


class View:
    """One place. It starts with what is there and learns from then on, unless it is ``frozen``."""

    def __init__(self, name: str, records: Iterable[Json], delays: Delays) -> None:
        self.name = name
        self.delays = delays
        self.lock = threading.Lock()
        self.known: dict[str, Json] = {record["id"]: record for record in records}
        self.versions: dict[str, int] = {}
        self.coming: list[tuple[float, int, str, Json | None]] = []
        self.counter = 0
        self.frozen = False

    def learn(self, gone: list[Json], changed: list[Json]) -> None:
        """A change was made at the API. All text records of one change arrive together, and all others together."""
        now = time.monotonic()
        with self.lock:
            self.counter += 1
            drawn: dict[bool, float] = {}
            news = [(record, None) for record in gone] + [(record, record) for record in changed]
            for record, new in news:
                delay = drawn.setdefault(record["type"] == TEXT, self.delays.draw(record))
                self.coming.append((now + delay, self.counter, record["id"], new))

    def records(self, name: str) -> list[Json]:
        """The records of a name, as known here now."""
        with self.lock:
            self._settle()
            return [record for record in self.known.values() if record["name"] == name]

    def freeze(self, frozen: bool) -> None:
        """Learn nothing from now on, or go on and catch up."""
        with self.lock:
            self._settle()
            self.frozen = frozen

    def pending(self) -> int:
        """How many changes have not arrived yet."""
        with self.lock:
            self._settle()
            return len(self.coming)

    def _settle(self) -> None:
        if self.frozen:
            return
        now = time.monotonic()
        due = sorted(item for item in self.coming if item[0] <= now) if self.coming else []
        if not due:
            return
        self.coming = [item for item in self.coming if item[0] > now]
        for _, version, key, record in sorted(due, key=lambda item: item[1]):
            if version < self.versions.get(key, 0):
                continue  # a newer change of this record was quicker
            self.versions[key] = version
            if record is None:
                self.known.pop(key, None)
            else:
                self.known[key] = record
