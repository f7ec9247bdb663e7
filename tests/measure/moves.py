"""What the measurements of switchovers and failovers share: the lab's two hosts, its edge, and one verb run to its end."""

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

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("UNDERSTUDY_LAB_RESOLVERS", "lab")

from lab import hosts, staging, world  # noqa: E402
from lab.cloudflare.place import Cloudflare  # noqa: E402
from lab.facts import Facts  # noqa: E402
from lab.settings import find_settings  # noqa: E402
from lab.ssh import on_host  # noqa: E402
from understudy import project  # noqa: E402
from understudy.traffic import flip  # noqa: E402
from understudy.traffic.edge import Edge, open_edge  # noqa: E402

INVENTORY = "inventory/lab.py"
GROUP = "critical"
NAMES = {"vault.example.org": "/alive", "cloud.example.org": "/status.php"}
"""Public names of the group's services with data, and what readers ask for."""
HOSTS = ("lemongrab", "standby")


class Broken(Exception):
    """A verb did not do what was asked; the message is its output."""


class Moves:
    """The staged lab, converged on both hosts with a backup in the repository."""

    def __init__(self) -> None:
        self.settings = find_settings()
        self.facts: Facts = staging.staged(self.settings)
        world.use_lab_key()
        self.cloud: Cloudflare = world.cloud()
        self.edge: Edge = open_edge(project.hosts(INVENTORY))

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
        """(exit code, standard output, messages) of an ``understudy`` verb."""
        argv = [sys.executable, "-m", "understudy.cli", *words, "-i", INVENTORY]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYINFRA_PROGRESS": "off"}
        done = subprocess.run(
            argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def move(self, verb: str, to: str, *words: str) -> dict[str, Any]:
        """The record of a move that ended well. Raises Broken."""
        code, out, said = self.verb(verb, "--to", to, "--group", GROUP, "--json", *words)
        if code != 0:
            raise Broken(f"{verb} --to {to}: exit {code}\n{said[-3000:]}")
        found: dict[str, Any] = json.loads(out)[0]
        return found

    def batch_at(self, since: float) -> float:
        """When the last batch since a moment was carried out."""
        calls = [call for call in self.cloud.control.calls() if call["path"].endswith("/batch")]
        return max(float(call["at"]) for call in calls if call["at"] >= since and call["status"] == 200)

    def superseded(self, old: str, batch: float) -> int:
        """Writes acknowledged through the edge that a host served which had lost the group more than a moment ago."""
        tunnel = self.tunnel(old)
        return sum(
            row["method"] == "POST" and row["status"] == 200 and row["tunnel"] == tunnel and row["at"] > batch
            for row in self.cloud.control.requests()
        )

    def size(self, host: str) -> str:
        """How much the group's live data is."""
        sizes = self.run(
            host, "du -sbc /home/docker-projects/vaultwarden /home/docker-projects/nextcloud | tail -1"
        )
        return f"{int(sizes.split()[0]) / 1e6:.1f} MB in files"


def took(record: dict[str, Any], step: str) -> float:
    """Seconds of a step, all its tries together."""
    return round(sum(one["seconds"] for one in record["steps"] if one["step"] == step), 1)


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
