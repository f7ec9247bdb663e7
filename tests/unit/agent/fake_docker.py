"""A docker command that is a small program of the test: it answers as the real one does and notes its calls."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

INSPECTED = {
    "Id": "abc", "Name": "/web", "Image": "sha256:1",
    "Config": {"Image": "caddy:2.10", "Labels": {
        "com.docker.compose.project": "caddy", "com.docker.compose.service": "caddy",
        "com.docker.compose.config-hash": "h1", "com.docker.compose.project.working_dir": "/srv/caddy",
    }},
    "State": {"Status": "running", "Health": {"Status": "healthy"}, "StartedAt": "2026-01-01T00:00:00Z", "ExitCode": 0},
    "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}, "NetworkMode": "bridge",
                   "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}},
    "NetworkSettings": {"Networks": {"b": {}, "a": {}}, "Ports": {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "443/tcp": None}},
    "Mounts": [{"Type": "volume", "Name": "data", "Source": "/v", "Destination": "/data", "RW": True}],
}  # fmt: skip
DOCKER = """#!/bin/sh
echo "$*" >> "$0.calls"
case "$1 $2" in
  "info --format") cat "$0.info";;
  "ps --all") echo abc; echo vanished;;
  "container inspect") cat "$0.inspect"; echo "Error response from daemon: No such container: vanished" >&2; exit 1;;
  "volume ls") echo '{"Name":"data","Driver":"local","Labels":"a=1,2,com.docker.compose.project=caddy"}';;
  "image ls") printf 'caddy\\t2.10\\tsha256:d\\tsha256:1\\n<none>\\t<none>\\t<none>\\tsha256:2\\n';;
  "compose --project-name")
    case "$*" in *broken*) echo "yaml: line 3: did not find expected key" >&2; exit 15;; esac
    cat "$7" | cksum | tr ' ' '-' | sed 's/^/app /';;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker command that answers as the real one does and notes how it was called."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)
    info = {"ServerVersion": "26.1", "DockerRootDir": "/var/lib/docker", "LiveRestoreEnabled": True,
            "ClientInfo": {"Plugins": [{"Name": "compose", "Version": "v2.26.1"}]}}  # fmt: skip
    Path(f"{program}.info").write_text(json.dumps(info))
    Path(f"{program}.inspect").write_text(json.dumps([INSPECTED]))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def calls(docker: Path, word: str) -> int:
    notes = Path(f"{docker}.calls")
    return sum(word in line for line in notes.read_text().splitlines()) if notes.exists() else 0
