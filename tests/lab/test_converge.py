"""The whole stack on a real host: what a converge does, and what it leaves alone."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project import Outcome, Project

from lab import world

pytestmark = pytest.mark.lab
KILLS = int(
    os.environ.get("UNDERSTUDY_KILLS", "4")
)  # each costs a converge and a half; 10 when it is measured


@pytest.fixture(scope="module")
def project(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.copy(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def first(project: Project, lab: Any) -> Outcome:
    """The first converge; every test builds on the converged host."""
    outcome = project.converge()
    assert outcome.code == 0, outcome.output
    return outcome


@pytest.fixture
def host(lab: Any, first: Outcome) -> Any:
    return lab.host("lemongrab")


@pytest.fixture
def edited(project: Project, first: Outcome) -> Iterator[Project]:
    """The project for a test that edits it: edits are taken back and the host converged again."""
    yield project
    project.restore()
    outcome = project.converge()
    assert outcome.code == 0, outcome.output


def started(host: Any) -> dict[str, str]:
    """Container name to the moment it was started."""
    lines = host.run(
        "docker ps -aq | xargs docker inspect --format '{{.Name}} {{.State.StartedAt}}'"
    ).stdout.splitlines()
    return dict(line.split() for line in lines)


def state(host: Any) -> dict[str, Any]:
    """What must be equal after an undisturbed and a disturbed converge: files, containers, units, firewall."""
    listing = (
        "for f in $(python3 -c \"import json;print(*json.load(open('/var/lib/understudy/manifest.json'))['entries'])\"); do "
        "stat -c '%n %a %U %G' $f; [ -f $f ] && sha256sum $f; done; true"
    )
    hashes = (
        'docker ps -a --format \'{{.Names}} {{.Label "com.docker.compose.project"}} {{.Image}} {{.State}} '
        '{{.Label "com.docker.compose.config-hash"}}\' | sort'
    )
    units = "systemctl list-units --type=service --state=running --plain --no-legend | awk '{print $1}' | grep -v session | sort"
    leftovers = "find / -xdev -name '*.understudy-*' -not -path '/proc/*' 2>/dev/null; ls /var/lib/understudy /var/lib/understudy/pending"
    leftovers += " | grep -vx -e ledger -e stage"  # a timer's tick may run at any moment
    commands = {
        "files": listing,
        "containers": hashes,
        "units": units,
        "leftovers": leftovers,
        "firewall": "nft -s list table inet understudy",
        "ports": "ss -Hltn | awk '{print $4}' | sort -u",
    }
    return {name: host.run(command).stdout for name, command in commands.items()}


def http(host: Any, method: str, url: str) -> str:
    """A request made on the host itself, which has no curl."""
    program = (
        f"import urllib.request as u; print(u.urlopen(u.Request('{url}', method='{method}')).read().decode())"
    )
    return str(host.run(f'python3 -c "{program}"', check=True).stdout)


def sessions(host: Any) -> int:
    """Commands that sshd ran so far, by its own log: an independent count."""
    return int(
        host.run(
            "journalctl --sync; journalctl -u ssh -o cat | grep -c 'Starting session: command' || true",
            check=True,
        ).stdout
    )


def test_every_service_answers_with_the_right_content(first: Outcome) -> None:
    report = first.reports[0]
    services = {probe["service"] for probe in report["probes"]}
    assert first.failed_probes == []
    assert len(services) == 16 and len(report["probes"]) >= 25


def reload(host: Any, change: str) -> None:
    """Change sshd's settings and wait until it listens with them: a reload begins the program anew."""
    host.run(f"{change}; systemctl reload ssh", check=True)
    while host.run("true").returncode != 0:
        time.sleep(0.2)


def test_a_second_converge_changes_nothing_with_few_commands(project: Project, host: Any) -> None:
    log = "/etc/ssh/sshd_config.d/99-count.conf"
    reload(host, f"mkdir -p /etc/ssh/sshd_config.d; echo 'LogLevel VERBOSE' > {log}")
    before, running = sessions(host), started(host)
    again = project.converge()
    counted = sessions(host) - before - 2  # the two counting commands themselves
    reload(host, f"rm {log}")
    assert (again.code, again.changed, again.failed_probes) == (0, {}, [])
    assert started(host) == running
    assert 0 < counted <= 10
    assert counted == again.reports[0]["commands"]


def test_plan_says_no_changes(project: Project, first: Outcome) -> None:
    plan = project.verb("plan", "-i", "inventory/lab.py", "--limit", "lemongrab", "--json", "--exit-code")
    assert plan.code == 0, plan.output
    assert (
        plan.reports[0]["count"] == 0
        and plan.reports[0]["refused"] == []
        and plan.reports[0]["warnings"] == []
    )


def test_a_one_line_change_restarts_that_service_alone(edited: Project, host: Any) -> None:
    before = started(host)
    edited.edit(
        "goatcounter/compose.yaml",
        "restart: unless-stopped",
        "restart: unless-stopped\n    hostname: counted",
    )
    outcome = edited.converge()
    assert outcome.code == 0, outcome.output
    after = started(host)
    assert {name for name in after if after[name] != before.get(name)} == {"/goatcounter-goatcounter-1"}
    assert outcome.changed["files"] == ["update /home/docker-projects/goatcounter/compose.yaml"]


def test_dry_diff_shows_the_change_and_no_secret_and_changes_nothing(edited: Project, host: Any) -> None:
    before = state(host)
    edited.edit("homepage/compose.yaml", "restart: unless-stopped", "restart: always")
    outcome = edited.pyinfra("--dry", "--diff", "--limit", "lemongrab")
    assert "+    restart: always" in outcome.output
    assert state(host) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        (
            "caddy/understudy.yaml",
            "to: static:/srv/site",
            "to: static:/srv/site\n    max_body: plenty",
            "caddy validate",
        ),
        (
            "homepage/compose.yaml",
            "restart: unless-stopped",
            "restart: unless-stopped\n    pids_limit: plenty",
            "compose config",
        ),
        ("gokapi/understudy.yaml", "  exec: ", "  exec: relative/path ", "systemd-analyze verify"),
        ("bookmarks/understudy.yaml", "  exec: ", "  exec: relative/path ", "program of bookmarks.service"),
    ],
    ids=["Caddyfile", "Compose file", "unit", "program behind a shell"],
)
def test_a_broken_file_leaves_the_running_version_serving(
    edited: Project, host: Any, file: str, old: str, new: str, says: str
) -> None:
    before, running = state(host), started(host)
    edited.edit(file, old, new)
    outcome = edited.converge()
    assert outcome.code == 1 and says in outcome.output, outcome.output
    assert state(host) == before and started(host) == running


def test_a_file_changed_on_the_host_is_never_overwritten_unasked(edited: Project, host: Any) -> None:
    path = "/home/docker-projects/homepage/compose.yaml"
    host.run(f"echo '# by hand' >> {path}")
    refused = edited.verb("converge", "-i", "inventory/lab.py", "--limit", "lemongrab")
    assert refused.code == 3 and "--overwrite homepage" in refused.output
    assert "# by hand" in host.run(f"cat {path}").stdout
    taken = edited.verb(
        "converge", "-i", "inventory/lab.py", "--limit", "lemongrab", "--overwrite", "homepage"
    )
    assert taken.code == 0, taken.output
    assert "# by hand" not in host.run(f"cat {path}").stdout


def test_a_port_held_by_a_stranger_stops_the_host_in_one_sentence(edited: Project, host: Any) -> None:
    edited.edit("homepage/compose.yaml", "127.0.0.1:3002:", "127.0.0.1:3999:")
    host.run("systemd-run --quiet --unit=stranger python3 -m http.server --bind 127.0.0.1 3999; sleep 1")
    before = state(host)
    outcome = edited.converge()
    host.run("systemctl stop stranger")
    assert outcome.code == 1 and "homepage needs port 3999, which process python3 holds" in outcome.output
    assert state(host)["containers"] == before["containers"]


def test_a_firewall_that_would_lock_us_out_goes_back_by_itself(edited: Project, host: Any) -> None:
    rules = host.run("nft -s list table inet understudy").stdout
    outcome = edited.converge("--data", "ssh_ports=[2222]")
    assert outcome.code == 1 and "goes back to its former rules" in outcome.output
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and host.run("true").returncode != 0:
        time.sleep(2)
    assert host.run("nft -s list table inet understudy").stdout == rules


def test_retire_keeps_the_data_and_removes_the_rest(edited: Project, host: Any) -> None:
    assert json.loads(http(host, "POST", "http://127.0.0.1:8088/_lab/commit"))["n"] >= 1
    retired = edited.verb(
        "retire", "goatcounter", "-i", "inventory/lab.py", "--yes=goatcounter", "--limit", "lemongrab"
    )
    assert retired.code == 0, retired.output
    assert host.run("docker ps -a | grep -c goatcounter").stdout.strip() == "0"
    assert "CNAME analytics.example.org" not in world.cloud().control.records()
    assert "goatcounter" not in host.run("cat /home/docker-projects/caddy/conf/Caddyfile").stdout
    assert host.run("ls /home/docker-projects/goatcounter/compose.yaml").returncode != 0
    edited.restore()
    assert edited.converge().code == 0
    assert "CNAME analytics.example.org" in world.cloud().control.records()
    rows = json.loads(http(host, "GET", "http://127.0.0.1:8088/_lab/rows"))
    assert rows["count"] >= 1 and rows["missing"] == []


def test_no_secret_is_seen_where_others_look(project: Project, host: Any) -> None:
    secrets = secret_values()
    outcome = project.converge("--diff", "-vvv", "--debug")
    assert outcome.code == 0
    seen = host.run(
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; systemctl show '*' -p Environment; systemctl cat '*' 2>/dev/null; "
        "journalctl -o cat --no-pager; cat /var/lib/understudy/manifest.json"
    ).stdout
    readable = host.run(
        "setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '"
        "find /etc /home /var/lib/understudy /usr/lib/understudy /run /tmp -xdev -type f -size -2M -readable "
        "-exec cat {} + 2>/dev/null'"
    ).stdout
    places = {
        "converge -vvv --debug --diff": outcome.output,
        "host listings and journal": seen,
        "readable files": readable,
    }
    found = [
        (name, place) for name, value in secrets.items() for place, text in places.items() if value in text
    ]
    assert found == []


def secret_values() -> dict[str, str]:
    """Every secret of the lab by name."""
    from lab import world
    from understudy.secrets import Store

    world.use_lab_key()
    store = Store(world.SECRETS)
    return {
        f"{service}/{name}": value
        for service, values in store.load_all().items()
        for name, value in values.items()
    }


def test_every_compose_file_is_plain_compose(host: Any, project: Project) -> None:
    folders = [path.parent for path in sorted(project.path.glob("services/*/compose.yaml"))]
    wrong = [f"{folder.name}: {error}" for folder in folders if (error := compose_config(host, folder))]
    assert len(folders) >= 12 and wrong == []


def compose_config(host: Any, folder: Path) -> str:
    """What the host's own Compose says against a folder's file, with its example values and none of our code."""
    files = {
        name: base64.b64encode((folder / name).read_bytes()).decode()
        for name in ("compose.yaml", ".env.example")
    }
    written = " && ".join(f"echo {content} | base64 -d > {name}" for name, content in files.items())
    command = f"cd $(mktemp -d) && {written} && docker compose -f compose.yaml --env-file .env.example config --quiet"
    done = host.run(command)
    return str(done.stderr) if done.returncode else ""


def test_a_power_cut_and_boot_bring_everything_back(lab: Any, host: Any, project: Project) -> None:
    host.kill()
    host.start()
    deadline = time.monotonic() + 240
    outcome = project.verb("plan", "-i", "inventory/lab.py", "--limit", "lemongrab", "--json")
    while time.monotonic() < deadline and not (
        outcome.code == 0 and outcome.reports and outcome.reports[0]["count"] == 0
    ):
        time.sleep(3)
        outcome = project.verb("plan", "-i", "inventory/lab.py", "--limit", "lemongrab", "--json")
    assert outcome.reports and outcome.reports[0]["count"] == 0, outcome.output
    again = project.converge()
    assert again.code == 0 and again.changed == {} and again.failed_probes == []


def test_killed_at_random_moments_and_run_again_it_ends_the_same(edited: Project, host: Any) -> None:
    undisturbed = state(host)
    dice = random.Random(20261122)
    for round_number in range(KILLS):
        edited.edit(
            "goatcounter/compose.yaml",
            "restart: unless-stopped",
            f"restart: unless-stopped\n    hostname: round{round_number}",
        )
        edited.edit("vaultwarden/nginx/default.conf", "server {", f"# round {round_number}\nserver {{")
        process = edited.start("converge", "-i", "inventory/lab.py", "--limit", "lemongrab")
        time.sleep(dice.uniform(0.5, 8.0))
        kill_group(process.pid)
        process.wait()
        edited.restore()
        again = edited.converge()
        assert again.code == 0, again.output
        assert state(host) == undisturbed, f"round {round_number}"


def kill_group(pid: int) -> None:
    """SIGKILL to a process we started and all its children."""
    os.killpg(pid, signal.SIGKILL)
