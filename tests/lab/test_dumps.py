"""Dumps of real database servers on a lab host: idle stays idle, restores swap and undo, kills leave nothing torn.

What runs on the host, beside the servers, is dumps_on_host.py.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy import hostside

pytestmark = pytest.mark.lab

FOLDER = "/srv/dumps-test"
PG_PASSWORD, ROOT_PASSWORD, OWN_PASSWORD, REDIS_PASSWORD = (
    "pg-secret-1",
    "root-secret-1",
    "own'secret",
    "redis secret",
)

COMPOSE = f"""\
name: dumpstest
x-pg: &pg
  image: PG_IMAGE
  environment: {{POSTGRES_DB: cloud, POSTGRES_USER: cloud, POSTGRES_PASSWORD_FILE: /run/secrets/pg}}
  volumes: ["./pg:/run/secrets/pg:ro"]
  healthcheck: {{test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, cloud], interval: 1s, retries: 90}}
x-maria: &maria
  image: MARIA_IMAGE
  healthcheck: {{test: [CMD, healthcheck.sh, --connect, --innodb_initialized], interval: 1s, retries: 90}}
services:
  pg: *pg
  pg2: *pg
  maria:
    <<: *maria
    environment:
      MARIADB_DATABASE: blog
      MARIADB_USER: blog
      MARIADB_PASSWORD_FILE: /run/secrets/own
      MARIADB_ROOT_PASSWORD_FILE: /run/secrets/root
    volumes: ["./own:/run/secrets/own:ro", "./root:/run/secrets/root:ro"]
  maria2:
    <<: *maria
    environment:
      MARIADB_DATABASE: blog
      MARIADB_USER: blog
      MARIADB_PASSWORD_FILE: /run/secrets/own
      MARIADB_RANDOM_ROOT_PASSWORD: "1"
    volumes: ["./own:/run/secrets/own:ro"]
  redis: &redis
    image: REDIS_IMAGE
    entrypoint: [redis-server]
    user: "999:999"
    command: [--appendonly, "yes", --requirepass, "{REDIS_PASSWORD}", --dir, /data]
    volumes: ["./redis:/data"]
  redis2:
    <<: *redis
    profiles: [later]
    volumes: ["./redis2:/data"]
"""


@pytest.fixture(scope="module")
def host(lab: Any) -> Iterator[Any]:
    """The standby with five database servers on it, cleaned up afterwards."""
    host = lab.host("standby")
    host.run(
        "command -v docker >/dev/null && docker compose version >/dev/null 2>&1 || { apt-get update -q && "
        "DEBIAN_FRONTEND=noninteractive apt-get install -y -q docker.io docker-compose docker-cli; }",
        timeout=600, check=True,
    )  # fmt: skip
    sweep(host)
    secrets = {"pg": PG_PASSWORD, "root": ROOT_PASSWORD, "own": OWN_PASSWORD, "compose.yaml": compose(host)}
    for name, content in secrets.items():
        put(host, name, content.encode())
    put(host, "agent.pyz", hostside.zipapp())
    put(host, "dumps_on_host.py", Path(__file__).with_name("dumps_on_host.py").read_bytes())
    host.run(
        f"cd {FOLDER} && mkdir redis redis2 && chown 999:999 redis && docker compose up -d --wait",
        timeout=300,
        check=True,
    )
    yield host
    sweep(host)


def compose(host: Any) -> str:
    """The Compose file with images that are there; a lab image holds every server's programs, a real one only its own."""
    images = host.output("docker image ls --format '{{.Repository}}:{{.Tag}}'").split()

    def first(name: str) -> str | None:
        return next((i for i in images if i.startswith(f"{name}:")), None)

    pg, maria = first("postgres"), first("mariadb")
    assert pg and maria, images
    redis = first("redis") or first("valkey/valkey") or pg
    return COMPOSE.replace("PG_IMAGE", pg).replace("MARIA_IMAGE", maria).replace("REDIS_IMAGE", redis)


def sweep(host: Any) -> None:
    host.run(
        f"cd {FOLDER} 2>/dev/null && docker compose --profile later down -v -t 5; rm -rf {FOLDER}; mkdir -p {FOLDER}",
        timeout=120,
    )
    host.run("rm -f /etc/understudy/secrets/backup/dumps-test; true")


def put(host: Any, name: str, content: bytes) -> None:
    """Write a file in the folder, in pieces that fit a command line."""
    text = base64.b64encode(content).decode()
    host.run(f": > {FOLDER}/{name}", check=True)
    for at in range(0, len(text), 90_000):
        host.run(f"printf %s '{text[at : at + 90_000]}' | base64 -d >> {FOLDER}/{name}", check=True)


@pytest.fixture(scope="module")
def on_host(host: Any) -> Callable[..., Any]:
    """Run a scenario of dumps_on_host.py on the host; what it returns."""

    def call(scenario: str, *arguments: Any) -> Any:
        done = host.run(
            f"python3 {FOLDER}/dumps_on_host.py {scenario} '{json.dumps(arguments)}'", timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.rpartition("result ")[2])

    return call


# --- idle is idle


@pytest.fixture(scope="module")
def filled(on_host: Callable[..., Any]) -> Callable[..., Any]:
    on_host("fill")
    return on_host


def test_two_idle_dumps_are_the_same_files_untouched(filled: Callable[..., Any]) -> None:
    found = filled("two_dumps")
    assert found["before"] == found["after"]
    assert set(found["after"]) == {
        "pg.pgdump", "pgall@cloud.pgdump", "pgall@neighbour.pgdump", "pg.globals.sql", "maria.sql", "maria.users.sql",
        "maria2.sql", "redis.rdb",
    }  # fmt: skip
    assert {mode for *_, mode in found["after"].values()} == {0o600}
    facts = found["facts"]
    assert facts["pg"]["rows"] == {"public.a": 3000, 'public.odd "name\nx': 0, "s.t": 1}
    assert facts["pgall/neighbour"]["rows"] == {"public.n": 1}
    assert facts["maria"]["rows"] == {"child": 1, "parent": 3}
    assert facts["redis"]["rows"] == {"db0": 1, "db3": 1}
    assert facts["redis"]["extra"]["appendonly"] == "yes" and facts["redis"]["owner"][:2] == [999, 999]


def test_what_a_server_holds(filled: Callable[..., Any]) -> None:
    found = filled("listed")
    assert found["postgres"][1] == ["cloud", "neighbour"] and int(found["postgres"][0].split(".")[0]) >= 14
    assert found["mariadb"][1] == ["blog", "other"] and found["redis"][1] == ["db0", "db3"]


@pytest.mark.parametrize("name", ["pg", "maria"])
def test_rows_acknowledged_before_a_dump_are_in_it(filled: Callable[..., Any], name: str) -> None:
    pairs = filled("writer", name)
    assert all(acknowledged <= rows and same for acknowledged, rows, same in pairs)
    assert pairs[-1][0] > pairs[0][0] > 0


# --- there and back


def test_postgres_goes_there_and_back(filled: Callable[..., Any]) -> None:
    found = filled("postgres_round")
    assert found["after"] == found["before"] and found["rows"]
    assert "it's ours" in found["before"][0] and found["before"][1:4] == ["Asia/Tokyo", "3000", "3000"]
    assert found["state"] == {"db": True, "new": False, "old": True, "token": "t1"}
    assert found["undone"] == ["10", "0", "{TimeZone=Asia/Tokyo}"]
    assert found["left"] == ["cloud", "neighbour", "postgres", "template0", "template1"]
    assert found["again"]["token"] == "t3" and found["end"] == {
        "db": True,
        "new": False,
        "old": False,
        "token": None,
    }
    assert found["neighbour"] == [True, ["42"]]


def test_mariadb_goes_there_and_back(filled: Callable[..., Any]) -> None:
    found = filled("mariadb_round")
    assert found["after"] == found["before"] and found["rows"]
    assert {"tr", "twice", "blog\te", "v", "blog\tparent"} <= set(found["before"])
    assert found["state"] == {"db": True, "new": False, "old": True, "token": "t1"}
    assert found["undone"] == ["later", "1", "0"]
    assert [n for n in found["left"] if "__" in n] == [] and "other" in found["left"]
    assert found["again"]["token"] == "t3" and found["end"] == {
        "db": True,
        "new": False,
        "old": False,
        "token": None,
    }


# Killed before a command is killed after the one before it; the two differ only in how a swap goes on.
@pytest.mark.parametrize(("what", "before"), [("swap", True), ("swap", False), ("undo", False)])
@pytest.mark.parametrize("name", ["pg", "maria"])
def test_a_swap_or_undo_cut_short_anywhere_is_finished_or_undone(
    filled: Callable[..., Any], name: str, what: str, before: bool
) -> None:
    found = filled("cut_short", name, what, before)
    assert found["bad"] == [] and found["cuts"] >= (2 if name == "pg" else 8)


@pytest.mark.parametrize("name", ["pg", "maria"])
def test_a_load_whose_program_docker_lost_is_done_once_more(filled: Callable[..., Any], name: str) -> None:
    assert filled("lost", name) == {"given_up": 1, "rows": True, "new": True}


# --- roles and secrets


def test_roles_come_along_and_no_secret_stands_in_any_command(filled: Callable[..., Any]) -> None:
    found = filled("other_server", "new-secret-2")
    assert (found["login"], found["changed"], found["second"]) == ("1\n", "2\n", "3\n")
    assert found["again"] == [] and found["member"] == ["t"] and found["rows"] == ["3000"]
    assert found["seen"] > 20 and found["leaked"] == []


# --- what must be an error


def test_a_dump_that_fails_says_so_and_the_kept_ones_stay(filled: Callable[..., Any]) -> None:
    found = filled("refused_dumps")
    words = {
        "pg missing": 'shop: no dump of the postgres database pg: .*database "nosuch" does not exist',
        "pg user": 'roles could not be read as nobody: .*role "nobody" does not exist',
        "pg locked": "shop: no dump of the postgres database pg: ",
        "maria missing": "shop: no dump of the mariadb database maria: the server has no database 'nosuch'",
        "maria user": "shop: no dump of the mariadb database maria: .*no login to the server works: .*Access denied",
    }
    for key, sentence in words.items():
        assert found["said"][key][0] == "dump" and re.search(sentence, found["said"][key][1]), found["said"][
            key
        ]
    kind, sentence = found["said"]["redis stopped"]
    assert kind == "docker" and "does not run: start it" in sentence
    assert found["same"] and found["took"] < 25


def test_a_killed_dump_leaves_nothing_behind(filled: Callable[..., Any]) -> None:
    found = filled("killed")
    assert found["left"] and found["same"] and found["end"] and found["sessions"] == []


@pytest.mark.parametrize("name", ["pg", "maria"])
def test_a_load_that_fails_leaves_the_server_as_it_was(filled: Callable[..., Any], name: str) -> None:
    found = filled("refused_loads", name)
    said = found["said"]
    assert [said[key][0] for key in ("sha", "rows")] == ["mismatch", "mismatch"], said
    assert said["cut"][0] in ("database", "mismatch") and "load it first" in said["nothing"][1], said
    assert found["state"] == {"db": True, "new": False, "old": False, "token": None}


@pytest.mark.parametrize("name", ["pg", "maria"])
def test_a_database_of_somebody_elses_is_not_dropped(filled: Callable[..., Any], name: str) -> None:
    found = filled("strange_old", name)
    assert "no restore made" in found["said"][0][1] and "made by no restore" in found["said"][1][1], found
    assert found["state"] == {"db": True, "new": False, "old": True, "token": None}


# --- Redis


def test_a_redis_dump_comes_back_with_its_append_only_file(filled: Callable[..., Any]) -> None:
    found = filled("redis_back", FOLDER)
    assert found["values"] == ["b\n", "1\n2\n3\n"]
    assert found["again"] == {"db0": found["rows"]["db0"] + 1, "db3": 1}


# --- the account that cannot read its own server's users


def test_without_a_root_password_the_units_own_user_dumps(filled: Callable[..., Any]) -> None:
    found = filled("own_user")
    assert found["rows"] == {} and found["extra"]["database"] == "blog" and "globals" not in found["extra"]
