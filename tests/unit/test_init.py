"""`understudy init`: a project of one's own that every verb works from."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from understudy import __version__, scaffold
from understudy.errors import BadInput, Refused

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(tmp_path / "age.txt"))
    scaffold.write(tmp_path / "mine", scaffold.Start.of("admin@box.example.org", "example.org"))
    return tmp_path / "mine"


def verb(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SOPS_AGE_KEY_FILE": str(folder.parent / "age.txt")}
    argv = [sys.executable, "-m", "understudy.cli", *words]
    return subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_it_holds_what_a_project_consists_of(folder: Path) -> None:
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {*scaffold.FILES, ".sops.yaml"}
    assert (folder / "requirements.txt").read_text() == f"understudy-homelab=={__version__}\n"
    json.loads((folder / "renovate.json").read_text())
    assert len((folder / "deploy.py").read_text().splitlines()) <= 12


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Refused, match=r"not empty \(notes.txt\)"):
        scaffold.write(tmp_path, scaffold.Start.of("root@box", "example.org"))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_fresh_git_repository_counts_as_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(tmp_path / "key" / "age.txt"))
    (tmp_path / "new" / ".git").mkdir(parents=True)
    scaffold.write(tmp_path / "new", scaffold.Start.of("root@box", "example.org"))
    assert (tmp_path / "new" / "deploy.py").exists()


@pytest.mark.parametrize(
    ("login", "name", "user"),
    [("root@box.lan", "box", "root"), ("box", "box", "root"), ("me@192.168.1.5", "192.168.1.5", "me")],
)
def test_the_first_host_is_named_after_its_address(login: str, name: str, user: str) -> None:
    start = scaffold.Start.of(login, "example.org")
    assert (start.host, start.user) == (name, user)


@pytest.mark.parametrize(("login", "domain"), [("a b", "example.org"), ("root@box", "no domain")])
def test_wrong_words_are_named(login: str, domain: str) -> None:
    with pytest.raises(BadInput, match="is not like"):
        scaffold.Start.of(login, domain)


def test_its_inventory_is_read_and_its_one_host_has_backup_alone(folder: Path) -> None:
    script = (
        "from understudy import project\n"
        "(name, data), = project.hosts('inventory/prod.py')\n"
        "desired = project.desired_for(name, data)\n"
        "print(name, desired.settings.parts.switched_on(), desired.settings.sudo, desired.services)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "box ['backup'] True []", done.stderr


def test_every_target_of_its_makefile_is_a_verb(folder: Path) -> None:
    lines = (folder / "Makefile").read_text().splitlines()
    words = [
        line.split("$(UNDERSTUDY) ")[1].removesuffix(" $(ARGS)") for line in lines if "$(UNDERSTUDY) " in line
    ]
    assert {"plan", "converge", "backup", "restore", "status", "host footprint"} <= set(words)
    assert all(scaffold.known(word) for word in words) and not scaffold.known("host nothing")
    shown = subprocess.run(["make", "help"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "make plan" in shown and shown.count("make ") == len(words) + 2


def test_secrets_verbs_work_from_it(folder: Path) -> None:
    done = verb(folder, "secrets", "check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_s_deploy_spells_out_the_order_that_projects_use() -> None:
    def steps(path: Path) -> list[str]:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        named = [call for call in calls if any(word.arg == "name" for word in call.keywords)]
        return [ast.unparse(call) for call in sorted(named, key=lambda call: call.lineno)]

    assert steps(ROOT / "deploy.py") == steps(ROOT / "understudy/deploys/order.py") != []
