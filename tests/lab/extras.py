"""Two services beside the catalogue: a reader whose database is on Nextcloud's server and whose files lie on a disk of
their own, and a Redis that holds state. They join the converged host and leave it again."""

from __future__ import annotations

import shutil

from conftest import Lab, LabHost
from project import ROOT, Project

from lab import world
from understudy.secrets import Store

EXTRAS = ("reader", "sessions")
STACKS = "/home/docker-projects"
DISK, LABEL, NOTES = "/mnt/ssd", "LAB-SSD", "/mnt/ssd/reader"
PASSWORD = "of-the-reader-1"
SERVER = "docker exec -i -u postgres nextcloud-db-1 psql -qAt -v ON_ERROR_STOP=1 -U nextcloud"


def join(lab: Lab, project: Project, megabytes: int = 256) -> None:
    """Both converged onto the host, which is converged without them already, and kept."""
    host = lab.host()
    lab.disk(LABEL).make(megabytes)
    lab.disk(LABEL).mount(host.facts, DISK)
    host.run(f"mkdir {NOTES}", check=True)
    world.use_lab_key()
    Store(world.SECRETS).add("reader", {"DB_PASSWORD": PASSWORD})
    role = f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'"
    sql(host, "postgres", role, "CREATE DATABASE reader OWNER reader")
    for name in EXTRAS:
        shutil.copytree(ROOT / "lab/extras" / name, project.path / "services" / name)
    project.keep()


def leave(lab: Lab, project: Project) -> None:
    """The catalogue's own stack again, also after a run that was killed and on a host that never had them."""
    host = lab.host()
    for name in EXTRAS:
        folder = project.path / "services" / name
        if host.run(f"test -e {STACKS}/{name}/compose.yaml").returncode == 0:
            shutil.copytree(ROOT / "lab/extras" / name, folder, dirs_exist_ok=True)
            project.verb("retire", name, "-i", "inventory/lab.py", f"--yes={name}", "--limit", "lemongrab")
        shutil.rmtree(folder, ignore_errors=True)
        host.run(f"rm -rf {STACKS}/{name}")
    if host.run("docker exec nextcloud-db-1 true").returncode == 0:
        drop = [
            f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
            for name in ("reader", "reader__new", "reader__old")
        ]
        sql(host, "postgres", *drop, "DROP ROLE IF EXISTS reader")
    lab.disk(LABEL).detach(host.facts)


def sql(host: LabHost, database: str, *statements: str) -> list[str]:
    """What statements print on Nextcloud's server, each in a transaction of its own."""
    words = " ".join(f'-c "{statement}"' for statement in statements)
    return host.output(f"{SERVER} -d {database} {words}").splitlines()
