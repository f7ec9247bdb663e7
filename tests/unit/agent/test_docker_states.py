"""Which containers run, where `docker ps` still prints the states of before."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from understudy.agent.data import engine
from understudy.agent.owner.engine import listed

# app has just been stopped, db has just been started, old has been removed between the two calls.
DOCKER = """#!{python}
import json, sys
words = sys.argv[1:]
before, now = {{"app": "running", "db": "created", "old": "running"}}, {{"app": "exited", "db": "running"}}
labels = {{"com.docker.compose.project": "shop"}}
gone = [w for w in words if w in before and w not in now]
if words[0] == "ps" and "--quiet" in words:
    wanted = [w.rpartition("=")[2] for w in words if "compose.service" in w]
    states = [w.rpartition("=")[2] for w in words if w.startswith("status=")]
    print("\\n".join(n for n in before if (not wanted or n in wanted) and (not states or before[n] in states)))
elif words[0] == "ps":
    for name, state in before.items():
        print(json.dumps({{"ID": name, "State": state, "Status": "Up", "Labels":
            "com.docker.compose.project=shop,com.docker.compose.service=" + name}}))
else:
    print(json.dumps([{{"Id": n, "Name": "/" + n, "Image": "i", "State": {{"Status": now[n], "ExitCode": 137}}, "Config": {{
        "Image": "i", "Labels": {{**labels, "com.docker.compose.service": n}}}}}} for n in words if n in now]))
for name in gone:
    print("Error response from daemon: No such container: " + name, file=sys.stderr)
sys.exit(1 if gone else 0)
"""


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "docker"
    program.write_text(DOCKER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_a_server_runs_as_its_container_says() -> None:
    found = {name: engine.container_of("shop", name) for name in ("app", "db", "old")}
    assert found == {"app": None, "db": "db", "old": None}


def test_the_guards_list_lags_unless_it_has_to_be_exact() -> None:
    def states(exact: bool) -> dict[str, tuple[str, bool]]:
        return {one.service: (one.state, one.running) for one in listed(exact)["shop"]}

    assert states(False) == {"app": ("running", True), "db": ("created", False), "old": ("running", True)}
    assert states(True) == {"app": ("exited", False), "db": ("running", True)}
