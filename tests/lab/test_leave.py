"""Footprint and leave: what is ours goes, and the host is as it was; stacks and data never notice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from project import Project

pytestmark = pytest.mark.lab

PRUNED = [
    *("/proc", "/sys", "/run", "/tmp", "/var/tmp", "/var/log", "/var/lib/docker", "/var/lib/containerd"),
    *(
        "/var/cache/apt",
        "/var/lib/apt",
        "/var/lib/dpkg",
        "/var/lib/systemd",
        "/var/cache/debconf",
        "/var/lib/ucf",
    ),
]
FILES = (
    f"find / -xdev \\( {' -o '.join(f'-path {path}' for path in PRUNED)} \\) -prune -o -printf '%p %y %m %u:%g %l\\n' | sort; "
    "find /etc /usr/local /home /root /opt /srv -xdev -type f -exec sha256sum {} + | sort -k2"
)
UNITS = (
    "systemctl list-unit-files --no-legend --plain | awk '{print $1, $2}' | sort; "
    'systemctl list-units --all --no-legend --plain --type=service,timer,socket | awk \'$4=="running"||$4=="waiting" {print $1}\' '
    "| grep -v -E 'session|user@|run-' | sort"
)
LISTING = {
    "files": FILES,
    "units": UNITS,
    "containers": "docker ps --all --no-trunc --format '{{.ID}} {{.Names}} {{.Image}} {{.State}}' | sort",
    "networks": "docker network ls --no-trunc --format '{{.ID}} {{.Name}}' | sort",
    "volumes": "docker volume ls --format '{{.Name}}' | sort",
    "packages": "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' | grep ' installed' | sort",
    "firewall": "nft -s list ruleset | grep -v -E 'counter|packets' || true",
    "stamps": "ls /var/lib/systemd/timers | grep understudy || true",
}
INSTALL = "apt-get install -y --no-install-recommends docker.io docker-cli docker-compose"
# Nobody comes in as root here: a user with sudo and without a password.
OPS = (
    "useradd --create-home --shell /bin/bash ops && echo 'ops ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ops && "
    "chmod 0440 /etc/sudoers.d/ops && install -d -m 0700 -o ops -g ops /home/ops/.ssh && "
    "install -m 0600 -o ops -g ops /root/.ssh/authorized_keys /home/ops/.ssh/authorized_keys"
)
HAND_MADE = """\
services:
  goatcounter:
    image: arp242/goatcounter:2.6.0
    restart: unless-stopped
    ports: ["127.0.0.1:8088:8080"]
    volumes: ["./goatcounter-data:/home/goatcounter/goatcounter-data"]
"""
INVENTORY = """\
from lab.inventory import hosts as _hosts
from lab import world as _world
_data = {"secrets_dir": ".lab/secrets", "backup": _world.backup_policy(), "parts": ["backup"], "services": ["goatcounter"]}
_world.prepare_secrets(_data)
_data |= {"ssh_user": "ops", "_sudo": True}
primary = [(name, {**data, **_data}) for name, data in _hosts() if name == "standby"]
"""


def listing(host: Any) -> dict[str, list[str]]:
    return {name: host.output(command).splitlines() for name, command in LISTING.items()}


def differences(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str]]:
    found = {}
    for name in before:
        old, new = set(before[name]), set(after[name])
        if old != new:
            found[name] = [f"- {line}" for line in sorted(old - new)] + [
                f"+ {line}" for line in sorted(new - old)
            ]
    return found


@pytest.fixture
def by_hand(lab: Any, tmp_path: Path) -> Any:
    """A new machine on which somebody runs one stack, and nothing of ours; a new machine again afterwards."""
    # Staging waits until every host is well, and a backup without a repository has failed there before.
    lab.host("lemongrab").run("systemctl reset-failed")
    lab.reset(["standby"])
    host = lab.host("standby")
    place = "/srv/stacks/counter"
    host.run(f"export DEBIAN_FRONTEND=noninteractive; apt-get update -q && {INSTALL}", check=True)
    host.run(OPS, check=True)
    host.run(f"mkdir -p {place}/goatcounter-data && chown 1000:1000 {place}/goatcounter-data", check=True)
    host.run(f"cat > {place}/compose.yaml <<'EOF'\n{HAND_MADE}EOF", check=True)
    host.run(f"cd {place} && docker compose up --detach", check=True)
    yield host
    lab.reset(["standby"])


@pytest.fixture
def imported(lab: Any, by_hand: Any, tmp_path: Path) -> Project:
    """The description of that machine, as an import would write it: the live project and path, backups alone."""
    project = Project.copy(tmp_path)
    folder = project.path / "services" / "goatcounter"
    for path in folder.iterdir():
        path.unlink()
    (folder / "compose.yaml").write_text(HAND_MADE)
    (folder / "understudy.yaml").write_text("project: counter\npath: /srv/stacks/counter\n")
    (project.path / "inventory").unlink()
    (project.path / "inventory").mkdir()
    (project.path / "inventory" / "own.py").write_text(INVENTORY)
    return project


def test_as_a_sudo_user_with_backup_alone_nothing_else_is_touched_and_leaving_ends_where_it_began(
    by_hand: Any, imported: Project
) -> None:
    host, inventory = by_hand, ("-i", "inventory/own.py")
    before = listing(host)
    assert before["containers"], "the stack that was there before us does not run"
    plan = imported.verb("plan", *inventory, "--json")
    assert plan.code == 0 and plan.reports[0]["parts"] == ["backup"], plan.output
    assert not any(row["kind"] == "stack" for row in plan.reports[0]["plan"])
    done = imported.verb("converge", *inventory)
    assert done.code == 0, done.output
    assert imported.verb("repo", "init", *inventory).code in (0, 1)
    backed_up = imported.verb("backup", "goatcounter", *inventory)
    assert backed_up.code == 0, backed_up.output
    assert_only_ours(differences(before, listing(host)))
    restored = imported.verb("restore", "goatcounter", *inventory, "--to", "/srv/restored")
    assert restored.code == 0, restored.output
    host.run("test -d /srv/restored && rm -rf /srv/restored", check=True)
    shown = imported.verb("host", "footprint", "standby", *inventory, "--json")
    assert {item["kind"] for item in shown.reports[0]["reply"]["items"]} >= {
        "unit",
        "file",
        "state",
        "repository",
    }
    assert imported.verb("host", "leave", "standby", *inventory).code == 3
    left = imported.verb("host", "leave", "standby", *inventory, "--dumps", "--packages", "--yes=standby")
    assert left.code == 0, left.output
    assert differences(before, listing(host)) == {}
    again = imported.verb("host", "leave", "standby", *inventory, "--yes=standby")
    assert again.code == 1 and "nothing on this host is ours" in again.output


def assert_only_ours(changed: dict[str, list[str]]) -> None:
    """Between before and a converge with backup alone: only additions, all of them ours."""
    assert set(changed) <= {"files", "units", "packages", "stamps"}, changed
    for line in [*changed.get("files", []), *changed.get("units", [])]:
        of_a_package = line.startswith(("+ /usr/bin/r", "+ /usr/share/"))
        assert line.startswith("+ ") and ("understudy" in line or of_a_package), line
    assert all(line.split()[1] in ("restic", "rclone") for line in changed.get("packages", [])), changed


def test_leaving_a_whole_host_keeps_every_container_and_its_answers(lab: Any, tmp_path: Path) -> None:
    project, host = Project.copy(tmp_path), lab.host("lemongrab")
    inventory = ("-i", "inventory/lab.py")
    assert project.converge().code == 0
    running = host.output(LISTING["containers"])
    natives = "systemctl show -p MainPID --value bookmarks gokapi planning-poker"
    pids = host.output(natives)
    left = project.verb("host", "leave", "lemongrab", *inventory, "--dumps", "--yes=lemongrab")
    assert left.code == 0, left.output
    assert host.output(LISTING["containers"]) == running
    assert host.output(natives) == pids
    remains = host.output(
        "find /etc /usr/lib /var -xdev -name '*understudy*' -not -name '*-lab' -not -path '/var/lib/docker/*'"
    ).split()
    assert sorted(remains) == ["/etc/understudy"]
    kept = host.output("find /etc/understudy -type f").splitlines()
    assert kept and all(
        path.startswith("/etc/understudy/secrets/") and "/secrets/backup/" not in path for path in kept
    )
    assert "understudy" not in host.output(
        "nft list tables; systemctl list-units --all --no-legend 'understudy*'"
    )
    back = project.converge()
    assert back.code == 0 and back.failed_probes == [], back.output
    assert host.output(LISTING["containers"]) == running
    assert not any("stacks" in step for step in back.changed), json.dumps(back.changed)[:500]
