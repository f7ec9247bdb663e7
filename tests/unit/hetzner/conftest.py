"""The emulated Hetzner in this process, with servers that have no machines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.hetzner.__main__ import TOKENS, make_api
from lab.hetzner.api import Api, ApiServer
from lab.hetzner.faults import Fault
from lab.hetzner.machines import NoMachines
from understudy.hetzner import Access, Hetzner

GRANTS = {
    "lab-owner": {"project": "lab"},
    "lab-reader": {"project": "lab", "read_only": True},
    "lab-stranger": {"project": "other"},
}


class Cloud:
    """The API, the way to it, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / TOKENS).write_text(json.dumps(GRANTS))
        self.server: ApiServer | None = None
        self.start()

    def start(self) -> None:
        self.api: Api = make_api(self.folder, "10.9.9.0/24", NoMachines(), seconds=0.05)
        self.server = ApiServer(("127.0.0.1", 0), self.api)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        assert self.server
        self.server.shutdown()
        self.server.server_close()

    @property
    def endpoint(self) -> str:
        assert self.server
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def client(self, token: str = "lab-owner", read: float = 2.0, patience: float = 3.0) -> Hetzner:
        return Hetzner(Access(token, self.endpoint, read=read, patience=patience))

    def faults(self, *faults: Fault) -> None:
        self.api.faults.set([vars(fault) for fault in faults])

    @property
    def writes(self) -> list[tuple[str, str, int]]:
        return [(c["method"], c["path"], c["status"]) for c in self.api.calls if c["method"] != "GET"]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def hear(heard: list[str]) -> Callable[[str], None]:
    return heard.append
