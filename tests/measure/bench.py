"""What the measurements share: the staged lab, a converged host with repositories and held timers, and its agent."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "lab")]

from conftest import Lab, LabHost  # noqa: E402
from project import Project  # noqa: E402

from lab import staging, tools  # noqa: E402
from lab.progress import Progress  # noqa: E402
from lab.settings import PRIMARY, find_settings, refuse_cloud_credentials  # noqa: E402

AGENT = "python3 -IB /usr/lib/understudy/agent.pyz"
LAB = ("-i", "inventory/lab.py", "--limit", PRIMARY)


def staged() -> Lab:
    """The lab of this clone (or of UNDERSTUDY_LAB) with its primary."""
    refuse_cloud_credentials(dict(os.environ))
    tools.put_on_path()
    settings = find_settings()
    return Lab(settings, staging.up(settings, (PRIMARY,), Progress()))


def ready(lab: Lab, project: Project) -> None:
    """The whole stack, its repositories, and no timers."""
    for outcome in (project.converge(), project.verb("repo", "init", *LAB)):
        assert outcome.code == 0, outcome.output
    lab.host().hold_timers()


def ask(host: LabHost, verb: str, **request: Any) -> dict[str, Any]:
    """A verb of the agent on the host; its reply."""
    ended = host.run(f"echo '{json.dumps(request)}' | {AGENT} {verb} -", timeout=3600)
    line = next(line for line in reversed(ended.stdout.splitlines()) if line.startswith('{"understudy"'))
    reply: dict[str, Any] = json.loads(line)["reply"]
    assert "error" not in reply, reply["error"]
    return reply
