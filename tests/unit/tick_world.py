"""A scratch host with a plan, services with data and a real restic repository on its disk."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from quick_key import quicken

from understudy.agent import backup, prepare
from understudy.agent.data import ledger, state
from understudy.agent.data import plan as plans
from understudy.agent.root import Root

PASSWORD = "correct horse"


def service(name: str, **more: Any) -> dict[str, Any]:
    """One folder of files; nothing of Docker."""
    mount = {"key": "files/data", "kind": "bind", "source": f"/srv/{name}/data"}
    return {"group": "rest", "tier": "critical", "path": f"/srv/{name}", "mounts": [mount], **more}


def repository(url: str = "/store/near", **more: Any) -> dict[str, Any]:
    return {"url": url, "tiers": ["critical"], "credentials": {"password": "restic"}, **more}


@dataclass
class Host:
    """``services`` and ``repositories`` are the plan's; ``write_plan`` makes them so."""

    base: Path
    services: dict[str, Any] = field(default_factory=dict)
    repositories: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    root: Root = field(init=False)

    def __post_init__(self) -> None:
        self.root = Root(str(self.base))
        self.write("/etc/understudy/secrets/backup/restic", PASSWORD + "\n")

    def at(self, path: str) -> Path:
        return Path(self.root.at(path))

    def write(self, path: str, content: str | bytes = "", mode: int = 0o644) -> Path:
        place = self.at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)
        return place

    def write_plan(self) -> None:
        tiers = {"critical": {"every": 3600, "timeout": 120}, "optional": {"every": 86400, "timeout": 120}}
        plan = {"format": 1, "host": "box", "services": self.services, "repositories": self.repositories, "tiers": tiers,
                "settings": self.settings}  # fmt: skip
        self.write(plans.PLAN, json.dumps(plan))

    @property
    def plan(self) -> plans.Plan:
        return plans.load(self.root)

    def prepare(self) -> dict[str, Any]:
        self.write_plan()
        made = prepare.run({}, self.root)
        self.quicken()
        return made

    def quicken(self) -> None:
        for keys in self.at("/store").glob("*/*/keys"):
            quicken(keys.parent, PASSWORD)

    def tick(self, checkpoint: Callable[[str], None] | None = None, **request: Any) -> dict[str, Any]:
        self.write_plan()
        return backup.run(request or {"words": ["critical"]}, self.root, checkpoint)

    def restic(self, *argv: str, store: str = "/store/near/rest", ok: bool = True, cwd: Any = None) -> str:
        """restic itself, without a line of ours."""
        secret = self.at("/etc/understudy/secrets/backup/restic")
        env = {"PATH": os.environ["PATH"], "HOME": "/root", "RESTIC_PASSWORD_FILE": str(secret), "TZ": "UTC",
               "RESTIC_CACHE_DIR": str(self.base / "var/cache/understudy/restic")}  # fmt: skip
        ended = subprocess.run(
            ["restic", "-r", self.root.at(store), *argv],
            capture_output=True,
            text=True,
            env=env,
            timeout=60,
            cwd=cwd,
        )
        assert not ok or ended.returncode == 0, ended.stderr
        return ended.stdout

    def snapshots(self, store: str = "/store/near/rest") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.restic("snapshots", "--json", "--no-lock", store=store))
        return found

    def restored(self, snapshot: str, store: str = "/store/near/rest") -> Path:
        goal = Path(tempfile.mkdtemp(dir=self.base, prefix="out-"))
        self.restic("restore", snapshot, "--target", str(goal), "--no-lock", store=store)
        return goal

    def state(self) -> state.State:
        return state.load(self.root)

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in ledger.records(self.root) if record["kind"] == kind]

    def stage(self, path: str = "") -> Path:
        return self.at(f"/var/lib/understudy/stage/rest/{path}")


def sqlite_file(place: Path, rows: int) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(place) as database:
        database.execute("create table if not exists notes (id integer primary key, text)")
        database.executemany("insert into notes (text) values (?)", [(f"note {n}",) for n in range(rows)])
    database.close()
    return place


def mounts_below(base: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {base}/" in line]


def require_restic() -> None:
    """Without restic nothing here would be proven: that is a failure, not a reason to skip."""
    assert shutil.which("restic"), "restic is not on PATH: scripts/bootstrap.sh installs it"
    assert os.geteuid() == 0, "these tests need root for private mounts"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host with two services and a repository that was made once; its password alone costs a second each time."""
    require_restic()
    host = Host(tmp_path_factory.mktemp("tick") / "host", *world())
    for name in ("a", "b"):
        for number in range(20):
            host.write(f"/srv/{name}/data/f{number}", f"{name} {number} " * 400)
    host.at("/store/near").mkdir(parents=True)
    made = host.prepare()
    assert "error" not in made, made
    return host.base


def world() -> tuple[dict[str, Any], dict[str, Any]]:
    return {"a": service("a"), "b": service("b")}, {"near": repository()}


@pytest.fixture
def box(prepared: Path, empty_engine: None) -> Iterator[Host]:
    """A copy of the prepared host."""
    base = Path(tempfile.mkdtemp(prefix="understudy-tick-"))
    shutil.copytree(prepared, base, symlinks=True, dirs_exist_ok=True)
    yield Host(base, *world())
    shutil.rmtree(base, ignore_errors=True)
