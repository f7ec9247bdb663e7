"""Serves the emulated API until it is stopped: python -m lab.hetzner FOLDER PORT SUBNET [--no-machines]."""

from __future__ import annotations

import ipaddress
import json
import sys
from pathlib import Path

from lab.hetzner.actions import Pace
from lab.hetzner.api import Api, ApiServer, Token
from lab.hetzner.machines import LabMachines, Machines
from lab.hetzner.project import Project
from lab.hetzner.state import PROJECTS, State
from lab.images_build import wanted_images
from lab.settings import find_settings
from lab.store import complete_stores, store_name

TOKENS = "tokens.json"


def prepared_store() -> str | None:
    """The Docker store that new hosts begin with, as far as it has been built."""
    wanted = store_name(wanted_images(find_settings().root))
    return wanted if wanted in [store.name for store in complete_stores()] else None


def make_api(folder: Path, subnet: str, machines: Machines, seconds: float) -> Api:
    """The API on the state kept in the folder, with the tokens noted there."""
    projects = {
        name: Project(State(folder / f"{name}.json", name, subnet), machines, Pace(seconds))
        for name in PROJECTS
    }
    for project in projects.values():
        project.actions.resume()
    noted = json.loads((folder / TOKENS).read_text())
    return Api(projects, {value: Token(**token) for value, token in noted.items()})


def main() -> None:
    folder, port, subnet = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    gateway = str(ipaddress.ip_network(subnet)[1])
    machines = LabMachines(find_settings(), gateway, prepared_store)
    server = ApiServer(("127.0.0.1", port), make_api(folder, subnet, machines, seconds=1.0))
    server.serve_forever()


if __name__ == "__main__":
    main()
