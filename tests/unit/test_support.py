"""What is supported: engines that are not are refused in one sentence, and the agent keeps to Python 3.10."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import VARIABLES, Write

from understudy import hostside, render
from understudy.agent import containers
from understudy.agent.containers import Docker
from understudy.agent.process import Finished
from understudy.baseline import PlatformError, packages
from understudy.catalog import Catalog
from understudy.errors import Refused
from understudy.settings import settings_of

ROOT = Path(__file__).parents[2]
AGENT = sorted((ROOT / "agent").rglob("*.py"))
# The documents of `docker info --format '{{json .}}'`, cut to what tells the engines apart.
ROOTFUL = {"ServerVersion": "26.1", "SecurityOptions": ["name=apparmor", "name=cgroupns"]}
ROOTLESS = {"ServerVersion": "26.1", "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}
PODMAN = {"host": {"buildahVersion": "1.39.3", "arch": "amd64"}, "store": {}, "version": {"Version": "5.4.2"}}


@pytest.mark.parametrize(("facts", "kind"), [(ROOTFUL, ""), (ROOTLESS, "rootless"), (PODMAN, "podman")])
def test_engines_are_told_apart(facts: dict[str, object], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers.shutil, "which", lambda name: "/usr/bin/docker")
    monkeypatch.setattr(containers.process, "run", lambda argv, timeout: Finished(0, json.dumps(facts)))
    info = Docker().info()
    assert info is not None and info["kind"] == kind


def test_a_rootless_engine_that_runs_alone_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"ServerErrors": ["Cannot connect to the Docker daemon"]}
    monkeypatch.setattr(containers.shutil, "which", lambda name: "/usr/bin/docker")
    monkeypatch.setattr(containers.process, "run", lambda argv, timeout: Finished(0, json.dumps(facts)))
    monkeypatch.setattr(containers.glob, "glob", lambda pattern: ["/run/user/1000/docker.sock"])
    info = Docker().info()
    assert info is not None and info["kind"] == "rootless"


@pytest.mark.parametrize(("kind", "word"), [("rootless", "rootless"), ("podman", "Podman")])
def test_such_a_host_is_refused_in_one_sentence(
    kind: str, word: str, notes: Write, load: Callable[..., Catalog]
) -> None:
    settings = settings_of("box", {"domain": VARIABLES["DOMAIN"], "parts": ["docker"]})
    desired = render.desired(load(), settings, {})
    with pytest.raises(Refused, match=f"box: .*{word}, which is not supported") as refused:
        render.complete(desired, {"docker": {"kind": kind}, "os": {"id": "debian", "version_id": "13"}})
    assert "\n" not in str(refused.value) and refused.value.exit_code == 3


def test_a_system_that_nobody_tried_is_refused_by_name() -> None:
    settings = settings_of("box", {"domain": VARIABLES["DOMAIN"]})
    with pytest.raises(PlatformError, match="fedora 41, which is not supported: use one of Debian 13"):
        packages(settings, {"id": "fedora", "version_id": "41"})


@pytest.mark.parametrize("version", ["22.04", "24.04"])
def test_ubuntu_gets_packages_of_its_own_names(version: str) -> None:
    settings = settings_of("box", {"domain": VARIABLES["DOMAIN"]})
    found = packages(settings, {"id": "ubuntu", "version_id": version})
    assert {"docker.io", "docker-compose-v2"} <= set(found) and "docker-cli" not in found


def test_debian_12_is_taken_with_docker_s_own_packages_only() -> None:
    settings = settings_of("box", {"domain": VARIABLES["DOMAIN"]})
    bookworm = {"id": "debian", "version_id": "12"}
    with pytest.raises(PlatformError, match="Docker's own repository"):
        packages(settings, bookworm)
    assert "docker.io" not in packages(settings, bookworm, has_docker=True, has_compose=True)


@pytest.mark.parametrize("path", AGENT, ids=[path.relative_to(ROOT).as_posix() for path in AGENT])
def test_the_agent_is_written_in_python_3_10(path: Path) -> None:
    """Its syntax; what it uses of the standard library is checked by mypy for 3.10 (scripts/test.sh lint)."""
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_the_first_line_sent_to_a_host_runs_on_any_python_3() -> None:
    boot = hostside.command("survey").split("-c ", 1)[1].rsplit(" ", 1)[0]
    ast.parse(boot.strip("'"), feature_version=(3, 4))


def test_the_agent_calls_the_c_library_by_name() -> None:
    """System call numbers differ between amd64 and arm64; names do not."""
    found = [path.name for path in AGENT if ".syscall(" in path.read_text(encoding="utf-8")]
    assert found == []


LINUX_ONLY = ("epoll", "memfd_create", "sched_getaffinity", "/proc/")


def test_no_verb_needs_a_linux_control_machine() -> None:
    """Without the agent, which runs on hosts, and the line that starts it there (hostside)."""
    found = []
    for path in sorted((ROOT / "understudy").rglob("*.py")):
        inside = path.relative_to(ROOT / "understudy").parts[0]
        if inside in ("agent", "operations", "hostside.py"):
            continue
        text = path.read_text(encoding="utf-8")
        found += [f"{path.name}: {word}" for word in LINUX_ONLY if word in text]
    assert found == []


@pytest.mark.parametrize("script", ["bootstrap.sh", "lock.sh", "wheel.sh", "clean.sh"])
def test_scripts_use_no_option_that_only_linux_has(script: str) -> None:
    text = (ROOT / "scripts" / script).read_text(encoding="utf-8")
    for word in ("sha256sum", "readlink -f", "sed -i ", "stat -c", "xargs -r", "date -d", "mktemp --"):
        assert word not in text, f"{script} uses {word}"
