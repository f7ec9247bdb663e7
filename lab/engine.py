"""Finds the Docker engine the lab runs on, and starts one where nothing else does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from lab.settings import Settings
from lab.shell import LabError, run

START_SECONDS = 60


def docker(*arguments: str, stdin: str | bytes = b"", timeout: float = 600, check: bool = True) -> str:
    """Runs the docker client and returns what it printed, stripped."""
    return run(["docker", *arguments], stdin=stdin, timeout=timeout, check=check).stdout.strip()


def ensure_engine(settings: Settings) -> str:
    """Makes sure an engine answers; returns how: "running" or "started".

    Raises LabError with the one thing to do where neither is possible.
    """
    if shutil.which("docker") is None:
        raise LabError(
            "Docker is not installed: run scripts/bootstrap.sh as root, or install Docker and try again"
        )
    if reachable():
        refuse_rootless()
        return "running"
    if os.geteuid() != 0:
        raise LabError(explain_unreachable())
    if systemd_runs():
        run(["systemctl", "start", "docker"], check=False)
    elif shutil.which("dockerd") is None:
        raise LabError("the Docker engine (dockerd) is not installed: run scripts/bootstrap.sh")
    else:
        start_directly(settings)
    wait_until_reachable(settings)
    return "started"


def reachable() -> bool:
    return run(["docker", "version", "-f", "{{.Server.Version}}"], timeout=20, check=False).returncode == 0


def refuse_rootless() -> None:
    options = docker("info", "-f", "{{.SecurityOptions}}")
    if "rootless" in options or "userns" in options:
        raise LabError(
            "the lab needs an ordinary Docker engine, not a rootless one: DOCKER_CONTEXT chooses it"
        )


def explain_unreachable() -> str:
    socket = Path("/var/run/docker.sock")
    if socket.exists() and not os.access(socket, os.W_OK):
        return "Docker runs but this user may not use it: add the user to the group docker and log in again"
    return "no Docker engine answers: start it as root (systemctl start docker) and try again"


def systemd_runs() -> bool:
    return Path("/run/systemd/system").is_dir()


def start_directly(settings: Settings) -> None:
    """Starts dockerd without systemd, in a session of its own, and notes its process id."""
    settings.state.mkdir(parents=True, exist_ok=True)
    with (settings.state / "engine.log").open("ab") as output:
        process = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    (settings.state / "engine.pid").write_text(f"{process.pid}\n")


def wait_until_reachable(settings: Settings) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not reachable():
        if time.monotonic() > deadline:
            raise LabError(
                f"the Docker engine did not start within {START_SECONDS} s; see {settings.state}/engine.log"
            )
        time.sleep(0.2)


def stop_engine(settings: Settings) -> bool:
    """Stops the engine if this lab started it; returns whether it did."""
    note = settings.state / "engine.pid"
    if not note.exists():
        return False
    pid = int(note.read_text())
    ours = is_dockerd(pid)
    if ours:
        os.kill(pid, signal.SIGTERM)
        _wait_until_gone(pid)
    note.unlink()
    return ours


def is_dockerd(pid: int) -> bool:
    """Whether the process still is the engine, and not another program that got its number."""
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]  # empty for one that has ended
    except OSError:
        return False
    return Path(program.decode()).name == "dockerd"


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while is_dockerd(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
