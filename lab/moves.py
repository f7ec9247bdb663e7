"""The lab's two hosts, its edge, and verbs run to their end: what the demo and the measurements of moves share."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import hosts, staging, world
from lab.cloudflare.place import Cloudflare
from lab.facts import Facts
from lab.settings import find_settings
from lab.ssh import on_host
from understudy import hostside, project
from understudy.baseline import AGENT
from understudy.traffic import flip
from understudy.traffic.edge import Edge, open_edge

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = "inventory/lab.py"
GROUP = "critical"
NAMES = {"vault.example.org": "/alive", "cloud.example.org": "/status.php"}
"""Public names of the group's services with data, and what readers ask for."""
HOSTS = ("lemongrab", "standby")


class Broken(Exception):
    """A verb did not do what was asked; the message is its output."""


class Moves:
    """The staged lab. ``folder`` and ``inventory``: the project whose verbs are run, this checkout's own by default."""

    def __init__(self, folder: Path = ROOT, inventory: str = INVENTORY) -> None:
        self.folder, self.inventory = folder, inventory
        os.environ.setdefault(world.RESOLVERS, "lab")  # with them the hosts have guards
        self.settings = find_settings()
        self.facts: Facts = staging.staged(self.settings)
        world.use_lab_key()
        self.cloud: Cloudflare = world.cloud()
        self.edge: Edge = open_edge(project.hosts(str(folder / inventory)))

    def owner(self) -> str:
        return flip.read(self.edge, [GROUP])[GROUP].ownership.owner

    def other(self, host: str) -> str:
        return next(name for name in HOSTS if name != host)

    def tunnel(self, host: str) -> str:
        return self.edge.tunnel_of(host).id

    def run(self, host: str, command: str, timeout: float = 120) -> str:
        found = on_host(self.settings, self.facts.hosts[host].ip, command, timeout=timeout, check=True)
        return str(found.stdout).strip()

    def kill(self, host: str) -> None:
        hosts.power_cut(self.facts.hosts[host].container)

    def switch_on(self, host: str) -> None:
        staging.switch_on(self.settings, self.facts.hosts[host])

    def verb(self, *words: str, timeout: float = 1800) -> tuple[int, str, str]:
        """(exit code, standard output, messages) of an ``understudy`` verb, run as a person would."""
        argv = [sys.executable, "-m", "understudy.cli", *words, "-i", self.inventory]
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYINFRA_PROGRESS": "off"}
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def succeed(self, *words: str) -> str:
        """Standard output of a verb. Raises Broken when it does not end well."""
        code, out, said = self.verb(*words)
        if code != 0:
            raise Broken(f"understudy {' '.join(words)}: exit {code}\n{(said or out)[-3000:]}")
        return out

    def agent(self, host: str, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        """The reply of a verb of the agent on a host."""
        command = f"/usr/bin/python3 -IB {AGENT} {verb} -"
        found = on_host(
            self.settings, self.facts.hosts[host].ip, command, stdin=json.dumps(request) + "\n", timeout=120
        )
        return hostside.parse(str(found.stdout).splitlines())

    def move(self, verb: str, to: str, *words: str) -> dict[str, Any]:
        """The record of a move that ended well. Raises Broken."""
        found: dict[str, Any] = json.loads(
            self.succeed(verb, "--to", to, "--group", GROUP, "--json", *words)
        )[0]
        return found

    def batch_at(self, since: float) -> float:
        """When the last batch since a moment was carried out."""
        calls = [call for call in self.cloud.control.calls() if call["path"].endswith("/batch")]
        times = [float(call["at"]) for call in calls if call["at"] >= since and call["status"] == 200]
        return max(times)

    def superseded(self, old: str, batch: float) -> int:
        """Writes acknowledged through the edge that a host served which had lost the group more than a moment ago."""
        tunnel = self.tunnel(old)
        rows = [row for row in self.cloud.control.requests() if row["tunnel"] == tunnel and row["at"] > batch]
        return len([row for row in rows if row["method"] == "POST" and row["status"] == 200])

    def size(self, host: str) -> str:
        """How much the group's live data is."""
        sizes = self.run(
            host, "du -sbc /home/docker-projects/vaultwarden /home/docker-projects/nextcloud | tail -1"
        )
        return f"{int(sizes.split()[0]) / 1e6:.1f} MB in files"


def took(record: dict[str, Any], step: str) -> float:
    """Seconds of a step, all its tries together."""
    return round(sum(float(one["seconds"]) for one in record["steps"] if one["step"] == step), 1)


def at(record: dict[str, Any], step: str) -> float:
    """Seconds from the start to the end of the last time a step was done."""
    found = [float(one["at"]) for one in record["steps"] if one["step"] == step]
    return found[-1] if found else float("nan")


def spread(values: Sequence[float]) -> str:
    return f"{min(values):.1f} / {statistics.median(values):.1f} / {max(values):.1f}"


def settled(moves: Moves, until: float = 60.0) -> None:
    """Wait until every colo and resolver knows all."""
    moves.cloud.control.settle(until)
    time.sleep(0.5)
