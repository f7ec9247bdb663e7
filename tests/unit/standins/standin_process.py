"""A stand-in as a process of its own, and what the tests know of each."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
STANDINS = ROOT / "lab/standins"


@dataclass(frozen=True)
class Known:
    """What the tests know of one stand-in; paths are below its root."""

    name: str
    service: str
    database: str
    wal: bool | None = None
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    beside: str | None = None


KNOWN = [
    Known("vaultwarden", "vaultwarden", "data/db.sqlite3", True, beside="data/attachments/x/y"),
    Known("jellyfin", "jellyfin", "config/data/jellyfin.db", True, beside="config/config/system.xml"),
    Known("kitchenowl", "kitchenowl", "data/database.db", False, beside="data/upload/picture.jpg"),
    Known("travelsync", "travelsync", "app/data/documents_calendar.db", False, beside="app/uploads/ticket.pdf"),
    Known("goatcounter", "goatcounter", "home/goatcounter/db/goatcounter.sqlite3", True,
          ("serve", "-db", "sqlite+/home/goatcounter/db/goatcounter.sqlite3"),
          beside="home/goatcounter/db/goatcounter.sqlite3-wal"),
    Known("uptime_kuma", "uptime-kuma", "app/data/kuma.db", True, beside="app/data/upload/icon.png"),
    Known("portainer", "portainer", "data/portainer.db", beside="data/portainer.key"),
    Known("gokapi", "gokapi", "home/apps/gokapi-data/gokapi.sqlite", True,
          ("-cd", "/home/apps/gokapi/config", "-d", "/home/apps/gokapi-data"),
          beside="home/apps/gokapi-data/da39a3ee5e6b"),
    Known("planning_poker", "planning-poker", "poker.db", False, beside="poker.db-journal"),
]  # fmt: skip
BY_NAME = {known.name: known for known in KNOWN}
SQLITE = [known for known in KNOWN if known.wal is not None]


def names(chosen: list[Known]) -> list[str]:
    return [known.name for known in chosen]


class Running:
    """One stand-in as a process of its own, on a free port, with a folder as its root."""

    def __init__(self, name: str, root: Path, arguments: tuple[str, ...] = (), **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = {"STANDIN_ROOT": str(root), "STANDIN_PORT": str(self.port), "STANDIN_ADDRESS": "127.0.0.1",
                    "STANDIN_IMAGE": "example/app:1.2.3", "PYTHONPATH": str(STANDINS)}  # fmt: skip
        command = [sys.executable, "-B", "-m", "standin", name, *arguments]
        self.process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], **settings, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, names, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    def json(self, method: str, path: str) -> Any:
        status, body, _ = self.request(method, path)
        assert status == 200, body
        return json.loads(body)

    def commit(self, query: str = "") -> int:
        return int(self.json("POST", f"/_lab/commit{query}")["n"])

    def wait(self) -> Running:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            assert self.process.poll() is None, self.process.communicate()[1].decode()
            try:
                self.request("GET", "/_lab/version")
                return self
            except OSError:
                time.sleep(0.05)
        raise AssertionError("did not answer")

    def refusal(self) -> str:
        """Its last words, when it must not start."""
        _, error = self.process.communicate(timeout=10)
        assert self.process.returncode == 1, error.decode()
        return error.decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.communicate(timeout=30)
        return self.process.returncode


Start = Callable[..., Running]
