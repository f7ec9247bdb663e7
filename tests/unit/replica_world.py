"""Two scratch hosts that may own a group: plain folders and SQLite, one real repository, and a host's tools as scripts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from putback_world import World, database, service

from understudy.agent import demote, guard, may, promote, refresh
from understudy.agent.owner.record import Ownership

GROUP = "rest"
Checkpoint = Callable[[str], None] | None

# Each stand-in keeps what it was told in files beside it: tables that are loaded, units that run.
NFT = """#!/bin/sh
here="$0.tables"; mkdir -p "$here"
if [ "$1" = list ]; then test -e "$here/$4"; exit; fi
rules=$(cat)
name=$(echo "$rules" | sed -n 's/^delete table inet //p' | head -1)
rm -f "$here/$name"
case "$rules" in *chain*) echo "$rules" > "$here/$name";; esac
"""
SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$0.calls"
case "$1" in is-active) test -e "$0.active/${2#--quiet}" && echo active || { echo inactive; exit 3; };; esac
"""
DOCKER = "#!/bin/sh\nexit 0\n"


@pytest.fixture
def tools(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nft, systemctl, systemd-run and docker of a host that has nothing else."""
    place = tmp_path_factory.mktemp("tools")
    for name, text in {"nft": NFT, "systemctl": SYSTEMCTL, "docker": DOCKER, "systemd-run": DOCKER}.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return place


class Host(World):
    """A host that may own ``rest``; ``told`` is what every resolver says."""

    def __init__(self, base: Path, name: str, **services: dict[str, Any]) -> None:
        super().__init__(base)
        self.name, self.told = name, None
        self.described(**(services or {"app": service()}))

    def described(self, **services: dict[str, Any]) -> None:
        """Write both plans."""
        self.plan(**services)
        plan = self.at("/etc/understudy/backup.json")
        plan.write_text(json.dumps({**json.loads(plan.read_text()), "host": self.name}))
        managed = {name: {"group": GROUP, "ports": [8100]} for name in services}
        owner = {
            "format": 1, "host": self.name, "domain": "example.org", "resolvers": ["https://192.0.2.1/dns-query"],
            "groups": {GROUP: {"first": "one", "hosts": ["one", "two"]}}, "services": managed,
        }  # fmt: skip
        self.write("/etc/understudy/owner.json", json.dumps(owner))

    def owns(self) -> None:
        """As after the guard's first look on the first owner."""
        may.allow(self.root, GROUP, "named")

    def refresh(self, checkpoint: Checkpoint = None, **more: Any) -> dict[str, Any]:
        return refresh.run({"group": GROUP, **more}, self.root, checkpoint)

    def promote(self, checkpoint: Checkpoint = None, **more: Any) -> dict[str, Any]:
        return promote.run(
            {"group": GROUP, "epoch": 2, "nonce": "n2", "base": "one:1:1", **more}, self.root, checkpoint
        )

    def demote(self, **more: Any) -> dict[str, Any]:
        return demote.run({"group": GROUP, **more}, self.root)

    def look(self, monkeypatch: pytest.MonkeyPatch, answer: Ownership | None) -> dict[str, Any]:
        """The guard's look when this is what every resolver says."""
        monkeypatch.setattr(guard.doh, "ask", lambda *asked, **more: guard.Heard(answer))
        found: dict[str, Any] = guard.run({"words": []}, self.root)["groups"][GROUP]
        return found


def pair(base: Path, **services: dict[str, Any]) -> tuple[Host, Host]:
    """The owner with data and a repository, and the other one, which reads the same repository."""
    one, two = Host(base / "one", "one", **services), Host(base / "two", "two", **services)
    one.owns()
    fill(one, 40)
    one.init(GROUP)
    two.at("/srv/app").mkdir(parents=True)
    (two.base / "srv" / "repo").symlink_to(one.base / "srv" / "repo")
    return one, two


def fill(host: Host, rows: int, files: int = 30) -> None:
    """So many rows, and so many files that a loss of some is a percentage."""
    database(host.at("/srv/app/data/app.db"), rows)
    for number in range(files):
        host.write(f"/srv/app/data/notes/{number}", f"note {number} of {rows}")
