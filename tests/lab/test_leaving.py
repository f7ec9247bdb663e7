"""docs/leaving.md on a machine without Understudy, command by command; and another program's backups beside ours."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator

import pytest
from conftest import Lab, LabHost
from project import LAB, ROOT, Outcome, Project
from test_backup import COMMIT, backup, call, host, kept, project, rows

from lab import world
from lab.ssh import on_host

__all__ = ["host", "kept", "project"]
pytestmark = pytest.mark.lab

PAGE = ROOT / "docs/leaving.md"
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
IN_PAGE = "s3:https://s3.eu-central-003.backblazeb2.com/my-bucket"
STACKS = ("vaultwarden", "nextcloud", "wordpress")


@pytest.fixture(scope="module")
def elsewhere(lab: Lab) -> Iterator[LabHost]:
    """A machine with restic and Docker alone, the owner's two files, and the owner's git."""
    there = lab.host("standby")
    there.run(
        "command -v restic docker >/dev/null && docker compose version >/dev/null 2>&1 || { apt-get -qq update && "
        "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install restic docker.io docker-compose docker-cli >/dev/null 2>&1; }",
        check=True,
    )
    clean(there)
    secrets = world.storage_secrets()["backup"]
    login = f"[default]\naws_access_key_id = {secrets['OFFSITE_KEY_ID']}\naws_secret_access_key = {secrets['OFFSITE_KEY']}\n"
    put(there, "/root/restic-password", secrets["OFFSITE_PASSWORD"])
    put(there, "/root/aws", login)
    put(
        there,
        "/root/services/vaultwarden/nginx/default.conf",
        (ROOT / "services/vaultwarden/nginx/default.conf").read_text(),
    )
    yield there
    clean(there)


def clean(there: LabHost) -> None:
    downs = "; ".join(f"cd /home/docker-projects/{name} && docker compose down -v -t 3" for name in STACKS)
    there.run(f"{downs}; rm -rf /home/docker-projects /home/apps /root/restored /root/services /root/aws /root/restic-password "
              "/etc/understudy/secrets", timeout=120)  # fmt: skip


def put(there: LabHost, path: str, text: str) -> None:
    script = f"mkdir -p $(dirname {path}) && umask 077 && cat >{path}"
    on_host(there.settings, there.ip, script, stdin=text)


def commands(there: LabHost) -> list[str]:
    """The page's blocks, with this lab's address and the snapshots that the page says to take."""
    url = world.storage_settings()["offsite"]["url"]
    blocks = []
    group = ""
    for block in BLOCK.findall(PAGE.read_text()):
        lines = []
        for line in block.replace(IN_PAGE, url).splitlines():
            group = line.rpartition("/")[2] if "RESTIC_REPOSITORY=" in line else group
            service = re.search(r"SNAPSHOT:/(\w+)", line)
            lines.append(
                line.replace("SNAPSHOT", newest(there, f"{url}/{group}", service[1])) if service else line
            )
        blocks.append("\n".join(lines))
    return blocks


def newest(there: LabHost, repository: str, service: str) -> str:
    """By epoch and sequence number, with nothing but restic."""
    restic = f"AWS_SHARED_CREDENTIALS_FILE=~/aws restic -r {repository} --password-file ~/restic-password"
    found = json.loads(there.output(f"{restic} snapshots --json --no-lock --tag service:{service}"))

    def order(one: dict[str, object]) -> tuple[int, int]:
        tags = dict(tag.partition(":")[::2] for tag in one["tags"])  # type: ignore[attr-defined]
        return int(tags["epoch"]), int(tags["seq"])

    return str(max(found, key=order)["id"])


def test_the_leaving_page_works_where_understudy_never_was(
    lab: Lab, project: Project, host: LabHost, kept: Outcome, elsewhere: LabHost
) -> None:
    for service in ("vaultwarden", "nextcloud"):
        call(host, service, *COMMIT)
    assert all(row["ok"] for row in backup(project, *STACKS, "host"))
    assert elsewhere.run("test -e /usr/lib/understudy/agent.pyz").returncode == 1
    blocks = commands(elsewhere)
    assert len(blocks) == 5
    script = "set -eux\ncd ~\n" + "\ncd ~\n".join(blocks)
    done = elsewhere.run(f"bash -c {shlex.quote(script)}", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    for service in ("vaultwarden", "nextcloud"):
        assert rows(elsewhere, service) == rows(host, service), service
    tables = 'docker exec wordpress-db-1 sh -c \'mariadb -N -uroot -p"$(cat /run/secrets/db_root_password)" wordpress -e "SHOW TABLES"\''
    assert elsewhere.output(tables) == host.output(tables)
    page = "python3 -c \"import urllib.request as u; print('wp-core-ui' in u.urlopen('http://127.0.0.1:8086/wp-admin/install.php').read().decode())\""
    assert elsewhere.output(page) == "True"


def test_another_restic_job_runs_on_beside_ours(
    lab: Lab, project: Project, host: LabHost, kept: Outcome
) -> None:
    """Its own repository, and snapshots of its own in one of ours: ticks, prune and converge leave them alone."""
    secrets = world.storage_secrets()["backup"]
    url, tag = world.storage_settings()["offsite"]["url"], f"nightly-{time.time():.0f}"
    login = f"[default]\naws_access_key_id = {secrets['OFFSITE_KEY_ID']}\naws_secret_access_key = {secrets['OFFSITE_KEY']}\n"
    put(host, "/root/other/aws", login)
    put(host, "/root/other/theirs", secrets["OFFSITE_PASSWORD"])
    put(host, "/root/other/password", "another")
    own, ours = (
        "restic -q -r /root/other/r --password-file /root/other/password",
        (
            f"AWS_SHARED_CREDENTIALS_FILE=/root/other/aws restic -q -r {url}/critical --password-file /root/other/theirs"
        ),
    )
    job = f"#!/bin/sh\nset -e\n{own} backup /etc/hostname\n{own} forget --keep-last 2 --prune\n{ours} backup --tag {tag} /etc/hostname\n"
    put(host, "/etc/cron.daily/other", job)
    host.run(f"chmod 755 /etc/cron.daily/other; {own} init", check=True)
    try:
        host.run(
            "systemd-run --quiet --unit=other-job sh -c 'for i in 1 2 3; do /etc/cron.daily/other || exit 1; done'",
            check=True,
        )
        while_it_runs = [row["ok"] for _ in range(2) for row in backup(project, "vaultwarden", "nextcloud")]
        host.run("for i in $(seq 2400); do systemctl is-active -q other-job || break; sleep 0.1; done")
        failed = host.run("systemctl is-failed -q other-job").returncode == 0
        pruned = project.verb("repo", "prune", "--repo", "offsite", *LAB)
        host.start_timers()
        converged = project.converge()
        host.hold_timers()
        theirs = json.loads(host.output(f"{ours} snapshots --json --no-lock --tag {tag}"))
        own_left = json.loads(host.output(f"{own} snapshots --json"))
        kept_job = host.output("cat /etc/cron.daily/other")
        host.run("/etc/cron.daily/other", check=True)  # and goes on afterwards
    finally:
        host.run("systemctl reset-failed other-job 2>/dev/null; rm -rf /root/other /etc/cron.daily/other")
    assert all(while_it_runs) and not failed
    assert pruned.code == 0 and converged.code == 0, pruned.output + converged.output
    assert len(theirs) == 3 and len(own_left) == 2 and kept_job.strip() == job.strip()
