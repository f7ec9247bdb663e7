"""Images that have to be pulled: from a registry, by converges of a host that has none of them."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator

import pytest
from conftest import Lab, LabHost
from project import ROOT, Project

from lab.registry import Registry, down, find_registry

pytestmark = pytest.mark.lab

INVENTORY = """
exec(open("inventory/lab.py").read())
primary, replica = [], [entry for entry in replica if entry[0] == "standby"]
for _name, _data in replica:
    _data["services"], _data["parts"] = ["echo"], ["docker", "stacks"]
_project.ready(primary=primary, replica=replica)
"""
COMPOSE = """services:
  web:
    image: example/echo:1.0
    restart: unless-stopped
    ports: ["127.0.0.1:8460:80"]
"""
VERSION = "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8460/version').read().decode().strip())\""
BLOCK = "probe: {to: 'web:80', path: /version, text: '1.0'}\n"


@pytest.fixture(scope="module")
def registry(lab: Lab) -> Iterator[Registry]:
    found = find_registry(lab.settings, lab.facts)
    found.up()
    yield found
    down(lab.settings)


@pytest.fixture(scope="module")
def host(lab: Lab, registry: Registry) -> Iterator[LabHost]:
    """A new host that takes the lab's registry for Docker Hub."""
    lab.reset(["standby"])
    host = lab.host("standby")
    content = base64.b64encode(registry.daemon_json().encode()).decode()
    host.run(f"mkdir -p /etc/docker && echo {content} | base64 -d > /etc/docker/daemon.json", check=True)
    yield host
    lab.reset(["standby"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.copy(tmp_path_factory.mktemp("registry"))
    (made.path / "inventory").unlink()
    shutil.copytree(ROOT / "inventory", made.path / "inventory")
    (made.path / "inventory" / "pulling.py").write_text(INVENTORY)
    folder = made.path / "services" / "echo"
    folder.mkdir()
    (folder / "compose.yaml").write_text(COMPOSE)
    (folder / "understudy.yaml").write_text(BLOCK)
    return made


def turn_to(project: Project, old: str, new: str) -> None:
    project.edit("echo/compose.yaml", f"echo:{old}", f"echo:{new}")
    project.edit("echo/understudy.yaml", f"'{old}'", f"'{new}'")


def test_images_are_pulled_for_real_and_by_their_tag(
    registry: Registry, host: LabHost, project: Project
) -> None:
    registry.push("example/echo:1.0")
    outcome = project.verb("converge", "-i", "inventory/pulling.py", "--json")
    assert (outcome.code, outcome.failed_probes) == (0, []), outcome.output
    # Asked for by tag (HEAD), fetched by the digest that the tag led to.
    kinds = {path.split("/")[4] for path in registry.pulled() if path.startswith("/v2/example/echo/")}
    assert kinds == {"manifests", "blobs"}
    registry.push("example/echo:2.0")
    turn_to(project, "1.0", "2.0")
    outcome = project.verb("converge", "-i", "inventory/pulling.py", "--json")
    assert (outcome.code, outcome.failed_probes) == (0, []), outcome.output
    assert host.output(VERSION) == "2.0"


def test_a_tag_that_nobody_has_is_named_and_what_runs_goes_on(host: LabHost, project: Project) -> None:
    turn_to(project, "2.0", "9.9")
    outcome = project.verb("converge", "-i", "inventory/pulling.py")
    assert outcome.code == 1, outcome.output
    assert re.search(r"echo did not come up: .*example/echo:9\.9", outcome.output), outcome.output
    assert host.output(VERSION) == "2.0"
