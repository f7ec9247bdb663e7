"""A copy of this project whose services a test may change, working on the shared lab."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.settings import find_settings

ROOT = Path(__file__).resolve().parents[2]
LAB = ("-i", "inventory/lab.py", "--limit", "lemongrab")
LINKED = (
    "deploy.py",
    "group_data",
    "inventory",
    "lab",
    "understudy",
    "operations",
    "templates",
    "agent",
)


@dataclass(frozen=True)
class Outcome:
    """A finished verb: its exit code, its output, and what each host reported."""

    code: int
    output: str
    reports: list[dict[str, Any]]

    @property
    def changed(self) -> dict[str, list[str]]:
        """Step to what it changed, over all hosts, without steps that changed nothing."""
        found: dict[str, list[str]] = {}
        for report in self.reports:
            for step, items in (report.get("changed") or {}).items():
                if items:
                    found.setdefault(step, []).extend(items)
        return found

    @property
    def failed_probes(self) -> list[str]:
        """Every probe that did not get what it should."""
        return [
            f"{p['name']}: {p['error']}"
            for report in self.reports
            for p in report.get("probes") or []
            if not p["ok"]
        ]


@dataclass(frozen=True)
class Project:
    """The copy. ``path`` is its root; verbs run there as a person would type them."""

    path: Path

    @classmethod
    def copy(cls, path: Path) -> Project:
        """Copy what a test may change, link the rest."""
        for name in LINKED:
            (path / name).symlink_to(ROOT / name)
        (path / ".lab").symlink_to(find_settings().state)
        shutil.copytree(ROOT / "services", path / "services")
        return cls(path)

    def environment(self) -> dict[str, str]:
        """The verbs' environment: this checkout's code, its lab."""
        return {**os.environ, "PYTHONPATH": str(self.path), "PYINFRA_PROGRESS": "off"}

    def start(self, *words: str, report: Path | None = None) -> subprocess.Popen[str]:
        """Start ``understudy`` (or another program given by its path) and do not wait."""
        argv = [sys.executable, "-m", "understudy.cli", *words]
        extra = {"UNDERSTUDY_REPORT": str(report)} if report else {}
        return subprocess.Popen(
            argv,
            cwd=self.path,
            env={**self.environment(), **extra},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def pyinfra(self, *flags: str) -> Outcome:
        """``pyinfra inventory/lab.py deploy.py`` with the report of each host."""
        report = self.path / f"report-{time.monotonic_ns()}.jsonl"
        argv = [sys.executable, "-m", "pyinfra", "inventory/lab.py", "deploy.py", *flags]
        done = subprocess.run(
            argv,
            cwd=self.path,
            env={**self.environment(), "UNDERSTUDY_REPORT": str(report)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=1200,
            check=False,
        )
        lines = report.read_text().splitlines() if report.exists() else []
        return Outcome(done.returncode, done.stdout, [json.loads(line) for line in lines])

    def converge(self, *flags: str) -> Outcome:
        """One unattended converge of the primary."""
        return self.pyinfra("-y", "--limit", "lemongrab", *flags)

    def verb(self, *words: str, environment: dict[str, str] | None = None) -> Outcome:
        """A verb of ours, as typed; ``reports`` is filled for ``--json``."""
        process = subprocess.run(
            [sys.executable, "-m", "understudy.cli", *words],
            cwd=self.path,
            env={**self.environment(), **(environment or {})},
            text=True,
            capture_output=True,
            timeout=1200,
            check=False,
        )
        reports = json.loads(process.stdout) if "--json" in words and process.stdout.startswith("[") else []
        return Outcome(process.returncode, process.stdout + process.stderr, reports)

    def keep(self) -> None:
        """Converge the primary and make its repositories, where there are none yet."""
        for outcome in (self.converge(), self.verb("repo", "init", *LAB)):
            assert outcome.code == 0, outcome.output

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text in ``services/NAME``; the old text must be there."""
        path = self.path / "services" / name
        text = path.read_text()
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new))

    def restore(self) -> None:
        """Take back every edit."""
        shutil.rmtree(self.path / "services")
        shutil.copytree(ROOT / "services", self.path / "services")
