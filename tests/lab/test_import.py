"""A server made by hand over the years: audited, imported, planned, converged with backups alone, and left again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import messy
import pytest
from conftest import Lab, LabHost
from project import ROOT, Outcome, Project
from test_leave import differences, listing

from lab import staging
from lab.progress import Progress
from understudy.live import judge
from understudy.live.reach import Reach

pytestmark = pytest.mark.lab

NAME = "hoarder"
PROD = """\
from understudy import project as _project

primary: list[tuple[str, dict[str, object]]] = []
"""
ALL = """\
domain = "example.org"
ssh_strict_host_key_checking = "yes"
backup = {{"repositories": {repositories}}}
"""
CONFIG = """\
Host {address} nobody-pinned
    HostName {address}
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile /dev/null
    IdentitiesOnly yes
    IdentityFile {key}
"""


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[LabHost]:
    """A machine of its own, so that the shared ones stay as they are."""
    for name in lab.facts.hosts:
        lab.host(name).run("systemctl reset-failed")
    facts = staging.up(lab.settings, [NAME], Progress(quiet=True), fresh=True)
    host = LabHost(lab.settings, NAME, facts.hosts[NAME])
    for script in messy.MESS:
        done = host.run(f"bash -s <<'MESS'\n{script}\nMESS", timeout=300)
        assert done.returncode == 0, done.stderr
    written = "docker exec kitchenowl-kitchenowl-1 test -s /data/database.db && docker exec kuma test -s /app/data/kuma.db"
    host.run(f"until {written}; do sleep 1; done", timeout=120, check=True)
    yield host
    staging.dismiss(lab.settings, NAME)


@pytest.fixture(scope="module")
def config(lab: Lab, host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An owner's ssh configuration."""
    path = tmp_path_factory.mktemp("ssh") / "config"
    known = lab.settings.known_hosts
    path.write_text(CONFIG.format(address=host.ip, known_hosts=known, key=lab.settings.key))
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of one's own with no host and no service in it."""
    path = tmp_path_factory.mktemp("own")
    for folder in ("inventory", "group_data", "services"):
        (path / folder).mkdir()
    (path / "inventory" / "prod.py").write_text(PROD)
    (path / "group_data" / "all.py").write_text(ALL.format(repositories="{}"))
    (path / "deploy.py").symlink_to(ROOT / "deploy.py")
    return Project(path)


def verb(own: Project, *words: str) -> Outcome:
    """A verb in that project, with this clone's code and an age key of its own."""
    environment = {**os.environ, "SOPS_AGE_KEY_FILE": str(own.path / "age.txt"), "PYINFRA_PROGRESS": "off"}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "understudy"), *words],
        cwd=own.path, env=environment, text=True, capture_output=True, timeout=900, check=False,
    )  # fmt: skip
    reports = json.loads(done.stdout) if "--json" in words and done.stdout.startswith("[") else []
    return Outcome(done.returncode, done.stdout + done.stderr, reports)


def seen(host: LabHost) -> dict[str, list[str]]:
    """Everything an audit could leave behind; sudo's own record that somebody asked (/run/sudo) is sudo's."""
    left = (
        "find /var/lib/sudo /tmp /var/tmp \\( -type d -printf '%p\\n' -o -printf '%p %y %s\\n' \\) 2>/dev/null"
        " | grep -v -e systemd-private -e /tmp/runc-process | sort"  # of running services, of health checks
    )
    return {**listing(host), "traces": host.output(left).splitlines()}


def test_an_audit_says_what_would_be_lost_and_leaves_no_trace(
    host: LabHost, config: Path, own: Project, tmp_path: Path
) -> None:
    before = seen(host)
    page = tmp_path / "audit.html"
    done = verb(own, "audit", f"root@{host.ip}", "-F", str(config), "--html", str(page))
    assert done.code == 1
    first = done.output.splitlines()[0]
    assert first.startswith("If this machine died now, you would lose ") and "nextcloud-db-1/rss" in first
    census = Reach(f"anna@{host.ip}", str(config), ask=lambda prompt: messy.PASSWORD).census({})
    assert census["privileged"] and Reach(f"ops@{host.ip}", str(config)).census({})["privileged"]
    assert differences(before, seen(host)) == {}
    assert host.run("su anna -c 'sudo -n true'").returncode != 0  # her password opens nothing afterwards
    told = page.read_text()
    for text in (done.output, told):
        assert messy.SECRET not in text and "CHANGE_ME" not in text and "K001" not in text
    assert "http://" not in told.replace("http://localhost", "") and "<script" not in told


def test_an_audit_knows_the_old_incidents(host: LabHost, config: Path) -> None:
    report = judge.judge(Reach(f"root@{host.ip}", str(config)).census({}), NAME, "")
    places = {place.what: place for place in report.places}
    assert {app.name for app in report.apps} == {*messy.PROJECTS, "kuma", "bookmarks.service"}
    assert not any(one.note for app in report.apps for one in app.running)  # hashes equal the labels
    vault = places["/home/docker-projects/vaultwarden/data"]
    assert vault.grade == "lost" and "stays on this machine" in vault.why and vault.sqlite == ["/db.sqlite3"]
    assert places["nextcloud-db-1/rss"].why == "no dump names it"
    anonymous = [place for place in report.places if place.kind == "anonymous volume" and place.sqlite]
    assert [place.users for place in anonymous] == [["kitchenowl-kitchenowl-1"]]
    assert any("config/Caddyfile differs and does nothing" in line for line in report.warnings)
    broken = {job.name: job.broken for job in report.jobs if job.broken}
    assert "cannot write its log" in broken["cron sync-b2.sh of anna"]
    assert "does not exist" in broken["cron healthcheck-watchdog.sh of root"]
    assert report.unread == []


def test_whom_it_refuses(host: LabHost, config: Path, own: Project) -> None:
    unknown = config.with_name("unpinned")
    unknown.write_text(config.read_text().replace("UserKnownHostsFile", "UserKnownHostsFile /dev/null #"))
    done = verb(own, "audit", f"root@{host.ip}", "-F", str(unknown))
    assert (
        done.code == 3 and "is not pinned: nothing was sent" in done.output and "ssh-keyscan" in done.output
    )
    done = verb(own, "audit", f"anna@{host.ip}", "-F", str(config))
    assert done.code == 1 and "no terminal to ask it on" in done.output
    wrong = Reach(f"anna@{host.ip}", str(config), ask=lambda prompt: "wrong")
    with pytest.raises(Exception, match="does not accept this password"):
        wrong.census({})


def test_a_redacted_audit_names_nobody(host: LabHost, config: Path, own: Project) -> None:
    done = verb(own, "audit", f"root@{host.ip}", "-F", str(config), "--redact")
    for name in ("anna", "example.org", NAME, host.ip, "b2-backup", "lemongrab"):
        assert name not in done.output


@pytest.fixture(scope="module")
def imported(host: LabHost, config: Path, own: Project) -> dict[str, Any]:
    """The import's own words, as JSON."""
    done = verb(own, "import", f"root@{host.ip}", "-F", str(config), "--json")
    reply: dict[str, Any] = json.loads(done.output[done.output.index("{") :].splitlines()[0])
    return reply


def test_an_import_takes_every_file_as_it_is(host: LabHost, own: Project, imported: dict[str, Any]) -> None:
    assert set(imported["written"]) == {*messy.PROJECTS, "bookmarks"}
    assert set(imported["left"]) == {"kuma"} and "docker run" in imported["left"]["kuma"]
    services = own.path / "services"
    for path in (
        "vaultwarden/docker-compose.yml",
        "vaultwarden/docker-compose.override.yml",
        "sync/app/Dockerfile",
    ):
        assert (services / path).read_text().strip() == host.output(f"cat /home/docker-projects/{path}")
    assert (services / "stats/elsewhere/etc/stacks/goat.yml").exists()
    written = "".join(
        path.read_text() for path in own.path.rglob("*") if path.is_file() and "age.txt" not in path.name
    )
    assert messy.SECRET not in written and "ADMIN_TOKEN: ENC[" in written
    held = subprocess.run(
        [str(Path(sys.executable).parent / "sops"), "decrypt", str(own.path / "secrets" / "vaultwarden.yaml")],
        env={**os.environ, "SOPS_AGE_KEY_FILE": str(own.path / "age.txt")}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert messy.SECRET in held.stdout or held.returncode


def test_a_plan_straight_after_has_nothing_to_do(own: Project, imported: dict[str, Any]) -> None:
    done = verb(own, "plan", "--json", "--exit-code")
    assert done.code == 0, done.output
    report = done.reports[0]
    assert (report["count"], report["drift"], report["refused"], report["problems"]) == (0, [], [], [])
    assert report["parts"] == ["backup"]


def test_run_again_it_shows_what_changed_and_takes_it_over_by_name(
    host: LabHost, config: Path, own: Project, imported: dict[str, Any]
) -> None:
    where = (f"root@{host.ip}", "-F", str(config))
    host.run("cd /home/docker-projects/miniflux && sed -i 's/8099/8100/' compose.yaml", check=True)
    done = verb(own, "import", *where)
    assert (
        "differs miniflux" in done.output
        and "8100:8080" in done.output
        and "differs caddy" not in done.output
    )
    assert "8099" in (own.path / "services/miniflux/compose.yaml").read_text()
    taken = verb(own, "import", *where, "--service", "miniflux")
    assert taken.code == 0, taken.output
    assert "8100" in (own.path / "services/miniflux/compose.yaml").read_text()
    assert "runs an older description" in verb(own, "plan").output
    host.run("cd /home/docker-projects/miniflux && sed -i 's/8100/8099/' compose.yaml", check=True)
    assert verb(own, "import", *where, "--service", "miniflux").code == 0


def test_the_same_file_under_another_name_is_refused_beside_existing_data(
    host: LabHost, own: Project, imported: dict[str, Any]
) -> None:
    """protocol.md §10: it would start empty, with exit 0."""
    inventory, block = own.path / "inventory" / "prod.py", own.path / "services/kitchenowl/understudy.yaml"
    kept = inventory.read_text(), block.read_text()
    inventory.write_text(kept[0].replace('["backup"]', '["backup", "stacks"]'))
    block.write_text(kept[1].replace("project: kitchenowl", "project: owl").replace("/kitchenowl", "/owl"))
    done = verb(own, "plan", "--json")
    inventory.write_text(kept[0])
    block.write_text(kept[1])
    assert done.code == 3, done.output
    assert any("would start empty as project 'owl'" in line for line in done.reports[0]["refused"])


def test_with_backup_alone_nothing_else_is_touched_and_the_data_is_kept(
    lab: Lab, host: LabHost, own: Project, imported: dict[str, Any]
) -> None:
    before = listing(host)
    stores = lab.store
    settings, secrets = {"offsite": stores.settings()["offsite"]}, {"backup": stores.secrets("lemongrab")}
    (own.path / "group_data" / "all.py").write_text(ALL.format(repositories=repr(settings)))
    add = "import json, sys; from pathlib import Path; from understudy.secrets import Store; "
    add += "[Store(Path('secrets')).add(k, v) for k, v in json.load(sys.stdin).items()]"
    subprocess.run(
        [sys.executable, "-c", add], cwd=own.path, check=True, text=True,
        input=json.dumps({**secrets, "backup-admin": stores.secrets("admin")}),
        env={**os.environ, "SOPS_AGE_KEY_FILE": str(own.path / "age.txt"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    done = verb(own, "converge", "--json")
    assert done.code == 0, done.output
    assert verb(own, "repo", "init").code == 0
    started = time.monotonic()
    backed_up = verb(own, "backup", "--json")
    assert backed_up.code == 0, backed_up.output
    rows = backed_up.reports[0]["reply"]["services"]
    assert all(row["ok"] for row in rows), rows
    assert {"vaultwarden", "nextcloud", "kitchenowl", "stats", "sync", "media", "bookmarks"} <= {
        r["service"] for r in rows
    }
    after = listing(host)
    assert after["containers"] == before["containers"] and after["networks"] == before["networks"]
    footprint = verb(own, "host", "footprint", host.ip, "--json").output
    assert "restic" in footprint
    packaged = set(host.output("dpkg -L restic 2>/dev/null || true").splitlines())
    strangers = [
        line for line in differences(before, after).get("files", [])
        if line.startswith("+ /") and "understudy" not in line
        and line.split()[1] not in packaged and line.split()[1] not in footprint
    ]  # fmt: skip
    assert time.monotonic() - started < 120
    assert strangers == []
