"""Monitors that really probe: through the tunnel of each origin, as Cloudflare's do."""

from __future__ import annotations

import re
import time
from typing import Any

from lab.cloudflare.answers import Json
from lab.cloudflare.state import State
from lab.edge.balance import TARGET, Steering
from lab.edge.hub import ConnectorGone, Hub

STEP = 0.5


class Prober:
    """Asks every origin of every pool with a monitor, each at its monitor's interval.

    ``hurry`` divides intervals, so that a lab need not wait the 60 s that cheap plans have.
    """

    def __init__(self, state: State, hub: Hub, steering: Steering, hurry: float = 60.0) -> None:
        self.state, self.hub, self.steering, self.hurry = state, hub, steering, hurry
        self.due: dict[tuple[str, str], float] = {}

    def run(self) -> None:
        """For ever."""
        while True:
            self.step()
            time.sleep(STEP)

    def step(self) -> None:
        """Probe what is due."""
        monitors = self.state.data["monitors"]
        for pool in list(self.state.data["pools"].values()):
            monitor = monitors.get(pool.get("monitor"))
            for origin in pool["origins"] if monitor else ():
                key = (str(pool["id"]), str(origin["address"]))
                if time.monotonic() >= self.due.get(key, 0.0):
                    self.due[key] = time.monotonic() + monitor["interval"] / self.hurry
                    self.steering.seen[key] = self.probe(monitor, origin)

    def probe(self, monitor: Json, origin: Json) -> tuple[bool, str]:
        """Healthy, or why not."""
        connection = self.hub.pick(str(origin["address"]).removesuffix(TARGET))
        if connection is None:
            return False, "No TCP connection available"
        header: dict[str, Any] = {**(monitor.get("header") or {}), **(origin.get("header") or {})}
        hosts = header.get("Host") or [origin["address"]]
        head = {
            "method": monitor["method"],
            "path": monitor["path"],
            "headers": [["Host", hosts[0]], ["User-Agent", "Cloudflare-Traffic-Manager"]],
        }
        try:
            answer, body = connection.exchange(head, ())
            text = b"".join(body).decode(errors="replace")
        except ConnectorGone:
            return False, "TCP connection failed"
        if not _expected(str(monitor["expected_codes"]), int(answer["status"])):
            return False, "Response code mismatch error"
        if monitor["expected_body"].lower() not in text.lower():
            return False, "Response body mismatch error"
        return True, ""


def _expected(codes: str, status: int) -> bool:
    patterns = [code.strip().lower().replace("x", r"\d") for code in codes.split(",")]
    return any(re.fullmatch(pattern, str(status)) for pattern in patterns)
