"""Two applications of one Compose file on a real host: brought up together, kept and brought back one by one."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator

import pytest
from conftest import Lab, LabHost
from project import LAB, ROOT, Project
from test_backup import backup, probe_all, restore

pytestmark = pytest.mark.lab

NAME = "several"
FOLDER = f"/home/docker-projects/{NAME}"
UNITS = ("lists", "feeds", NAME)


@pytest.fixture(scope="module")
def project(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The converged host with the file of lab/extras/several, and its repositories."""
    project = Project.copy(tmp_path_factory.mktemp("project"))
    shutil.copytree(ROOT / "lab/extras" / NAME, project.path / "services" / NAME)
    try:
        project.keep()
        yield project
    finally:
        gone = project.verb("retire", NAME, "-i", "inventory/lab.py", f"--yes={NAME}", "--limit", "lemongrab")
        lab.host().run(f"rm -rf {FOLDER}; docker volume rm {NAME}_db")
        assert gone.code == 0, gone.output


@pytest.fixture(scope="module")
def host(lab: Lab, project: Project) -> Iterator[LabHost]:
    host = lab.host()
    host.hold_timers()
    yield host
    host.start_timers()


def lists(host: LabHost, statement: str) -> str:
    program = f"import sqlite3; c=sqlite3.connect('{FOLDER}/lists/database.db'); print(c.execute({statement!r}).fetchall()); c.commit()"
    return host.output(f"python3 -c {shlex.quote(program)}")


def feeds(host: LabHost, statement: str) -> str:
    psql = f"docker exec -i -u postgres {NAME}-db-1 psql -qAt -v ON_ERROR_STOP=1 -U feeds -d feeds -c"
    return host.output(f"{psql} {shlex.quote(statement)}")


def started(host: LabHost) -> dict[str, str]:
    """Container to the moment it was started."""
    names = " ".join(f"{NAME}-{one}-1" for one in ("lists", "feeds", "db"))
    lines = host.output(f"docker inspect -f '{{{{.Name}}}} {{{{.State.StartedAt}}}}' {names}").splitlines()
    return {name.split("-")[1]: moment for name, moment in map(str.split, lines)}


def test_one_project_comes_up_and_stays(project: Project, lab: Lab) -> None:
    again = project.converge()
    assert (again.code, again.changed) == (0, {}), again.output
    probes = [p["name"] for report in again.reports for p in report["probes"]]
    assert {"lists", "feeds"} <= set(probes) and NAME not in probes
    assert len(started(lab.host())) == 3


def test_each_is_kept_and_comes_back_while_the_other_runs_on(project: Project, host: LabHost) -> None:
    lists(host, "CREATE TABLE proof (n)")
    lists(host, "INSERT INTO proof VALUES (1), (2)")
    feeds(host, "CREATE TABLE proof (n int); INSERT INTO proof VALUES (1), (2), (3)")
    rows = {row["service"]: row for row in backup(project, *UNITS)}
    assert set(rows) == set(UNITS) and all(row["ok"] for row in rows.values()), rows
    lists(host, "DELETE FROM proof")
    feeds(host, "DELETE FROM proof WHERE n > 1")

    before = started(host)
    outcome = restore(project, "lists")
    assert outcome.code == 0, outcome.output
    assert lists(host, "SELECT count(*) FROM proof") == "[(2,)]"
    assert feeds(host, "SELECT count(*) FROM proof") == "1"
    assert {name for name, moment in started(host).items() if moment != before[name]} == {"lists"}

    before = started(host)
    outcome = restore(project, NAME)  # all of the server, but for what another unit names
    assert outcome.code == 0, outcome.output
    assert feeds(host, "SELECT count(*) FROM proof") == "1" and started(host) == before

    outcome = restore(project, "feeds")
    assert outcome.code == 0, outcome.output
    assert feeds(host, "SELECT count(*) FROM proof") == "3"
    assert {name for name, moment in started(host).items() if moment != before[name]} == {"feeds"}
    probe_all(host)


def test_each_is_rehearsed_alone(project: Project, host: LabHost) -> None:
    """The server in the same file is adopted as another project's would be, with this application's rows only."""
    outcome = project.verb("drill", "lists", "feeds", "--json", *LAB)
    assert outcome.code == 0, outcome.output
    reports = {row["service"]: row for row in outcome.reports[0]["reply"]["services"]}
    for name in ("lists", "feeds"):
        assert reports[name]["ok"] and reports[name]["scope"] == "full" and reports[name]["probes"], reports[
            name
        ]
    assert reports["feeds"]["rows"] >= 3
    assert json.loads(host.output("docker ps -a --format json | grep -c understudy-drill- || true")) == 0


def test_an_update_of_one_that_does_not_serve_goes_back(project: Project, host: LabHost) -> None:
    """With its data; the other application of the file has not been touched."""
    host.run("docker tag postgres:16.15 tombursch/kitchenowl:v0.7.10", check=True)
    project.edit(f"{NAME}/compose.yaml", "kitchenowl:v0.7.9", "kitchenowl:v0.7.10")
    before = started(host)
    try:
        outcome = project.verb("update", "lists", *LAB)
    finally:
        project.edit(f"{NAME}/compose.yaml", "kitchenowl:v0.7.10", "kitchenowl:v0.7.9")
    assert outcome.code == 1 and "lists did not serve after its update" in outcome.output, outcome.output
    assert "put back to the images and the data of before" in outcome.output, outcome.output
    assert lists(host, "SELECT count(*) FROM proof") == "[(2,)]"
    assert started(host)["feeds"] == before["feeds"] and started(host)["db"] == before["db"]
    image = host.output(f"docker inspect -f '{{{{.Config.Image}}}}' {NAME}-lists-1")
    assert image == "tombursch/kitchenowl:v0.7.9"
    probe_all(host)
    now = started(host)
    again = project.converge()
    assert again.code == 0 and started(host) == now, again.output
