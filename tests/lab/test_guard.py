"""Boots of a host that may own a group: five managed and five foreign projects, with and without a network."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator

import pytest
from conftest import Lab, LabHost
from resolver import Resolver

from lab import hosts as machines
from lab.ssh import on_host
from lab.storage.faults import Faults
from lab.storage.objectstore import LEASES
from understudy import hostside
from understudy.agent.owner import objects, storelease
from understudy.baseline import AGENT
from understudy.jinja import render
from understudy.protection.secrets import aws_file

pytestmark = pytest.mark.lab

WAIT = 4
INSTALL = (
    "command -v docker nft >/dev/null && docker compose version >/dev/null 2>&1 || { apt-get -qq update && "
    "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install docker.io docker-compose docker-cli nftables >/dev/null 2>&1; }"
)
MANAGED = tuple(f"managed{number}" for number in range(1, 6))
FOREIGN = tuple(f"foreign{number}" for number in range(1, 6))
UNITS = {
    "understudy-fence.service": "guard/fence.service.j2",
    "understudy-guard.service": "guard/guard.service.j2",
    "understudy-guard.timer": "guard/guard.timer.j2",
}


@pytest.fixture(scope="module")
def resolver(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolver]:
    made = Resolver(lab.facts.gateway, tmp_path_factory.mktemp("resolver"))
    yield made
    made.close()


def put(host: LabHost, path: str, content: str | bytes) -> None:
    """A file on the host."""
    text = base64.b64encode(content.encode() if isinstance(content, str) else content).decode()
    on_host(host.settings, host.ip, f"mkdir -p $(dirname {path}) && base64 -d > {path}", stdin=text)


@pytest.fixture(scope="module")
def host(lab: Lab, resolver: Resolver) -> Iterator[LabHost]:
    """The standby with ten small projects; five of them are a group that it or lemongrab may own."""
    host = lab.host("standby")
    host.run(INSTALL, check=True)
    image = host.output("docker image ls --format '{{.Repository}}:{{.Tag}}' | grep ^nginx | head -1")
    put(host, AGENT, hostside.zipapp())
    put(host, "/etc/understudy/resolver.pem", resolver.cacert.read_text())
    for number, name in enumerate((*MANAGED, *FOREIGN)):
        policy = ("unless-stopped", "always", "on-failure", "always", "unless-stopped")[number % 5]
        command = "[sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 1; done']"
        ports = f'["{8400 + number}:80"]'
        text = f"services:\n  web: {{image: '{image}', restart: {policy}, entrypoint: {command}, ports: {ports}}}\n"
        put(host, f"/srv/{name}/compose.yaml", text)
    put(host, "/etc/understudy/guard/no.yaml", 'services:\n  web: {restart: "no"}\n')
    put(host, "/etc/understudy/owner.json", json.dumps(plan(resolver)))
    for unit, template in UNITS.items():
        put(host, f"/etc/systemd/system/{unit}", render(template, agent=AGENT))
    for name in FOREIGN:
        host.run(f"docker compose -f /srv/{name}/compose.yaml up --detach", check=True)
    resolver.records["five"] = record("standby", 1)
    host.run(f"systemctl daemon-reload && systemctl enable --now {' '.join(UNITS)}", check=True)
    yield host
    host.run(
        f"systemctl disable --now {' '.join(UNITS)}; rm -f /etc/understudy/owner.json /var/lib/understudy/owner/five.json {AGENT}"
    )
    for name in (*MANAGED, *FOREIGN):
        host.run(f"docker compose -f /srv/{name}/compose.yaml down --timeout 1")
    host.run("nft delete table inet understudy_owner_five")


def plan(resolver: Resolver) -> dict[str, object]:
    def service(number: int, name: str) -> dict[str, object]:
        words = ["docker", "compose", "--project-name", name, "--project-directory", f"/srv/{name}"]
        words += ["--file", f"/srv/{name}/compose.yaml", "--file", "/etc/understudy/guard/no.yaml"]
        return {
            "group": "five",
            "project": name,
            "compose": words,
            "ports": [8400 + number],
            "restart": {"web": "always"},
        }

    return {
        "format": 1, "host": "standby", "domain": "example.org", "resolvers": [resolver.url], "boot_wait": WAIT,
        "cacert": "/etc/understudy/resolver.pem",
        "groups": {"five": {"first": "standby", "hosts": ["standby", "lemongrab"]}},
        "services": {name: service(number, name) for number, name in enumerate(MANAGED)},
    }  # fmt: skip


def record(owner: str, epoch: int) -> str:
    return f"understudy=1 group=five owner={owner} epoch={epoch} nonce=n{epoch}"


def running(host: LabHost) -> set[str]:
    """Projects of ours that run."""
    names = host.output("docker ps --format '{{.Label \"com.docker.compose.project\"}}'").split()
    return set(names) & {*MANAGED, *FOREIGN}


def until(host: LabHost, wanted: set[str], seconds: float = 60) -> set[str]:
    end = time.monotonic() + seconds
    while (now := running(host)) != wanted and time.monotonic() < end:
        time.sleep(1)
    return now


def reaches(host: LabHost, port: int) -> bool:
    """Whether something on the host may open a connection to a published port of its own (a refusal is a fence)."""
    program = f"import socket; socket.create_connection(('127.0.0.1', {port}), 3)"
    return host.run(f'python3 -c "{program}"').returncode == 0


ALL = {*MANAGED, *FOREIGN}
GRANTED = {"group": "five", "epoch": 3, "nonce": "n3", "base": "", "until": 1e9, "ready": True}


def test_named_by_the_record_it_starts_its_five(host: LabHost) -> None:
    assert until(host, ALL) == ALL
    assert reaches(host, 8400)
    policies = host.output(
        "docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' managed1-web-1 foreign1-web-1"
    ).split()
    assert policies == ["no", "unless-stopped"]


def test_a_container_that_dies_is_restarted_and_one_that_a_person_stopped_is_not(host: LabHost) -> None:
    host.run("systemctl stop understudy-guard.timer; systemctl start understudy-guard.service", check=True)
    host.run(
        "docker stop --time 1 managed2-web-1; kill -9 $(docker inspect -f '{{.State.Pid}}' managed1-web-1)",
        check=True,
    )
    host.run(
        "sleep 1; systemctl start understudy-guard.service; systemctl start understudy-guard.timer",
        check=True,
    )
    assert running(host) == ALL - {"managed2"}
    host.run("docker start managed2-web-1", check=True)


def seen_from_outside(host: LabHost) -> int:
    """How many of the ten run, on a host that no network reaches."""
    words = ["docker", "exec", host.facts.container, "docker", "ps", "--format", "{{.Names}}"]
    listed = subprocess.run(words, capture_output=True, text=True, check=False)
    return len({name.partition("-")[0] for name in listed.stdout.split()} & ALL)


def test_a_cold_boot_without_a_network_brings_all_ten(lab: Lab, host: LabHost) -> None:
    host.kill()
    machines.disconnect(lab.settings, host.facts.container)
    machines.start(host.facts.container)
    end = time.monotonic() + 120
    while seen_from_outside(host) < len(ALL) and time.monotonic() < end:
        time.sleep(1)
    joined = time.time()
    host.connect()
    host.start()
    assert running(host) == ALL
    for name in ALL:
        began = host.output(f"date -d $(docker inspect -f '{{{{.State.StartedAt}}}}' {name}-web-1) +%s")
        assert float(began) < joined, name


def test_a_boot_when_another_owns_it_starts_none_of_the_five_and_all_foreign(
    host: LabHost, resolver: Resolver
) -> None:
    resolver.records["five"] = record("lemongrab", 2)
    host.kill()
    host.start()
    assert until(host, set(FOREIGN), 20) == set(FOREIGN)
    time.sleep(WAIT + 4)
    assert running(host) == set(FOREIGN)
    host.run("docker start managed1-web-1", check=True)  # by hand: behind the fence, and stopped again
    assert not reaches(host, 8400) and reaches(host, 8405)
    assert until(host, set(FOREIGN), 45) == set(FOREIGN)


def test_without_any_answer_what_was_anothers_stays_down_and_the_console_can_switch_the_guard_off(
    host: LabHost, resolver: Resolver
) -> None:
    resolver.records.clear()
    host.run("systemctl start understudy-guard.service", check=True)
    assert running(host) == set(FOREIGN)
    host.run(f"/usr/bin/python3 -IB {AGENT} guard off < /dev/null", check=True)
    assert until(host, ALL, 30) == ALL
    host.run(f"/usr/bin/python3 -IB {AGENT} guard on < /dev/null", check=True)
    resolver.records["five"] = record("lemongrab", 2)
    host.run("systemctl start understudy-guard.service", check=True)
    assert until(host, set(FOREIGN), 20) == set(FOREIGN)


def test_a_host_whose_lease_runs_out_is_fenced_and_stops_and_goes_on_when_the_store_answers(
    lab: Lab, host: LabHost, resolver: Resolver
) -> None:
    """Auto mode: it is named all the time, and may not serve without its lease; who takes the lease over stops it for good."""
    key = lab.store.keys.s3["lemongrab"]
    url = f"s3:http://{lab.store.outside('second')}/{LEASES}/guard-{time.time():.0f}"
    put(host, "/etc/understudy/lease", aws_file(key.key_id, key.secret))
    auto = {"url": url, "seconds": 75, "groups": ["five"], "key": "/etc/understudy/lease"}
    put(host, "/etc/understudy/owner.json", json.dumps({**plan(resolver), "auto": auto}))
    lease = f"/usr/bin/python3 -IB {AGENT} lease < /dev/null"
    resolver.records["five"] = record("standby", 3)
    host.run("rm -f /run/understudy/may/five; systemctl stop understudy-guard.timer", check=True)
    try:
        host.run(f"echo '{json.dumps(GRANTED)}' > /run/understudy/owner/grant-five.json", check=True)
        host.run("systemctl start understudy-guard.service", check=True)
        assert until(host, ALL, 20) == ALL, "named, with data that came with a grant, and the lease was free"
        assert host.run(lease).returncode == 0 and reaches(host, 8400), "its own timer would renew it"
        with lab.store.relay.faulty("second", Faults(hang=True)):
            began = time.monotonic()
            while time.monotonic() - began < 15:  # 75 s less the margin
                assert host.run(lease).returncode == 0 or time.monotonic() - began > 12
            assert host.run(lease).returncode == 1
            assert not reaches(host, 8400) and reaches(host, 8405), (
                "fenced at once, before anything has stopped"
            )
            assert until(host, set(FOREIGN), 60) == set(FOREIGN)
        host.run("systemctl start understudy-guard.service", check=True)
        assert until(host, ALL, 20) == ALL and reaches(host, 8400)
        place = objects.place(url, "", key.key_id, key.secret)
        found = objects.read(place, storelease.key("five"))
        assert found is not None
        taken = storelease.text(storelease.Term("five", "lemongrab", 4, 1, 90))
        objects.write(place, storelease.key("five"), taken, found.etag)
        assert host.run(lease).returncode == 1
        assert not reaches(host, 8400)
        host.run("systemctl start understudy-guard.service")
        assert until(host, set(FOREIGN), 60) == set(FOREIGN), "the zone still names it"
    finally:
        put(host, "/etc/understudy/owner.json", json.dumps(plan(resolver)))
        host.run("systemctl start understudy-guard.timer", check=True)
