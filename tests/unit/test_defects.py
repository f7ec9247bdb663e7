"""Defects of the backups this replaces (research B6, B7, B8, B11, B16): each must be impossible here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from samples import VARIABLES, Write

from understudy import cli, render
from understudy.agent.entry import PROTECTING
from understudy.agent.errors import AgentError
from understudy.agent.repo import snapshots
from understudy.catalog import Catalog
from understudy.protection.files import jobs
from understudy.protection.policy import Policy
from understudy.repository import freshness
from understudy.settings import settings_of

ROOT = Path(__file__).resolve().parents[2]
DAY = 86400.0


def shot(
    number: int, *, epoch: int = 1, time: str = "2026-11-20T02:00:00Z", size: int = 500
) -> snapshots.Snapshot:
    """A snapshot as restic lists it."""
    tags = [
        "understudy",
        "group:rest",
        "tier:important",
        f"epoch:{epoch}",
        f"seq:{number}",
        "service:kitchenowl",
    ]
    raw = {
        "id": f"{number:064x}",
        "short_id": f"{number:08x}",
        "time": time,
        "hostname": "box",
        "tags": tags,
        "paths": ["/var/lib/understudy/stage/rest/kitchenowl"],
        "summary": {"total_bytes_processed": size, "total_files_processed": 1},
    }
    return snapshots.parse(raw)


def test_b6_the_snapshot_that_is_named_is_the_one_that_is_taken() -> None:
    """The old menu sorted by name and picked by mtime: choosing the oldest restored the newest."""
    listed = [shot(3, time="2026-11-18T02:00:00Z"), shot(1, time="2026-11-22T02:00:00Z"), shot(2)]
    for number in (1, 2, 3):
        assert snapshots.choose(listed, "kitchenowl", id=f"{number:064x}").seq == number
    assert snapshots.choose(listed, "kitchenowl").seq == 3
    with pytest.raises(AgentError):
        snapshots.choose(listed, "kitchenowl", id="f" * 64)


def test_b7_a_small_service_is_never_called_missing() -> None:
    """The old check had a floor of whole megabytes and looked for another file name than the job wrote."""
    one = shot(1, size=1)
    found = freshness.judge([one], {"kitchenowl": 2 * DAY}, now=one.time + 60)
    assert freshness.overdue(found) == []


def test_b8_every_timer_runs_a_verb_that_the_agent_has() -> None:
    """The old timer looked for a script that no deployment had copied."""
    policy = Policy.model_validate(
        {"repositories": {"a": {"url": "s3:https://s/b"}, "b": {"url": "sftp:u@h:/x", "copy_from": "a"}}}
    )
    content = {"services": {tier: {"tier": tier} for tier in ("critical", "important", "optional")}}
    verbs = [job.words.split()[0] for job in jobs(policy, content)]
    assert {"backup", "verify", "copies", "drill"} <= set(verbs)
    for verb in verbs:
        assert verb in PROTECTING and (ROOT / "agent" / f"{verb}.py").exists()


def test_b11_a_running_servers_folder_is_never_copied_as_files(
    write: Write, load: Callable[..., Catalog]
) -> None:
    """The old job made a tar of a running PostgreSQL's files and called it a backup."""
    write(
        "links/compose.yaml",
        """
        services:
          db:
            image: postgres:16.15
            volumes: ["./pgdata:/var/lib/postgresql/data"]
        """,
    )
    write("links/understudy.yaml", 'probe: {to: "80", path: /, text: x}\n')
    backup = {"repositories": {"a": {"url": "/mnt/a"}}, "host_paths": []}
    host = settings_of("box", {"domain": VARIABLES["DOMAIN"], "backup": backup})
    desired = render.desired(load(), host, {"backup": {"A_PASSWORD": "p"}})
    content = desired.tree.entries["/etc/understudy/backup.json"].content.decode()
    assert '"class": "none"' in content and '"class": "keep"' not in content
    assert '"kind": "postgres"' in content


def commands(group: typer.Typer, before: str = "") -> set[str]:
    """Every verb of the program, as typed."""
    found = set()
    for command in group.registered_commands:
        name = command.name or (command.callback.__name__.replace("_", "-") if command.callback else "")
        found.add(f"{before}{name}")
    for sub in group.registered_groups:
        assert sub.typer_instance is not None and sub.name
        found |= {sub.name} | commands(sub.typer_instance, f"{sub.name} ")
    return found


def test_b16_every_command_that_the_guides_name_exists() -> None:
    """The old recovery plan named five scripts that were never in any commit."""
    known = commands(cli.app) | {"lab", "lab up", "lab down", "lab list", "lab shell", "lab reset", "demo"}
    named: dict[str, str] = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for line in page.read_text(encoding="utf-8").splitlines():
            for words in re.findall(r"(?:^|`)understudy ((?:[a-z]+)(?: [a-z]+)?)", line):
                named[words] = page.name
    unknown = {
        words: page for words, page in named.items() if words not in known and words.split()[0] not in known
    }
    groups = {sub.name for sub in cli.app.registered_groups}
    for words in named:
        first = words.split()[0]
        if first in groups and " " in words and first != "lab":
            assert words in known, f"{named[words]} names `understudy {words}`"
    assert len(named) > 12 and unknown == {}
