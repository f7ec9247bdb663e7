"""Drills on a real host: services rise from a snapshot, and nothing live notices."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Lab, LabHost
from project import Project

pytestmark = pytest.mark.lab

AGENT = "python3 -IB /usr/lib/understudy/agent.pyz"
PLAN = "/etc/understudy/backup.json"
# Another one each time: a host remembers what it wrote to a repository, and refuses one that has lost it.
NAME = f"drill{secrets.token_hex(4)}"
REPOSITORY, PASSWORD = f"/srv/{NAME}", f"/root/{NAME}"
DRILLS = "/var/lib/understudy/drill"
# With PostgreSQL, SQLite behind two containers, MariaDB, a volume nobody fills, docker.sock, and a native unit.
FULL = ["nextcloud", "vaultwarden", "miniflux", "wordpress", "goatcounter", "portainer"]
NATIVE = ["gokapi"]


@pytest.fixture(scope="module")
def host(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    """A converged host with a repository on its own disk that holds one snapshot of each service."""
    project = Project.copy(tmp_path_factory.mktemp("project"))
    outcome = project.converge()
    assert outcome.code == 0, outcome.output
    host = lab.host()
    host.hold_timers()
    host.run(f"cp -a {PLAN} /root/plan.json", check=True)
    try:
        back_up(host)
        yield host
    finally:
        host.run(f"cp -a /root/plan.json {PLAN}; rm -rf {REPOSITORY} {PASSWORD} /root/plan.json")
        host.start_timers()


def back_up(host: LabHost) -> None:
    host.run(f"mkdir {REPOSITORY}; echo drill-password >{PASSWORD}; chmod 400 {PASSWORD}", check=True)
    for group in ("critical", "rest"):
        restic(host, group, "init")
    entry = {"url": REPOSITORY, "tiers": [], "credentials": {"password": PASSWORD}}
    change_plan(host, f"p['repositories'] = {{{NAME!r}: {entry!r}}}")
    reply = ask(host, "backup", services=[*FULL, *NATIVE], repositories=[NAME], confirm=True)
    assert "error" not in reply, reply


def restic(host: LabHost, group: str, words: str) -> str:
    return host.output(f"RESTIC_PASSWORD_FILE={PASSWORD} restic -q -r {REPOSITORY}/{group} {words}")


def change_plan(host: LabHost, statement: str) -> None:
    program = f"import json; p=json.load(open('{PLAN}')); {statement}; json.dump(p, open('{PLAN}','w'))"
    host.run(f"python3 -c {shlex.quote(program)}", check=True)


def ask(host: LabHost, verb: str, **request: Any) -> dict[str, Any]:
    done = host.run(f"echo {shlex.quote(json.dumps(request))} | {AGENT} {verb} -", timeout=900)
    reply: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])["reply"]
    return reply


def live(host: LabHost) -> set[str]:
    """What must stay the same: files and their times, containers, networks.

    Not files that databases write by themselves, and not the times of the folder in which WordPress, asked how it
    is, tries whether it may write.
    """
    folders = " -o ".join(
        f"-path '{path}' -prune" for path in ("*/nextcloud/db", "*/miniflux/db", "*/wordpress/db")
    )
    skip = f"{folders} -o -name '*-wal' -o -name '*-shm' -o -name '*.log'"
    where = "/home /etc/understudy /var/lib/docker/volumes/*/_data"
    commands = {
        "times": f"find {where} -xdev {skip} -o -name wp-content -o ! -type s -printf '%p %m %U %G %s %T@ %C@\\n'",
        "content": f"find {where} -xdev {skip} -o -type f -print0 | xargs -0 sha256sum",
        "containers": "docker ps -aq | xargs docker inspect -f '{{.Name}} {{.State.StartedAt}} {{.State.Pid}}'",
        "networks": "docker network ls -q",
    }
    return {f"{name}: {line}" for name, words in commands.items() for line in host.output(words).splitlines()}


def assert_nothing_left(host: LabHost) -> None:
    assert host.output(f"ls {DRILLS} 2>/dev/null; true") == ""
    for kind in ("container ls --all", "network ls", "volume ls"):
        listed = f"docker {kind} --filter label=com.docker.compose.project --format '{{{{.Labels}}}}'"
        assert "understudy-drill-" not in host.output(listed), kind
    assert "understudy_drill" not in host.output("nft list tables")
    assert "udrill-" not in host.output("ip -br link")


def newest(host: LabHost) -> dict[str, Any]:
    """The last drill in the ledger."""
    lines = host.output("cat /var/lib/understudy/ledger/*.jsonl").splitlines()
    found: dict[str, Any] = next(
        r for r in map(json.loads, filter(None, reversed(lines))) if r["kind"] == "drill"
    )
    return found


def test_every_service_rises_and_nothing_live_changes(host: LabHost) -> None:
    before = live(host)
    reply = ask(host, "drill", services=[*FULL, *NATIVE])
    assert live(host) ^ before == set()
    assert "error" not in reply, reply
    reports = {report["service"]: report for report in reply["services"]}
    for name in FULL:
        report = reports[name]
        assert report["ok"] and report["scope"] == "full" and report["probes"], report
        assert set(report["phases"]) >= {"restore", "check", "servers", "load", "start", "probe", "remove"}
        print(name, report["seconds"], report["phases"])
    assert reports["nextcloud"]["rows"] > 0 and reports["vaultwarden"]["rows"] > 0
    assert reports["gokapi"]["scope"] == "data" and "native unit" in reports["gokapi"]["notes"][0]
    assert newest(host)["service"] == "gokapi" and newest(host)["ok"]
    assert_nothing_left(host)


def test_not_even_a_stopped_databases_own_files_change(host: LabHost) -> None:
    """Everything of the live service held still, so that each byte and time of its server's folder can be compared."""
    compose = "cd /home/docker-projects/nextcloud && docker compose"
    whole = "find /home/apps/nextcloud /home/docker-projects/nextcloud -printf '%p %m %U %G %s %T@ %C@ %i\\n' | sort"
    sums = "find /home/apps/nextcloud -type f -print0 | sort -z | xargs -0 sha256sum"
    host.run(f"{compose} stop", check=True)
    try:
        before = host.output(whole), host.output(sums)
        reply = ask(host, "drill", services=["nextcloud"])
        assert "error" not in reply, reply
        assert (host.output(whole), host.output(sums)) == before
        assert host.output("docker ps -q --filter label=com.docker.compose.project=nextcloud") == ""
    finally:
        host.run(f"{compose} start --wait 2>/dev/null || {compose} up -d --wait", check=True)


def begin(host: LabHost, service: str, when: str, act: str) -> None:
    """Start a drill and run the shell words ``act`` once ``when`` succeeds; $drill is the process.

    When it is killed, what it had started lives on, as after a crash of the agent alone.
    """
    unit = "rm -f /tmp/drill.out /tmp/drill.err; touch /tmp/drill.err; "
    unit += "systemd-run -q --unit drill-test -p KillMode=process -p StandardOutput=file:/tmp/drill.out "
    unit += f"-p StandardError=file:/tmp/drill.err {AGENT} drill {service}"
    wait = f"for i in $(seq 600); do {when} && break; sleep 0.05; done; {when} || {{ cat /tmp/drill.err; exit 9; }}"
    done = host.run(f"{unit}; {wait}; drill=$(systemctl show -P MainPID drill-test); {act}", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def wait_for_end(host: LabHost) -> None:
    host.run("while systemctl is-active -q drill-test; do sleep 0.1; done", check=True, timeout=120)
    host.run("systemctl reset-failed drill-test")


def container(project: str, service: str) -> str:
    label = "--filter label=com.docker.compose"
    return f"$(docker ps -q {label}.project={project} {label}.service={service} | head -1)"


def reaches(host: LabHost, copy: str, target: str) -> bool:
    """Whether a container can connect to HOST/PORT."""
    return host.run(f"docker exec {copy} timeout 3 bash -c 'echo >/dev/tcp/{target}'").returncode == 0


def test_a_copy_reaches_itself_and_nothing_else(host: LabHost) -> None:
    running = f'[ -n "{container("understudy-drill-wordpress", "wordpress")}" ]'
    begin(host, "wordpress", running, "kill -STOP $drill")
    try:
        copy = host.output(f"echo {container('understudy-drill-wordpress', 'wordpress')}")
        inspect = json.loads(host.output(f"docker inspect {copy}"))[0]
        bridge = host.output("ip -br -4 addr | awk '/^udrill/{split($3,a,\"/\"); print a[1]}'")
        neighbour = host.output(
            "docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' vaultwarden-nginx-1"
        )
        host.run("systemd-run -q --unit drill-listener python3 -m http.server 8999", check=True)
        assert reaches(host, copy, "db/3306")
        outside = (
            f"{bridge}/22",
            f"{bridge}/80",
            f"{bridge}/8999",
            f"{host.ip}/22",
            f"{neighbour}/80",
            "1.1.1.1/53",
        )
        assert [target for target in outside if reaches(host, copy, target)] == []
        # The wall stands by itself: with the host's own firewall open, and, for comparison, without the wall.
        host.run("nft insert rule inet understudy input iifname 'udrill-*' accept", check=True)
        assert not reaches(host, copy, f"{bridge}/8999")
        host.run("nft delete table inet understudy_drill", check=True)
        assert reaches(host, copy, f"{bridge}/8999")
        assert host.run(f"docker exec {copy} timeout 20 getent hosts example.org").returncode != 0
        labels = inspect["Config"]["Labels"]
        assert labels["com.docker.compose.project"] == "understudy-drill-wordpress"
        assert not any(key.startswith("traefik") for key in labels)
        assert (
            inspect["HostConfig"]["RestartPolicy"]["Name"] == "no"
            and not inspect["HostConfig"]["PortBindings"]
        )
        assert not inspect["HostConfig"]["Privileged"] and inspect["HostConfig"]["OomScoreAdj"] == 1000
        sources = [mount["Source"] for mount in inspect["Mounts"]]
        assert sources and all(source.startswith(f"{DRILLS}/wordpress/") for source in sources)
        assert host.output(f"stat -c %a {DRILLS} {DRILLS}/wordpress").split() == ["700", "700"]
    finally:
        host.run("systemctl stop drill-listener; nft -f /var/lib/understudy/firewall.nft")
        host.run("systemctl kill -s CONT drill-test")
    wait_for_end(host)
    assert json.loads(host.output("cat /tmp/drill.out"))["reply"]["services"][0]["ok"]
    assert_nothing_left(host)


MOMENTS = {
    "restore": "grep -q ': restore' /tmp/drill.err",
    "servers": "grep -q ': servers' /tmp/drill.err",
    "load": "grep -q ': load' /tmp/drill.err",
    "start": f'[ -n "{container("understudy-drill-nextcloud", "app")}" ]',
    "remove": "grep -q ': remove' /tmp/drill.err",
}


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_a_killed_drill_is_removed_by_lift(host: LabHost, moment: str) -> None:
    before = live(host)
    begin(host, "nextcloud", MOMENTS[moment], "kill -9 $drill")
    wait_for_end(host)
    removed = host.run(
        "PYTHONPATH=/usr/lib/understudy/agent.pyz python3 -B -c "
        "'from agent.root import Root; from agent.scratch import cleanup; print(cleanup(Root()))'",
        check=True,
    )
    print(moment, removed.stdout)
    assert_nothing_left(host)
    assert live(host) ^ before == set()


def test_the_next_drill_removes_what_a_killed_one_left(host: LabHost) -> None:
    begin(host, "nextcloud", MOMENTS["start"], "kill -9 $drill")
    wait_for_end(host)
    reply = ask(host, "drill", services=["vaultwarden"])
    assert reply["services"][0]["ok"], reply
    assert_nothing_left(host)


def test_a_stopped_drill_cleans_up_itself_and_says_so(host: LabHost) -> None:
    begin(host, "nextcloud", MOMENTS["load"], "kill -TERM $drill")
    wait_for_end(host)
    assert_nothing_left(host)
    assert newest(host)["error"] == "the drill of nextcloud was stopped by a signal; its copy is removed"


def test_a_copy_that_answers_wrongly_is_no_proof(host: LabHost) -> None:
    change_plan(
        host, "p['services']['vaultwarden']['probes'][0].update(path='x', text='not what it says', wait=1)"
    )
    try:
        program = "import agent.scratch.asking as a; a.PATIENCE = 2.0; import agent.drill as d; from agent.root import Root; import json;"
        program += "print(json.dumps(d.run(dict(services=['vaultwarden']), Root())))"
        done = host.run(f'PYTHONPATH=/usr/lib/understudy/agent.pyz python3 -B -c "{program}"', check=True)
        reply = json.loads(done.stdout)
    finally:
        host.run(f"python3 - <<'E'\nimport json\nold = json.load(open('/root/plan.json'))\np = json.load(open('{PLAN}'))\n"
                 f"p['services'] = old['services']\njson.dump(p, open('{PLAN}', 'w'))\nE", check=True)  # fmt: skip
    assert "does not answer as it should: vaultwarden" in reply["error"]
    assert newest(host)["ok"] is False
    assert_nothing_left(host)


def test_rows_that_a_server_does_not_give_back_fail(host: LabHost) -> None:
    """The manifest of a newer snapshot claims more rows than its dump of PostgreSQL holds."""
    stage = "/var/lib/understudy/stage/critical"
    program = (
        f"import json; f='{stage}/nextcloud/manifest.json'; m=json.load(open(f)); "
        "r=m['databases']['db.nextcloud']['rows']; k=sorted(r)[0]; r[k]+=1; json.dump(m, open(f,'w'))"
    )
    tags = ("understudy", "group:critical", "tier:critical", "epoch:1", "seq:9999", "service:nextcloud")
    keep = f"{stage}/nextcloud/manifest.json /root/manifest.json"
    host.run(f'cp -a {keep}; python3 -c "{program}"', check=True)
    try:
        in_stage = f"cd {stage} && RESTIC_PASSWORD_FILE={PASSWORD} restic -q -r {REPOSITORY}/critical backup"
        host.run(f"{in_stage} {' '.join(f'--tag {tag}' for tag in tags)} nextcloud", check=True)
    finally:
        host.run(f"mv /root/manifest.json {stage}/nextcloud/manifest.json", check=True)
    try:
        reply = ask(host, "drill", services=["nextcloud"])
        assert "dumped" in reply["error"] and "start" not in reply["services"][0]["phases"], reply
        assert_nothing_left(host)
    finally:
        (bad,) = json.loads(restic(host, "critical", "snapshots --tag seq:9999 --json"))
        restic(host, "critical", f"forget {bad['id']}")


def test_the_nightly_unit_runs_in_its_sandbox(host: LabHost) -> None:
    assert "02:30" in host.output("systemctl cat understudy-drill.timer")
    host.run("systemctl start understudy-drill.service", timeout=600, check=True)
    assert newest(host)["ok"] and newest(host)["tier"] == "critical"
    assert_nothing_left(host)
