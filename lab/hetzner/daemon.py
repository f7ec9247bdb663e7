"""The emulated Hetzner as a program of one lab: started by `lab up`, known to tests and to the lab's inventory."""

from __future__ import annotations

import json
import secrets
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.facts import Facts
from lab.hetzner.__main__ import TOKENS
from lab.hetzner.faults import Fault
from lab.settings import Settings
from lab.storage import daemons
from lab.storage.place import LOOPBACK, answers, find_place, write_private

NAME = "hetzner"
OWNERS = {
    "owner": {"project": "lab"},
    "reader": {"project": "lab", "read_only": True},
    "stranger": {"project": "other"},
}


@dataclass(frozen=True)
class Hetzner:
    """The emulated Hetzner of one lab. Its owner's token opens the project `lab`."""

    folder: Path
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/v1"

    def token(self, owner: str = "owner") -> str:
        """The token of the owner, of a `reader` who may change nothing, or of a `stranger` with a project of his own."""
        noted: dict[str, Any] = json.loads((self.folder / TOKENS).read_text())
        return next(value for value in noted if value.startswith(f"lab-{owner}-"))

    def environment(self, owner: str = "owner") -> dict[str, str]:
        """What makes the product, and Hetzner's own hcloud command, speak to it."""
        return {"HCLOUD_ENDPOINT": self.endpoint, "HCLOUD_TOKEN": self.token(owner)}

    def control(self, method: str, name: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"http://{LOOPBACK}:{self.port}/_lab/{name}"
        request = urllib.request.Request(url, data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    def faults(self, *faults: Fault) -> None:
        """These faults and no others."""
        self.control("PUT", "faults", [vars(fault) for fault in faults])

    def calls(self) -> list[dict[str, Any]]:
        """Every request since the last `forget`: method, path, status, at."""
        found: list[dict[str, Any]] = self.control("GET", "calls")["calls"]
        return found

    def writes(self) -> list[dict[str, Any]]:
        return [call for call in self.calls() if call["method"] != "GET"]

    def forget(self) -> None:
        """The count begins again."""
        self.control("DELETE", "calls")

    def settings(self, **values: float) -> None:
        """``seconds`` an action takes at least, ``servers`` allowed, ``rate`` of requests an hour."""
        self.control("PUT", "settings", values)


def folder_of(settings: Settings) -> Path:
    return settings.state / NAME


def find_hetzner(settings: Settings) -> Hetzner:
    """The lab's Hetzner as noted; ports and tokens are made on first use, nothing is started."""
    folder = folder_of(settings)
    place = find_place(folder, LOOPBACK)
    if not (folder / TOKENS).exists():
        made = {f"lab-{owner}-{secrets.token_hex(16)}": grant for owner, grant in OWNERS.items()}
        write_private(folder / TOKENS, json.dumps(made, indent=2) + "\n")
    return Hetzner(folder, place.port(0))


def program(settings: Settings, facts: Facts) -> daemons.Daemon:
    hetzner = find_hetzner(settings)
    argv = [sys.executable, "-m", "lab.hetzner", str(hetzner.folder), str(hetzner.port), facts.subnet]
    source = Path(__file__).resolve().parent
    inputs = (*sorted(source.glob("*.py")), source / "catalog.yaml")
    environment = {"PYTHONPATH": str(source.parent.parent), "UNDERSTUDY_LAB": str(settings.state)}
    return daemons.Daemon(
        NAME, hetzner.folder, argv, lambda: answers(LOOPBACK, hetzner.port), inputs, environment
    )


def up(settings: Settings, facts: Facts) -> bool:
    """Running afterwards; returns whether it had to be started."""
    return program(settings, facts).ensure()


def down(settings: Settings) -> None:
    """Ends it and forgets every project; ports and tokens stay what they are. Its hosts go with the lab's others."""
    folder = folder_of(settings)
    daemons.stop_all(folder)
    for path in [*folder.glob("lab.json"), *folder.glob("other.json"), *folder.glob("*.log")]:
        path.unlink(missing_ok=True)
