"""Runs pyinfra for a verb and reads what each host reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .operations.session import REPORT_VARIABLE

PROGRESS = "understudy: "  # as agent/say.py begins each line
DEPLOYS = Path(__file__).parent / "deploys"


@dataclass(frozen=True)
class Run:
    """The outcome: pyinfra's exit code and one report a host (see operations/session.py)."""

    code: int
    reports: list[dict[str, Any]]

    @property
    def exit_code(self) -> int:
        """0, or the most telling code of any host: refusal before bad input before failure."""
        codes = {int(report["exit_code"]) for report in self.reports if "exit_code" in report}
        for code in (3, 2, 1):
            if code in codes:
                return code
        return self.code


def argv(inventory: str, deploy: str, data: Mapping[str, str], flags: list[str]) -> list[str]:
    """The pyinfra command line; empty values are left out."""
    pairs = [item for key, value in data.items() if value for item in ("--data", f"{key}={value}")]
    return [sys.executable, "-m", "pyinfra", inventory, deploy, *flags, *pairs]


def run(
    inventory: str,
    deploy: str,
    data: Mapping[str, str],
    flags: list[str],
    quiet: bool = False,
    heard: Callable[[str], None] | None = None,
) -> Run:
    """Run pyinfra; with ``quiet`` its own output appears only when it failed and no report says why.

    ``heard`` takes each line of the agent's progress as it comes, and makes the run quiet.
    """
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        report = Path(folder) / "report.jsonl"
        environment = {**os.environ, REPORT_VARIABLE: str(report), "PYINFRA_PROGRESS": "off"}
        command = argv(inventory, deploy, data, flags)
        if quiet or heard:
            code, said = _listened(command, environment, heard or (lambda line: None))
        else:
            code, said = subprocess.run(command, env=environment, check=False).returncode, ""
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    result = Run(code, [json.loads(line) for line in lines])
    if said and result.code and not any(report.get("error") for report in result.reports):
        sys.stderr.write(_own_words(said))
    return result


def _listened(
    command: list[str], environment: Mapping[str, str], heard: Callable[[str], None]
) -> tuple[int, str]:
    """Run and keep what it says; progress of the agent is passed on at once."""
    said = []
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        _, found, progress = line.partition(PROGRESS)
        if found:
            heard(progress.strip())
    return process.wait(), "".join(said)


def _own_words(output: str) -> str:
    """What an owner needs of pyinfra's output: not its stages."""
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("--> ")]
    return "\n".join(lines) + "\n"
