"""The tool as an owner installs it: from the wheel, in a project outside the clone, and over one version to the next."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import world

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".lab", "build", "dist", "*.egg-info", "__pycache__", ".*_cache"
)
NEXT = "0.2.0"
ALL_HELP = """
import typer, sys
from typer.testing import CliRunner
from understudy import cli
import understudy
print(understudy.__file__)
def walk(command, words):
    done = CliRunner().invoke(cli.app, [*words, '--help'])
    assert done.exit_code == 0, (words, done.output)
    print('verb', ' '.join(words))
    for name, child in sorted(getattr(command, 'commands', {}).items()):
        walk(child, [*words, name])
walk(typer.main.get_command(cli.app), [])
"""
SERVICE = """\
services:
  goatcounter:
    image: arp242/goatcounter:2.6.0
    restart: unless-stopped
    ports: ["127.0.0.1:8088:8080"]
    volumes: ["data:/home/goatcounter/goatcounter-data"]
volumes: {data: {}}
"""


@dataclass(frozen=True)
class Installed:
    """A venv with the wheel, and a project beside it."""

    python: Path
    project: Path

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in the project with nothing of the clone on any path."""
        keep = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = {**keep, "SOPS_AGE_KEY_FILE": str(self.project.parent / "age.txt")}
        done = subprocess.run(
            argv, cwd=self.project, env=environment, text=True, capture_output=True, timeout=900, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def verb(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.python.parent / "understudy"), *words, check=check)

    def reports(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.verb(*words, "--json").stdout)
        return found

    def install(self, wheel: Path) -> None:
        argv = [
            sys.executable,
            "-m",
            "pip",
            f"--python={self.python}",
            "install",
            "-q",
            "--no-deps",
            "--no-index",
        ]
        subprocess.run([*argv, "--force-reinstall", "--disable-pip-version-check", str(wheel)], check=True)


def build(source: Path, out: Path) -> Path:
    """The wheel of a source tree."""
    argv = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*argv, "--disable-pip-version-check", "-w", str(out), str(source)], check=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """This version, and a later one whose agent differs."""
    base = tmp_path_factory.mktemp("wheels")
    source = base / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=LEFT_OUT)
    now = build(source, base / "now")
    edit(source / "pyproject.toml", 'version = "0.1.0"', f'version = "{NEXT}"')
    edit(source / "understudy/__init__.py", "0.1.0", NEXT)
    with (source / "agent/__init__.py").open("a") as file:
        file.write("\n# a later version\n")
    shutil.rmtree(source / "build", ignore_errors=True)
    return now, build(source, base / "later")


@pytest.fixture(scope="module")
def installed(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A venv of its own that sees the locked dependencies of this clone's, but not the clone."""
    base = tmp_path_factory.mktemp("owner")
    venv.create(base / "venv", with_pip=False)
    python = base / "venv" / "bin" / "python"
    site = base / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    # An owner without any cloud: edge none, and neither SDK can be imported.
    for blocked in (ROOT / "tests" / "without_cloud").glob("*.py"):
        shutil.copy(blocked, site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    tool = Installed(python, base)
    tool.install(wheels[0])
    tool = Installed(python, base / "servers")
    environment = {**os.environ, "SOPS_AGE_KEY_FILE": str(base / "age.txt")}
    subprocess.run(
        [python.parent / "understudy", "init", "servers", "--host", "root@standby", "--domain", "example.org"],
        cwd=base, env=environment, check=True,
    )  # fmt: skip
    return tool


def test_every_verb_has_its_help_and_nothing_comes_from_the_clone(installed: Installed) -> None:
    lines = installed.run(str(installed.python), "-c", ALL_HELP).stdout.splitlines()
    assert lines[0].startswith(str(installed.python.parents[1])) and str(ROOT) not in lines[0]
    assert installed.run(str(installed.python), "-c", "import hcloud", check=False).returncode
    verbs = {line.removeprefix("verb ") for line in lines[1:]}
    assert {"plan", "converge", "backup", "restore", "status", "host leave", "repo check", "init"} <= verbs
    assert "lab" not in verbs


def describe(installed: Installed, lab: Any) -> None:
    """Point the project at a lab host: its address, key, store and one service."""
    settings, facts = lab.settings, lab.facts.hosts["standby"]
    folder = installed.project
    edit(
        folder / "inventory/prod.py",
        '"ssh_hostname": "standby",',
        f'"ssh_hostname": "{facts.ip}", "ssh_key": "{settings.key}", "ssh_known_hosts_file": "{settings.known_hosts}",',
    )
    edit(folder / "inventory/prod.py", '["backup"]', '["backup", "docker", "stacks"]')
    store = {"offsite": world.storage_settings()["offsite"]}
    edit(folder / "group_data/all.py", '"repositories": {\n', f'"repositories": {{\n        **{store!r},\n')
    (folder / "services/goatcounter").mkdir()
    (folder / "services/goatcounter/compose.yaml").write_text(SERVICE)
    script = (
        "import json, sys\nfrom pathlib import Path\nfrom understudy.secrets import Store\n"
        "for name, values in json.load(sys.stdin).items(): Store(Path('secrets')).add(name, values)"
    )
    keep = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    subprocess.run(
        [installed.python, "-c", script], cwd=folder, input=json.dumps(world.storage_secrets()), text=True, check=True,
        env={**keep, "SOPS_AGE_KEY_FILE": str(folder.parent / "age.txt")},
    )  # fmt: skip


def test_a_host_is_kept_from_the_wheel_and_over_an_upgrade(
    installed: Installed, wheels: tuple[Path, Path], lab: Any
) -> None:
    lab.host("lemongrab").run("systemctl reset-failed")
    lab.reset(["standby"])
    try:
        host = lab.host("standby")
        describe(installed, lab)
        assert installed.reports("plan")[0]["parts"] == ["backup", "stacks", "docker"]
        installed.verb("converge")
        installed.verb("repo", "init")
        installed.verb("backup", "goatcounter")
        installed.verb("restore", "goatcounter", "--dry-run")
        assert "goatcounter" in installed.verb("snapshots").stdout
        installed.verb("status", check=False)
        running = host.output("docker ps --no-trunc --format '{{.ID}}'")
        agent = host.output("sha256sum < /usr/lib/understudy/agent.pyz")
        installed.install(wheels[1])
        changes = installed.reports("plan")[0]["plan"]
        assert [row["what"] for row in changes] == ["/usr/lib/understudy/agent.pyz"], changes
        installed.verb("converge")
        assert host.output("sha256sum < /usr/lib/understudy/agent.pyz") != agent
        assert host.output("docker ps --no-trunc --format '{{.ID}}'") == running
        installed.verb("backup", "goatcounter")
        assert installed.reports("plan")[0]["count"] == 0
    finally:
        lab.reset(["standby"])
