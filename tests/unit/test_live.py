"""Audit and import without a host: what the judge says of a census, what is hidden, what an import writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from understudy import compose, dotenv
from understudy.agent.census import docker as census_docker
from understudy.agent.census import jobs as census_jobs
from understudy.agent.root import Root
from understudy.errors import BadInput
from understudy.live import adopt, copies, drift, enlist, judge, page, redact
from understudy.live.reach import Reach
from understudy.yamlfile import load

HASH = "a" * 64


def container(
    name: str, image: str, project: str | None, mounts: list[tuple[str, str, str]]
) -> dict[str, Any]:
    return {
        "name": name, "image": image, "image_id": "sha256:1", "project": project, "service": name, "config_hash": "h",
        "state": "running", "oneoff": False, "labels": {},
        "mounts": [
            {"type": kind, "name": source if kind == "volume" else None, "source": source, "destination": target, "rw": True}
            for kind, source, target in mounts
        ],
    }  # fmt: skip


def size(count: int, sqlite: list[str] | None = None) -> dict[str, Any]:
    return {"bytes": count, "files": 1, "newest": 0.0, "sqlite": sqlite or [], "complete": True}


def a_census(job: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    volume = {"name": HASH, "path": "/v/anon", "anonymous": True, "labels": {}, "project": None}
    census: dict[str, Any] = {
        "privileged": True, "commands": 12, "seconds": 1.0,
        "machine": {
            "os": {"id": "debian", "version_id": "13", "arch": "x86_64", "hostname": "pantry"},
            "people": [{"name": "root", "home": "/root", "uid": 0}, {"name": "maria", "home": "/home/maria", "uid": 1000}],
            "disks": {},
        },
        "docker": {
            "containers": [
                container("vault", "vaultwarden/server:latest", "vault", [("bind", "/srv/vault/data", "/data")]),
                container("db", "postgres:16", "cloud", [("volume", "db", "/var/lib/postgresql/data")]),
                container("shop", "tombursch/kitchenowl", "shop", [("volume", HASH, "/data")]),
                container("kuma", "louislam/uptime-kuma:1", None, [("bind", "/var/run/docker.sock", "/var/run/docker.sock")]),
            ],
            "volumes": [volume, {**volume, "name": "db", "path": "/v/db", "anonymous": False}],
            "networks": [], "images": {"sha256:1": {"digests": ["vaultwarden/server@sha256:" + "b" * 64]}},
        },
        "projects": {
            name: {"folder": f"/srv/{name}", "files": [{"path": f"/srv/{name}/compose.yaml", "sha256": "x"}], "git": git,
                   "hashes": {name if name == "vault" else "db" if name == "cloud" else "shop": "h"}, "env_file": None}
            for name, git in (("vault", True), ("cloud", True), ("shop", None))
        },
        "databases": {"db": {"kind": "postgres", "databases": {"postgres": 1, "nextcloud": 10, "paperless": 20}}},
        "sizes": {"/srv/vault/data": size(100, ["/db.sqlite3"]), "/v/db": size(900), "/v/anon": size(40, ["/database.db"])},
        "jobs": [job] if job else [],
        "units": {"system": [], "personal": []},
        "routes": {"routes": [{"host": "vault.pantry.org", "to": "127.0.0.1:1", "by": "caddy", "file": "/x"}], "copies": []},
        "remotes": [], "plan": None,
    }  # fmt: skip
    return {**census, **changes}


def job(*uses: dict[str, Any], **changes: Any) -> dict[str, Any]:
    whole = [{"paths": [], "names": [], "words": [], "to": [], **use} for use in uses]
    return {
        "kind": "cron", "owner": "maria", "when": "0 2 * * *", "file": "/etc/crontab", "starts": ["/b.sh"], "missing": [],
        "log": None, "stops": [], "uses": whole, **changes,
    }  # fmt: skip


def graded(census: dict[str, Any]) -> dict[str, str]:
    return {place.what: place.grade for place in judge.judge(census, "pantry", "").places}


RESTIC = {"tool": "restic", "paths": ["/srv"], "to": ["b2:bucket"]}
DUMP = {"tool": "pg_dump", "paths": ["/backup/cloud.sql"], "words": ["pg_dump", "nextcloud"]}
SYNC = {"tool": "rclone", "paths": ["/backup"], "to": ["b2:bucket"]}


def test_without_a_job_everything_would_be_lost_and_the_first_sentence_says_so() -> None:
    report = judge.judge(a_census(), "pantry", "")
    assert report.headline.startswith(
        "If this machine died now, you would lose 4 of 4 places of data (170 B)"
    )
    assert report.would_lose and {app.name for app in report.undescribed} == {"shop", "kuma"}


@pytest.mark.parametrize(
    ("jobs", "what", "grade"),
    [
        (job(RESTIC), "/srv/vault/data", "weak"),  # a database is copied while it is written
        (job(RESTIC, stops=["vault"]), "/srv/vault/data", "kept"),
        (job(RESTIC), "db/nextcloud", "lost"),
        (job(DUMP), "db/nextcloud", "lost"),  # the dump stays on this machine
        (job(DUMP, SYNC), "db/nextcloud", "kept"),
        (job(DUMP, SYNC), "db/paperless", "lost"),  # the second database of the same server
        (job({**DUMP, "tool": "pg_dumpall"}, SYNC), "db/paperless", "kept"),
        (job(RESTIC, stops=["vault"], missing=["/gone.sh"]), "/srv/vault/data", "lost"),
        (job(RESTIC, stops=["vault"], log={"path": "/var/log/b", "uid": 0, "mode": "0755"}), "/srv/vault/data", "lost"),
        (job({**RESTIC, "paths": ["/"]}, stops=["vault"]), "/srv/vault/data", "kept"),
        (job({"tool": "rclone", "paths": ["/"], "to": ["b2:x"]}), "/srv/vault/data", "lost"),
        (job({**RESTIC, "paths": ["/srv/vau"]}), "/srv/vault/data", "lost"),
    ],
)  # fmt: skip
def test_what_a_job_keeps(jobs: dict[str, Any], what: str, grade: str) -> None:
    assert graded(a_census(jobs))[what] == grade


def test_a_servers_own_files_are_judged_by_its_databases_unless_it_did_not_answer() -> None:
    assert graded(a_census())["db"] == "cache"
    silent = a_census(databases={"db": {"kind": "postgres", "error": "it is exited"}})
    report = judge.judge(silent, "pantry", "")
    assert {p.what: p.grade for p in report.places}["db"] == "lost"
    assert report.unread == ["the databases of db: it is exited"] and report.would_lose


def test_what_could_not_be_read_is_never_nothing_there() -> None:
    report = judge.judge(a_census(docker={"unreadable": "permission denied"}, projects={}), "pantry", "")
    assert report.would_lose and "docker: permission denied" in report.unread
    assert report.headline.startswith("What would be lost cannot be told")


def test_our_own_plan_counts_as_kept() -> None:
    plan = {
        "repositories": ["offsite"], "config": ["/srv/shop/compose.yaml"],
        "places": [{"kind": "bind", "source": "/srv/vault/data", "class": "keep"},
                   {"kind": "volume", "source": HASH, "class": "keep"}],
        "databases": [{"kind": "postgres", "project": "cloud", "container": "db", "database": ""}],
    }  # fmt: skip
    report = judge.judge(a_census(plan=plan), "pantry", "")
    assert not report.of("lost") and not report.of("weak")
    assert [app.name for app in report.undescribed] == ["kuma"]


def test_redaction_hides_names_everywhere_and_keeps_the_sense() -> None:
    census = a_census(
        job({**SYNC, "to": ["b2-mine:secretbucket"], "paths": ["/home/maria/x"]}),
    )
    census["docker"]["containers"][0]["mounts"][0]["source"] = "/home/maria/vault"
    report = judge.judge(census, "maria@192.168.1.7", "")
    text = str(redact.report(report, census).as_json())
    for name in ("maria", "192.168.1.7", "pantry", "secretbucket", "b2-mine"):
        assert name not in text
    assert "/home/user-1/vault" in text and "vaultwarden/server:latest" in text


def test_the_page_escapes_what_a_host_calls_itself_and_needs_nothing_else() -> None:
    census = a_census()
    census["docker"]["containers"][3]["name"] = "<script>alert(1)</script>"
    told = page.render(judge.judge(census, "pantry", ""))
    assert "<script" not in told and "&lt;script&gt;" in told and "src=" not in told and "@import" not in told


SCRIPT = """#!/bin/bash
BACKUP_DIR="/mnt/backups"
TARGET=$HOME/stuff
# rclone sync /commented/out b2:never
tar czf "$BACKUP_DIR/vault-$(date +%F).tar.gz" -C /srv/vault data
docker exec db pg_dump -U nextcloud nextcloud > ${BACKUP_DIR}/cloud.sql
rclone sync "$TARGET" \\
    b2-backup:my-bucket --delete-after
"""


@pytest.mark.parametrize(
    ("manager", "mount", "said", "path"),
    [
        ("portainer/portainer-ce:2.33.1", ("volume", "portainer_data", "/data"), "/data/compose/3", "/v/portainer/compose/3"),
        ("louislam/dockge:1", ("bind", "/srv/stacks", "/opt/stacks"), "/opt/stacks/3", "/srv/stacks/3"),
        ("nginx:1", ("bind", "/srv/stacks", "/opt/stacks"), "/opt/stacks/3", "/opt/stacks/3"),
    ],
)  # fmt: skip
def test_a_managers_files_are_found_where_the_host_keeps_them(
    manager: str, mount: tuple[str, str, str], said: str, path: str
) -> None:
    """Portainer and Dockge write into Compose's labels what they see inside their own container."""
    app = container("app", "example/app:1", "app", [])
    app |= {"env_file": None, "labels": {
        "com.docker.compose.project.working_dir": said,
        "com.docker.compose.project.config_files": f"{said}/docker-compose.yml",
    }}  # fmt: skip
    volume = {
        "name": "portainer_data",
        "path": "/v/portainer",
        "anonymous": False,
        "labels": {},
        "project": None,
    }
    seen = {"containers": [app, container("manager", manager, None, [mount])], "volumes": [volume]}
    found = census_docker._labelled(Root("/nowhere"), seen)["app"]
    assert (found["folder"], found["files"][0]["path"]) == (path, f"{path}/docker-compose.yml")
    assert "error" in found["files"][0]


def test_a_script_gives_tools_paths_and_targets_and_nothing_else() -> None:
    tar, dump, rclone = census_jobs.uses(SCRIPT, ["db", "vault"], "/home/maria")
    assert "/srv/vault/data" in tar["paths"] and tar["to"] == []
    assert (dump["tool"], dump["names"]) == ("pg_dump", ["db"]) and "nextcloud" in dump["words"]
    assert "/mnt/backups/cloud.sql" in dump["paths"]
    assert rclone["paths"] == ["/home/maria/stuff"] and rclone["to"] == ["b2-backup:my-bucket"]


def test_crontabs_of_everybody_are_read_and_a_missing_script_is_named(tmp_path: Path) -> None:
    for folder in ("var/spool/cron/crontabs", "etc/cron.d", "srv"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "srv/b.sh").write_text(SCRIPT)
    (tmp_path / "var/spool/cron/crontabs/maria").write_text(
        "MAILTO=x\n0 3 * * * /srv/b.sh >> /var/log/b.log 2>&1\n"
    )
    (tmp_path / "etc/crontab").write_text(
        "*/5 * * * * root /usr/local/bin/gone.sh\n@daily root bash /srv/b.sh\n"
    )
    people = [{"name": "maria", "home": "/home/maria", "uid": 1000}]
    found = census_jobs.read(Root(str(tmp_path)), people, ["db"])
    assert [(one["owner"], one["missing"], len(one["uses"])) for one in found] == [
        ("maria", [], 3), ("root", ["/usr/local/bin/gone.sh"], 0), ("root", [], 3),
    ]  # fmt: skip
    assert found[0]["log"]["path"] == "/var/log/b.log" and "b2-backup" not in str(found[1])


@pytest.mark.parametrize("name", ["", "-oProxyCommand=x", "a b", "root@host;id", "user@$(x)"])
def test_a_host_is_a_name_and_never_an_option(name: str) -> None:
    with pytest.raises(BadInput):
        Reach(name)


def test_this_machine_itself_can_be_read() -> None:
    census = Reach("@local", sudo=False).census({})
    assert census["machine"]["os"]["id"] and census["commands"] >= 1


ENV = """\
# comment
A=plain value # not this
export B='single $A'
C="double $A \\"x\\" \\$5"
D=
E="two
lines"
F=${A}/sub
G=a#b
"""


def test_an_env_file_means_what_compose_makes_of_it() -> None:
    assert dotenv.parse(ENV) == {
        "A": "plain value", "B": "single $A", "C": 'double plain value "x" $5', "D": "", "E": "two\nlines",
        "F": "plain value/sub", "G": "a#b",
    }  # fmt: skip


def test_written_values_are_read_back_as_they_were() -> None:
    values = {"A": "it's", "B": 'q"u$ote', "C": "x\ny", "D": "back\\slash", "E": "'$HOME'", "F": "a #b"}
    assert dotenv.parse(dotenv.render(values)) == values


def model(folder: Path, variables: dict[str, str] | None = None, **files: str) -> compose.ComposeModel:
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.write_text(text)
    return compose.read([load(folder / "compose.yaml")], "/srv/app", variables or {}, folder)


def test_include_and_extends_bring_their_own_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/db.yaml").write_text(
        "services:\n  db: {image: postgres, volumes: ['./data:/var/lib/postgresql']}\n"
    )
    (tmp_path / "sub/base.yaml").write_text(
        "services:\n  base: {image: base, env_file: x.env, volumes: ['./b:/b', './c:/c']}\n"
    )
    found = model(
        tmp_path,
        compose="include: [sub/db.yaml]\nservices:\n  web:\n    extends: {file: sub/base.yaml, service: base}\n    volumes: ['./w:/c']\n",
    )
    assert [m.source for m in found.containers["db"].mounts] == ["/srv/app/sub/data"]
    web = found.containers["web"]
    assert (web.image, web.env_files) == ("base", ("/srv/app/sub/x.env",))
    assert {m.target: m.source for m in web.mounts} == {"/b": "/srv/app/sub/b", "/c": "/srv/app/w"}


def test_circles_end_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="circle"):
        model(tmp_path, compose="include: [compose.yaml]\nservices: {}\n")
    with pytest.raises(BadInput, match="extends itself"):
        model(tmp_path, compose="services:\n  a: {extends: b}\n  b: {extends: a}\n")
    with pytest.raises(BadInput, match="not part of this description"):
        model(tmp_path, compose="include: [gone.yaml]\n")


def test_composes_own_tags(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services:\n  a: {image: x, ports: ['1:1'], command: [y]}\n")
    (tmp_path / "compose.override.yaml").write_text(
        "services:\n  a:\n    ports: !override ['2:2']\n    command: !reset null\n    environment: !reset\n"
    )
    found = compose.read([load(path) for path in compose.find_files(tmp_path)], "/srv/app", {}, tmp_path)
    assert [port.port for port in found.containers["a"].ports] == [2]


@pytest.mark.parametrize(
    ("text", "ports"),
    [("3000-3002:80-82", [3000, 3001, 3002]), ("80", [0]), ("${P:-8080}:80", [8080]), ("${P}:80", []),
     ("[::1]:90:80", [90]), ("127.0.0.1::80", [0]), ("5000-5010:80/udp", [5000])],
)  # fmt: skip
def test_ports_as_compose_writes_them(tmp_path: Path, text: str, ports: list[int]) -> None:
    found = model(tmp_path, compose=f"services:\n  a: {{image: x, ports: ['{text}']}}\n")
    assert [port.port for port in found.containers["a"].ports] == ports


def test_nested_defaults_and_dollars() -> None:
    assert compose.interpolate("${A:-${B:-x}}/$$c/${D-}", {}) == "x/$c/"
    assert compose.references("${A:-${B}} $C $$D") == {"A": "${B}", "B": None, "C": None}


def test_the_inventory_keeps_every_line_and_gains_one_host(tmp_path: Path) -> None:
    text = '"""Mine."""\nprimary = [\n    ("a", {}),\n]  # tail\nreplica = []\n'
    data = enlist.entry("pantry", "maria", ["x"], True, "", True)
    new = enlist.add(text, "pantry", data, tmp_path / "prod.py")
    names: dict[str, Any] = {}
    exec(new, names)
    assert names["primary"][1] == ("pantry", data) and data["parts"] == ["backup"] and data["_sudo"]
    assert [line for line in text.splitlines() if line not in new.splitlines()] == []
    with pytest.raises(BadInput, match="no list called primary"):
        enlist.add("x = 1\n", "pantry", data, tmp_path / "prod.py")


def test_drift_shows_the_text_without_its_secrets(tmp_path: Path) -> None:
    for name, port in (("mine", 1), ("live", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "compose.yaml").write_text(f"ports: {port}\npassword: hunter22\n")
    (tmp_path / "live" / "understudy.yaml").write_text("images: {a: {image: 'x:1', digest: 'sha256:new'}}\n")
    told = "\n".join(drift.differences(tmp_path / "mine", tmp_path / "live", {"hunter22": "PASSWORD"}))
    assert "-ports: 1" in told and "+ports: 2" in told and "image of a" in told and "hunter22" not in told


def test_taking_over_keeps_what_the_owner_wrote() -> None:
    mine = {
        "project": "a",
        "path": "/old",
        "tier": "critical",
        "routes": [1],
        "secrets": {"A": {}},
        "databases": [],
    }
    live = {"project": "a", "path": "/new", "secrets": {"A": {"optional": True}, "B": {}}, "databases": [1]}
    assert drift.taken_over(mine, live) == {
        "project": "a", "path": "/new", "tier": "critical", "routes": [1], "databases": [],
        "secrets": {"A": {}, "B": {}}, "secrets_env": [],
    }  # fmt: skip


def test_a_secret_in_a_unit_file_is_not_taken_into_a_repository() -> None:
    unit = {"name": "x.service", "user": "maria", "folders": []}
    with pytest.raises(adopt.NotImportable, match="HOST_PASSWORD"):
        adopt.unit_block(unit, "[Service]\nEnvironment=HOST_PASSWORD=abc\nExecStart=/bin/x\n", {})


def test_sudos_password_goes_by_standard_input_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for ssh notes what it was started with; the word must not be in it."""
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/argv\nenv >>{tmp_path}/argv\n'
                       'case "$*" in *"-k -S"*) read -r word; exec sh -c "$(echo "$*" | sed "s/.*-- python3/python3/")";; '
                       '*) echo "understudy: sudo asks for a password";; esac\n')  # fmt: skip
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    asked: list[str] = []
    reach = Reach("maria@pantry", ask=lambda prompt: asked.append(prompt) or "Tr0ub4dor")
    for _ in range(2):
        reach.census({"take": ["/etc/hostname"]})
    assert len(asked) == 1 and reach.sent == 3
    assert "Tr0ub4dor" not in (tmp_path / "argv").read_text()


def test_copies_follow_a_chain_only_where_it_holds() -> None:
    jobs = [job(DUMP), job({"tool": "rclone", "paths": ["/other"], "to": ["b2:x"]})]
    assert copies.grade_database("nextcloud", copies.uses(jobs, []))[0] == "lost"


def model_of(tmp_path: Path, text: str) -> compose.ComposeModel:
    (tmp_path / "compose.yaml").write_text(text)
    return compose.read([load(tmp_path / "compose.yaml")], "/srv/all", {}, tmp_path)


def test_a_file_with_applications_that_have_nothing_to_do_with_each_other_is_named(tmp_path: Path) -> None:
    """A server that two of them share ties none of them together; a helper belongs to the one that it helps."""
    text = """
services:
  db: {image: "postgres:16.3"}
  cache: {image: "redis:8.0.5"}
  rss: {image: "miniflux/miniflux:2.3.3", depends_on: [db]}
  paper: {image: "ghcr.io/paperless-ngx/paperless-ngx:2.14.7", depends_on: [db, cache]}
  vault: {image: "vaultwarden/server:1.37.2"}
  front: {image: "nginx:1.30.4", depends_on: [vault]}
  helper: {image: "unknown/helper:1"}
"""
    found = adopt.applications(model_of(tmp_path, text))
    assert found == ["miniflux", "paperless-ngx", "vaultwarden"]


def test_a_file_that_its_owner_has_split_is_no_drift() -> None:
    mine = {
        "apps": {"a": {"services": ["a"], "databases": [{"postgres": {"service": "db", "database": "a"}}]}}
    }
    live = {"databases": [{"postgres": {"service": "db", "database": "a"}}], "path": "/srv/all"}
    assert list(drift._facts({**mine, "path": "/srv/all"}, live)) == []
    assert (
        "databases" not in drift.taken_over(mine, live)
        and drift.taken_over(mine, live)["apps"] == mine["apps"]
    )
