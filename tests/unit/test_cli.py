"""The verbs as an owner meets them: their order, their first line, a make target each, the recovery kit."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from understudy import cli, cli_layout, firstline, kit, owned
from understudy.errors import Refused
from understudy.settings import settings_of

ROOT = Path(__file__).parents[2]
LATER = {"recover"}  # named by the design, not built


def verbs(command: Any = None, words: tuple[str, ...] = ()) -> set[str]:
    command = command or typer.main.get_command(cli.app)
    children = getattr(command, "commands", None)
    if children is None:
        return {" ".join(words)}
    return {verb for name, child in children.items() for verb in verbs(child, (*words, name))}


def test_the_nine_verbs_of_every_day_come_first() -> None:
    cli_layout.arrange(cli.app)
    names = [cli_layout._name(command) for command in cli.app.registered_commands]
    assert tuple(names[:9]) == cli_layout.MAIN
    panels = {cli_layout._name(c): c.rich_help_panel for c in cli.app.registered_commands}
    assert {panels[name] for name in cli_layout.MAIN} == {"Every day"}
    assert all(group.rich_help_panel for group in cli.app.registered_groups)


def test_every_verb_has_a_make_target_and_make_help_shows_it() -> None:
    text = (ROOT / "Makefile").read_text()
    called = set(
        re.findall(r"^\t@\$\(UNDERSTUDY\) ([a-z -]+?)(?: --[a-z].*)?(?: \$\(ARGS\))?$", text, re.MULTILINE)
    )
    wanted = {verb for verb in verbs() if not verb.startswith("lab ")} - {"secrets init"}
    assert wanted - called - {"demo"} == set(), "verbs without a target"
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z-]+): bootstrap ##", text, re.MULTILINE)
    assert len(targets) == len(set(targets)) and all(f"make {name} " in shown for name in targets)


def test_the_verbs_of_the_design_are_there() -> None:
    assert set(cli_layout.MAIN) <= {verb.split()[0] for verb in verbs()}


INVENTORY = """
from somewhere import replicas
primary = [("lemongrab", {"ssh_hostname": "lemongrab", "role": "primary"})]
standby: list[object] = [("spare", {"ssh_user": "root"}), *replicas()]
_private = [("hidden", {})]
"""


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("", "plan  inventory {0}, hosts lemongrab (primary), spare (standby)"),
        ("lemongrab", "plan  inventory {0}, host lemongrab (primary)"),
        ("found-later", "plan  inventory {0}, host found-later"),
    ],
)
def test_the_first_line_names_inventory_host_and_role(limit: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "prod.py"
    path.write_text(INVENTORY)
    assert firstline.line("plan", str(path), limit) == expected.format(path)


def test_a_broken_inventory_does_not_break_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "prod.py").write_text("primary = [")
    assert firstline.line("plan", str(tmp_path / "prod.py")) == f"plan  inventory {tmp_path / 'prod.py'}"


@pytest.fixture
def one_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = {
        "domain": "example.org",
        "ssh_hostname": "192.0.2.7",
        "backup": {
            "repositories": {"offsite": {"url": "s3:https://s3.example.net/bucket", "tamper": "versions"}}
        },
    }
    host = owned.Owned(settings_of("box", data), data)
    host.__dict__["keys"] = ({"OFFSITE_PASSWORD": "hunter2-secret", "OFFSITE_KEY": "s3-secret"}, {})
    monkeypatch.setattr(kit.owned, "hosts", lambda inventory: [host])
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(tmp_path / "age.txt"))


def test_the_kit_says_what_is_needed_and_holds_no_secret(one_host: None) -> None:
    text = kit.page("inventory/prod.py", with_secrets=False)
    for needed in (
        "s3:https://s3.example.net/bucket",
        "OFFSITE_PASSWORD",
        "ssh root@192.0.2.7",
        "restic restore",
        "s3.example.net",
    ):
        assert needed in text
    assert "s3-secret" not in text and "hunter2" not in text


def test_with_secrets_it_goes_into_a_private_new_file(one_host: None, tmp_path: Path) -> None:
    text = kit.page("inventory/prod.py", with_secrets=True)
    assert "hunter2-secret" in text and "s3-secret" in text
    kit.write_private(tmp_path / "kit.md", text)
    assert stat.S_IMODE((tmp_path / "kit.md").stat().st_mode) == 0o600
    with pytest.raises(Refused, match="exists"):
        kit.write_private(tmp_path / "kit.md", text)
