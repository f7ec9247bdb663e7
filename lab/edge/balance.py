"""Load balancers at the edge: which pool's origin a name goes to, by what the monitors have seen."""

from __future__ import annotations

from typing import Any

from lab.cloudflare.state import State

TARGET = ".cfargotunnel.com"


class Steering:
    """Follows pool order (steering_policy "off"): the first pool with a healthy origin, else the fallback."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.seen: dict[tuple[str, str], tuple[bool, str]] = {}

    def tunnel(self, host: str) -> str:
        """The tunnel for a name that a load balancer serves, "" for every other name."""
        balancers = [
            b for b in self.state.data["load_balancers"].values() if b["name"] == host and b["enabled"]
        ]
        if not balancers:
            return ""
        pools = self.state.data["pools"]
        for key in balancers[0]["default_pools"]:
            if found := self._origin(pools[key], sick=False):
                return found
        return self._origin(pools[balancers[0]["fallback_pool"]], sick=True)

    def _origin(self, pool: dict[str, Any], *, sick: bool) -> str:
        """The tunnel of the pool's first origin; ``sick``: whatever its health, as nothing else is left."""
        for origin in pool["origins"] if pool["enabled"] else ():
            if origin.get("enabled", True) and (sick or self.healthy(pool, origin)[0]):
                return str(origin["address"]).removesuffix(TARGET)
        return ""

    def healthy(self, pool: dict[str, object], origin: dict[str, object]) -> tuple[bool, str]:
        """What the last probe of an origin said; one that nobody has probed yet counts as healthy."""
        return self.seen.get((str(pool["id"]), str(origin["address"])), (True, ""))
