"""The scratch model: whatever a live project declares, its copy reaches nothing of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.agent.errors import AgentError
from understudy.agent.scratch import asking, fence, model, refusal
from understudy.agent.scratch.model import Places

DRILL = "/var/lib/understudy/drill/cloud"
LIVE: dict[str, Any] = {
    "name": "cloud",
    "networks": {"default": {"name": "cloud_default"}, "proxy": {"name": "proxy", "external": True}},
    "volumes": {"dbdata": {"name": "cloud_dbdata"}, "nas": {"name": "nas", "driver_opts": {"type": "nfs"}}},
    "secrets": {"pw": {"name": "cloud_pw", "file": "/etc/understudy/secrets/cloud/DB_PASSWORD"}},
    "configs": {"inline": {"content": "a=$$b"}},
    "services": {
        "app": {
            "image": "example/cloud:1.0.0",
            "container_name": "cloud",
            "command": ["sh", "-c", "exec app --key $$KEY"],
            "environment": {"DB": "db", "WORD": "a$$b"},
            "labels": {"traefik.enable": "true"},
            "restart": "unless-stopped",
            "ports": [{"target": 80, "published": "8080", "protocol": "tcp", "host_ip": "127.0.0.1"}],
            "networks": {"default": None, "proxy": {"ipv4_address": "172.20.0.9", "aliases": ["www"]}},
            "depends_on": {"db": {"condition": "service_healthy", "required": True}, "cron": {"condition": "service_started"}},
            "devices": ["/dev/dri:/dev/dri"],
            "privileged": True,
            "cap_drop": ["ALL"],
            "cap_add": ["CHOWN", "NET_ADMIN", "CAP_SETUID"],
            "security_opt": ["seccomp:unconfined", "no-new-privileges:true"],
            "mem_limit": "536870912",
            "extra_hosts": ["host.docker.internal=host-gateway"],
            "secrets": [{"source": "pw", "target": "/run/secrets/pw"}],
            "configs": [{"source": "inline", "target": "/etc/app.conf"}],
            "volumes": [
                {"type": "bind", "source": "/srv/cloud/data", "target": "/data", "bind": {"propagation": "rshared"}},
                {"type": "bind", "source": "/var/run/docker.sock", "target": "/var/run/docker.sock"},
                {"type": "bind", "source": "/", "target": "/host", "read_only": True},
                {"type": "volume", "source": "nas", "target": "/nas", "volume": {"nocopy": True}},
                {"type": "tmpfs", "target": "/tmp"},
            ],
        },
        "db": {
            "image": "postgres:16.15",
            "user": "999",
            "healthcheck": {"test": ["CMD", "pg_isready"]},
            "networks": {"default": None},
            "volumes": [{"type": "volume", "source": "dbdata", "target": "/var/lib/postgresql/data", "volume": {}}],
        },
        "cron": {"image": "example/cloud:1.0.0", "entrypoint": ["/cron.sh"], "networks": {"default": None}},
        "proxy": {"network_mode": "host", "image": "example/proxy:2"},
        "tool": {"build": {"context": "."}, "network_mode": "service:app"},
    },
}  # fmt: skip
PLACES = Places(
    binds={"/srv/cloud/data": f"{DRILL}/data"},
    volumes={"dbdata": f"{DRILL}/fresh/1", "nas": f"{DRILL}/fresh/2$x"},
    files={"secrets/pw": f"{DRILL}/files/pw"},
)


def scratch(
    live: dict[str, Any] = LIVE, places: Places = PLACES, leave: tuple[str, ...] = ("cron",)
) -> dict[str, Any]:
    return model.rewrite(live, model.project_of("cloud"), model.bridge_of("cloud"), places, leave).model


def test_what_a_copy_looks_like() -> None:
    made = scratch()
    log = {"driver": "json-file", "options": {"max-size": "1m", "max-file": "1"}}
    assert made["services"]["app"] == {
        "image": "example/cloud:1.0.0",
        "command": ["sh", "-c", "exec app --key $$KEY"],
        "environment": {"DB": "db", "WORD": "a$$b"},
        "cap_drop": ["ALL"],
        "cap_add": ["CHOWN", "SETUID"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": "536870912",
        "restart": "no",
        "pull_policy": "never",
        "oom_score_adj": 1000,
        "logging": log,
        "dns": ["127.0.0.1"],
        "networks": {"drill": {"aliases": ["cloud", "www"]}},
        "depends_on": {"db": {"condition": "service_healthy", "required": True}},
        "secrets": [{"source": "pw", "target": "/run/secrets/pw"}],
        "configs": [{"source": "inline", "target": "/etc/app.conf"}],
        "volumes": [
            {
                "type": "bind",
                "source": f"{DRILL}/data",
                "target": "/data",
                "bind": {"create_host_path": False},
            },
            {"type": "volume", "source": "nas", "target": "/nas", "volume": {"nocopy": True}},
            {"type": "tmpfs", "target": "/tmp"},
        ],
    }
    assert set(made["services"]) == {"app", "db", "proxy", "tool"}
    assert (
        made["services"]["tool"]["image"] == "cloud-tool"
        and made["services"]["tool"]["network_mode"] == "service:app"
    )
    assert "network_mode" not in made["services"]["proxy"]
    assert made["networks"]["drill"]["internal"] is True
    assert made["volumes"]["nas"]["driver_opts"] == {
        "type": "none",
        "o": "bind",
        "device": f"{DRILL}/fresh/2$$x",
    }
    assert made["secrets"] == {"pw": {"file": f"{DRILL}/files/pw"}} and made["configs"] == {
        "inline": {"content": "a=$$b"}
    }
    assert list(refusal.faults(made, DRILL)) == []


def test_what_it_lacks_is_said() -> None:
    made = model.rewrite(LIVE, "understudy-drill-cloud", model.bridge_of("cloud"), PLACES, ())
    assert "app: without /var/run/docker.sock" in made.dropped and "app: without devices" in made.dropped
    assert (
        "app: without capabilities NET_ADMIN" in made.dropped
        and "proxy: without the host's network" in made.dropped
    )


def test_what_the_live_project_mounts() -> None:
    found = model.wanted(LIVE, leave=())
    assert found.binds == {"/srv/cloud/data": False}
    assert found.volumes == {"nas": "nas", "dbdata": "cloud_dbdata"}
    assert found.files == {"secrets/pw": "/etc/understudy/secrets/cloud/DB_PASSWORD"}


def test_a_source_that_anybody_writes_is_not_read_only() -> None:
    mount = {"type": "bind", "source": "/srv/a$$b", "target": "/x"}
    services = {"a": {"volumes": [{**mount, "read_only": True}]}, "b": {"volumes": [mount]}}
    assert model.wanted({"services": services}).binds == {"/srv/a$b": False}


def test_nothing_that_sends_mail_or_runs_jobs_is_started() -> None:
    live = {
        "services": {
            "app": {"image": "example/app:1"},
            "worker": {"image": "mcuadros/ofelia:0.3"},
            "smtp": {"image": "example/relay"},
            "db": {"image": "example/backup-db:1"},
            "mail": {"image": "example/webmail:1"},
            "tool": {"image": "example/tool:1"},
            "push": {"image": "example/app:1", "command": ["supercronic", "/etc/tab"]},
            "democratic": {"image": "example/democratic:1", "command": "echo cron jobs run elsewhere"},
        }
    }
    left = model.left_out(live, ["tool", "devices"], servers={"db"}, probed={"mail"})
    assert set(left) == {"worker", "smtp", "tool", "push"} and left["tool"] == "left out as declared"


def test_doors_lead_from_published_ports_into_containers() -> None:
    doors, hosts = model.doors(LIVE)
    assert doors == {8080: ("app", 80)} and hosts == ["proxy"]


def test_a_shared_server_comes_along_alone() -> None:
    guest = {
        "name": "paper",
        "services": {"db": {"image": "example/other"}, "app": {"image": "example/paper"}},
    }
    server = {**LIVE["services"]["db"], "secrets": ["pw"], "container_name": "cloud-db"}
    other = {**LIVE, "services": {**LIVE["services"], "db": server}}
    merged, name = model.adopt(guest, other, "db")
    assert name == "cloud-db" and set(merged["services"]) == {"db", "app", "cloud-db"}
    found = model.wanted(merged)
    assert found.volumes == {"cloud-db__dbdata": "cloud_dbdata"}
    assert found.files == {"secrets/cloud-db__pw": "/etc/understudy/secrets/cloud/DB_PASSWORD"}
    places = Places({}, {"cloud-db__dbdata": f"{DRILL}/v"}, {"secrets/cloud-db__pw": f"{DRILL}/s"})
    made = scratch(merged, places)
    assert made["services"]["cloud-db"]["networks"] == {"drill": {"aliases": ["db"]}}
    assert made["services"]["cloud-db"]["secrets"] == [{"target": "pw", "source": "cloud-db__pw"}]
    assert list(refusal.faults(made, DRILL)) == [] and guest["services"].keys() == {"db", "app"}


# Any project: keys and values that Compose knows, some that it does not, in any mixture.
PATHS = st.sampled_from(
    ["/", "/srv/x", "/etc", "/var/run/docker.sock", "/dev/dri", "/srv/a$$b", "/srv/x/../../etc", "~", "rel"]
)
NAMES = st.sampled_from(["app", "db", "cron", "web", "container"])
MOUNT = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["bind", "volume", "tmpfs", "npipe", "cluster", "image"]),
        "target": st.just("/t"),
    },
    optional={
        "source": PATHS | st.sampled_from(["data", "nas"]),
        "read_only": st.booleans(),
        "bind": st.just({"propagation": "rshared", "create_host_path": True}),
        "volume": st.just({"nocopy": True, "labels": {"x": "y"}}),
    },
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2)
)
SERVICE = st.fixed_dictionaries(
    {"image": st.just("example/x:1")},
    optional={
        "ports": st.lists(
            st.fixed_dictionaries(
                {"target": st.integers(1, 99), "published": st.sampled_from(["80", "8000-8010", ""])}
            )
        ),
        "privileged": st.booleans(),
        "network_mode": st.sampled_from(
            ["host", "none", "bridge", "service:db", "service:gone", "container:live"]
        ),
        "networks": st.just(
            {"proxy": {"ipv4_address": "10.0.0.2", "aliases": ["x"], "mac_address": "02:00:00:00:00:01"}}
        ),
        "volumes": st.lists(MOUNT, max_size=4),
        "volumes_from": st.lists(st.sampled_from(["db", "container:live", "gone:ro"])),
        "devices": st.just(["/dev/sda:/dev/sda"]),
        "device_cgroup_rules": st.just(["a *:* rwm"]),
        "cap_add": st.lists(st.sampled_from(["ALL", "SYS_ADMIN", "CHOWN", "cap_net_admin"])),
        "security_opt": st.lists(
            st.sampled_from(
                ["seccomp=unconfined", "no-new-privileges:false", "apparmor:x", "no-new-privileges"]
            )
        ),
        "pid": st.just("host"),
        "ipc": st.just("host"),
        "uts": st.just("host"),
        "userns_mode": st.just("host"),
        "cgroup": st.just("host"),
        "cgroup_parent": st.just("/"),
        "restart": st.sampled_from(["always", "on-failure"]),
        "container_name": st.just("live"),
        "labels": st.just({"traefik.enable": "true"}),
        "logging": st.just({"driver": "gelf"}),
        "env_file": st.just(["/srv/x/.env"]),
        "extends": st.just({"service": "x"}),
        "extra_hosts": st.just({"host": "host-gateway"}),
        "links": st.lists(st.sampled_from(["db:base", "gone:x", "db"])),
        "depends_on": st.dictionaries(NAMES, st.just({"condition": "service_started"})) | st.lists(NAMES),
        "secrets": st.lists(
            st.sampled_from(["pw", "env", "gone"]) | st.just({"source": "pw", "target": "/x"})
        ),
        "configs": st.lists(st.sampled_from(["inline", "file"])),
        "use_api_socket": st.just(True),
        "post_start": st.just([{"command": "x", "privileged": True}]),
        "gpus": st.just("all"),
        "deploy": st.just(
            {"replicas": 3, "resources": {"limits": {"memory": "1g"}, "reservations": {"devices": [{}]}}}
        ),
        "something_new": ANY,
    },
)
PROJECT = st.fixed_dictionaries(
    {
        "name": st.just("live"),
        "services": st.dictionaries(NAMES, SERVICE | st.none(), min_size=1, max_size=4),
        "volumes": st.just(
            {"data": {"name": "live_data", "external": True}, "nas": {"driver_opts": {"device": "/etc"}}}
        ),
        "networks": st.just({"proxy": {"external": True, "name": "proxy"}}),
        "secrets": st.just({"pw": {"file": "/etc/shadow"}, "env": {"environment": "X"}}),
        "configs": st.just({"inline": {"content": "x"}, "file": {"file": "/etc/passwd"}}),
    },
    optional={"x-anything": ANY, "include": ANY, "models": ANY},
)


def everything(live: dict[str, Any], leave: set[str]) -> Places:
    """A place for each thing wanted, as the agent makes them."""
    found = model.wanted(live, leave)
    return Places(
        {source: f"{DRILL}/b{number}" for number, source in enumerate(found.binds)},
        {name: f"{DRILL}/v{number}" for number, name in enumerate(found.volumes)},
        {name: f"{DRILL}/f{number}" for number, name in enumerate(found.files)},
    )


def sources(made: dict[str, Any]) -> list[str]:
    """Every path of the host that a project names, found without the code under test."""
    binds = [
        m["source"] for s in made["services"].values() for m in s.get("volumes", ()) if m["type"] == "bind"
    ]
    devices = [volume["driver_opts"]["device"] for volume in made.get("volumes", {}).values()]
    files = [f["file"] for kind in ("secrets", "configs") for f in made.get(kind, {}).values() if "file" in f]
    return binds + devices + files


def nameless(made: dict[str, Any]) -> dict[str, Any]:
    """The model without the names of its volumes: a volume may be *called* /var/run/docker.sock."""
    plain = copy.deepcopy(made)
    plain["volumes"] = list(plain.get("volumes", {}).values())
    for service in plain["services"].values():
        for mount in service.get("volumes", ()):
            if mount["type"] == "volume":
                mount.pop("source", None)
    return plain


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PROJECT, st.sets(NAMES, max_size=2), st.booleans())
def test_no_copy_of_any_project_reaches_anything_live(
    live: dict[str, Any], leave: set[str], placed: bool
) -> None:
    before = copy.deepcopy(live)
    made = scratch(live, everything(live, leave) if placed else Places(), tuple(leave))
    assert live == before
    assert list(refusal.faults(made, DRILL)) == []
    assert all(source.startswith(f"{DRILL}/") for source in sources(made))
    assert set(made["services"]) == set(live["services"]) - leave
    for service in made["services"].values():
        assert not {
            "ports",
            "privileged",
            "devices",
            "labels",
            "container_name",
            "env_file",
            "extends",
            "pid",
        } & set(service)
        assert service["restart"] == "no" and service.get("network_mode", "none").partition(":")[0] in (
            "none",
            "service",
        )
        for mount in service.get("volumes", ()):
            assert mount["type"] != "volume" or mount.get("source") in (None, *made.get("volumes", {}))
    text = json.dumps(nameless(made))
    assert (
        "docker.sock" not in text
        and "traefik" not in text
        and "external" not in text
        and "SYS_ADMIN" not in text
    )


BREAKS: list[tuple[str, Any]] = [
    ("services.app.volumes.0.source", "/srv/cloud/data"),
    ("services.app.volumes.0.source", f"{DRILL}/../cloud2/data"),
    ("services.app.volumes.0.source", DRILL),
    ("services.app.volumes.0.bind", {"propagation": "rshared"}),
    ("services.app.volumes.0", {"type": "volume", "source": "cloud_dbdata", "target": "/x"}),
    ("services.app.volumes.0.type", "npipe"),
    ("services.app.ports", [{"target": 80, "published": "80"}]),
    ("services.app.privileged", True),
    ("services.app.network_mode", "host"),
    ("services.app.network_mode", "container:x"),
    ("services.app.networks", {"default": None}),
    ("services.app.networks", {"drill": {"ipv4_address": "10.0.0.2"}}),
    ("services.app.cap_add", ["SYS_ADMIN"]),
    ("services.app.security_opt", ["seccomp=unconfined"]),
    ("services.app.restart", "always"),
    ("services.app.labels", {"a": "b"}),
    ("services.app.volumes_from", ["container:x"]),
    ("services.app.something_new", 1),
    ("volumes.nas.external", True),
    ("volumes.nas.driver_opts.device", "/srv"),
    ("volumes.nas.driver_opts.type", "nfs"),
    ("secrets.pw.file", "/etc/understudy/secrets/cloud/DB_PASSWORD"),
    ("secrets.pw", {"external": True}),
    ("networks.drill.internal", False),
    ("networks.drill.driver_opts", {"com.docker.network.bridge.name": "br0"}),
    ("networks.proxy", {"external": True}),
    ("include", ["/etc/x.yaml"]),
    ("name", "cloud"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), BREAKS, ids=[f"{place}={value}" for place, value in BREAKS])
def test_the_last_look_refuses(place: str, value: Any) -> None:
    made = copy.deepcopy(scratch())
    *way, last = place.split(".")
    at: Any = made
    for step in way:
        at = at[int(step)] if step.isdigit() else at[step]
    at[int(last) if last.isdigit() else last] = value
    with pytest.raises(AgentError, match="is not started") as raised:
        refusal.check(made, DRILL)
    assert raised.value.kind == "unsafe"


def test_a_link_out_of_the_drill_folder_is_refused(tmp_path: Path) -> None:
    """A restored folder can be a link to live data: what counts is where it leads."""
    inside, outside = tmp_path / "drill", tmp_path / "live"
    inside.mkdir()
    outside.mkdir()
    (inside / "data").symlink_to(outside)
    made = scratch(places=Places({"/srv/cloud/data": str(inside / "data")}, {}, {}))
    with pytest.raises(AgentError, match=f"which is {outside}"):
        refusal.check(made, str(inside))


def test_names_fit_docker_and_the_kernel() -> None:
    assert model.project_of("Uptime.Kuma") == "understudy-drill-uptime-kuma"
    assert len(model.bridge_of("a-service-with-a-long-name")) == 15


def test_the_wall_lets_answers_out_and_nothing_else() -> None:
    assert (
        fence.rules()
        == """\
table inet understudy_drill
delete table inet understudy_drill
table inet understudy_drill {
  chain input {
    type filter hook input priority -190; policy accept;
    iifname "udrill-*" ct direction reply ct state established accept
    iifname "udrill-*" drop
  }
  chain forward {
    type filter hook forward priority -190; policy accept;
    iifname "udrill-*" oifname "udrill-*" accept
    iifname "udrill-*" drop
    oifname "udrill-*" drop
  }
}
"""
    )


PROBE = {
    "name": "cloud",
    "url": "http://127.0.0.1:8080/status?x=1",
    "host": None,
    "wait": 5.0,
    "status": [200],
}


def test_probes_find_their_container() -> None:
    probes = [
        PROBE,
        {**PROBE, "name": "lan", "url": "http://127.0.0.1:9/"},
        {**PROBE, "name": "db", "url": "tcp://127.0.0.1:5432"},
    ]
    found, lost = asking.questions(probes, {8080: ("app", 80), 5432: ("db", 5432)}, [])
    assert [(name, port) for name, port, _ in found] == [("app", 80), ("db", 5432)] and lost == ["lan"]
    found, lost = asking.questions(probes[1:2], {}, ["caddy"])
    assert [(name, port) for name, port, _ in found] == [("caddy", 9)] and lost == []


def test_a_rewritten_probe_asks_the_same_of_another_address() -> None:
    asked = asking.rewritten(PROBE, "192.168.0.3", 80)
    assert asked["url"] == "http://192.168.0.3:80/status?x=1" and asked["host"] == "127.0.0.1:8080"
    assert asked["wait"] == asking.PATIENCE and asked["status"] == [200]
    assert asking.rewritten({**PROBE, "host": "cloud.example.org"}, "x", 1)["host"] == "cloud.example.org"
