"""The lab's stand-ins as programs: what they acknowledge survives, and lost data is never papered over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from understudy.catalog import Source, load_catalog
from understudy.spec import Probe

ROOT = Path(__file__).parents[2]
STANDINS = ROOT / "lab/standins"
VARIABLES = {"DOMAIN": "example.org", "TZ": "Etc/UTC"}


@dataclass(frozen=True)
class Known:
    """What the tests know of one stand-in; paths are below its root."""

    name: str
    service: str
    database: str
    wal: bool | None = None
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    beside: str | None = None


KNOWN = [
    Known("vaultwarden", "vaultwarden", "data/db.sqlite3", True, beside="data/attachments/x/y"),
    Known("jellyfin", "jellyfin", "config/data/jellyfin.db", True, beside="config/config/system.xml"),
    Known("kitchenowl", "kitchenowl", "data/database.db", False, beside="data/upload/picture.jpg"),
    Known("travelsync", "travelsync", "app/data/documents_calendar.db", False, beside="app/uploads/ticket.pdf"),
    Known("goatcounter", "goatcounter", "home/goatcounter/db/goatcounter.sqlite3", True,
          ("serve", "-db", "sqlite+/home/goatcounter/db/goatcounter.sqlite3"),
          beside="home/goatcounter/db/goatcounter.sqlite3-wal"),
    Known("uptime_kuma", "uptime-kuma", "app/data/kuma.db", True, beside="app/data/upload/icon.png"),
    Known("portainer", "portainer", "data/portainer.db", beside="data/portainer.key"),
    Known("gokapi", "gokapi", "home/apps/gokapi-data/gokapi.sqlite", True,
          ("-cd", "/home/apps/gokapi/config", "-d", "/home/apps/gokapi-data"),
          beside="home/apps/gokapi-data/da39a3ee5e6b"),
    Known("planning_poker", "planning-poker", "poker.db", False, beside="poker.db-journal"),
]  # fmt: skip
BY_NAME = {known.name: known for known in KNOWN}
SQLITE = [known for known in KNOWN if known.wal is not None]


def names(chosen: list[Known]) -> list[str]:
    return [known.name for known in chosen]


class Running:
    """One stand-in as a process of its own, on a free port, with a folder as its root."""

    def __init__(self, name: str, root: Path, arguments: tuple[str, ...] = (), **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = {"STANDIN_ROOT": str(root), "STANDIN_PORT": str(self.port), "STANDIN_ADDRESS": "127.0.0.1",
                    "STANDIN_IMAGE": "example/app:1.2.3", "PYTHONPATH": str(STANDINS)}  # fmt: skip
        command = [sys.executable, "-B", "-m", "standin", name, *arguments]
        self.process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], **settings, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, names, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    def json(self, method: str, path: str) -> Any:
        status, body, _ = self.request(method, path)
        assert status == 200, body
        return json.loads(body)

    def commit(self, query: str = "") -> int:
        return int(self.json("POST", f"/_lab/commit{query}")["n"])

    def wait(self) -> Running:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            assert self.process.poll() is None, self.process.communicate()[1].decode()
            try:
                self.request("GET", "/_lab/version")
                return self
            except OSError:
                time.sleep(0.05)
        raise AssertionError("did not answer")

    def refusal(self) -> str:
        """Its last words, when it must not start."""
        _, error = self.process.communicate(timeout=30)
        assert self.process.returncode == 1, error.decode()
        return error.decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.communicate(timeout=30)
        return self.process.returncode


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a stand-in in ``tmp_path``; all are stopped at the end."""
    started: list[Running] = []

    def _start(name: str, wait: bool = True, root: Path = tmp_path, **environment: str) -> Running:
        known = BY_NAME.get(name)
        if name == "vaultwarden" and not (root / "data").exists():
            (root / "data").mkdir()
            (root / "data/rsa_key.pem").write_text("key\n")  # what the first start asks openssl for
        running = Running(name, root, known.arguments if known else (), **environment)
        started.append(running)
        return running.wait() if wait else running

    yield _start
    for running in started:
        running.stop(signal.SIGKILL)


def satisfied(probe: Probe, status: int, body: bytes, content_type: str) -> bool:
    """The probe's judgement, as the agent makes it."""
    text = body.decode()
    found = json.loads(text) if probe.json_ else {}
    return (
        status in probe.status
        and (probe.text or "") in text
        and all(found.get(key) == value for key, value in probe.json_.items())
        and (probe.content_type or "") in content_type
    )


def probes(service: str) -> list[Probe]:
    catalog = load_catalog(Source(ROOT / "services", variables=VARIABLES))
    found = catalog.services[service]
    return [probe for probe in (found.probe(), *(route.probe for route in found.routes)) if probe]


@pytest.mark.parametrize("known", KNOWN, ids=names(KNOWN))
def test_the_catalogue_s_probes_are_green_on_a_first_start(known: Known, start: Start) -> None:
    running = start(known.name)
    wanted = probes(known.service)
    assert wanted
    for probe in wanted:
        body = probe.body.encode() if probe.body else None
        status, answer, headers = running.request(probe.method, probe.path, body, **probe.headers)
        assert satisfied(probe, status, answer, headers["Content-Type"]), (status, answer[:200])


@pytest.mark.parametrize("known", KNOWN, ids=names(KNOWN))
def test_acknowledged_rows_survive_kill_9_under_load(known: Known, start: Start) -> None:
    running = start(known.name)
    acknowledged: list[int] = []

    def write() -> None:
        while True:
            try:
                acknowledged.append(running.commit("?file"))
            except (OSError, AssertionError, ValueError):
                return  # killed

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    while len(acknowledged) < 12 and any(writer.is_alive() for writer in writers):
        time.sleep(0.01)
    running.stop(signal.SIGKILL)
    for writer in writers:
        writer.join()
    assert len(acknowledged) >= 12
    again = start(known.name)
    rows = again.json("GET", "/_lab/rows")
    assert rows["missing"] == [] and rows["duplicates"] == 0
    assert rows["max"] >= max(acknowledged) and len(set(acknowledged)) == len(acknowledged)
    assert rows.get("files_missing", []) == []
    assert again.commit() == rows["max"] + 1


@pytest.mark.parametrize("known", KNOWN, ids=names(KNOWN))
def test_a_stop_is_clean_and_the_next_start_goes_on(known: Known, start: Start) -> None:
    running = start(known.name)
    assert [running.commit(), running.commit()] == [1, 2]
    assert running.stop() == 0
    assert start(known.name).commit() == 3


@pytest.mark.parametrize("known", SQLITE, ids=names(SQLITE))
def test_the_journal_is_the_real_one_s(known: Known, start: Start, tmp_path: Path) -> None:
    start(known.name).commit()
    with sqlite3.connect(tmp_path / known.database) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal" if known.wal else "delete",)


@pytest.mark.parametrize("known", KNOWN, ids=names(KNOWN))
@pytest.mark.parametrize("content", [b"", b"not a database, but longer than a header" * 8])
def test_a_database_that_cannot_be_opened_stops_it(
    known: Known, content: bytes, start: Start, tmp_path: Path
) -> None:
    start(known.name).stop()
    database = tmp_path / known.database
    database.write_bytes(content)
    for end in ("-wal", "-shm"):
        database.with_name(database.name + end).unlink(missing_ok=True)
    assert known.database in start(known.name, wait=False).refusal()
    assert database.read_bytes() == content


@pytest.mark.parametrize("known", KNOWN, ids=names(KNOWN))
def test_no_new_database_is_made_beside_data(known: Known, start: Start, tmp_path: Path) -> None:
    assert known.beside
    start(known.name).stop()
    database = tmp_path / known.database
    for end in ("", "-wal", "-shm"):
        database.with_name(database.name + end).unlink(missing_ok=True)
    trace = tmp_path / known.beside
    trace.parent.mkdir(parents=True, exist_ok=True)
    trace.touch()
    assert "is missing although" in start(known.name, wait=False).refusal()
    assert not database.exists()


def test_a_first_start_that_was_cut_short_begins_again(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/database.db.new").write_bytes(b"half")
    assert start("kitchenowl").commit() == 1


def test_two_ways_of_giving_a_secret_are_refused(start: Start) -> None:
    both = {"JWT_SECRET_KEY": "a", "JWT_SECRET_KEY_FILE": "/run/secrets/jwt"}
    assert "are exclusive" in start("kitchenowl", wait=False, **both).refusal()


def test_a_secret_file_that_is_not_there_is_refused(start: Start) -> None:
    assert (
        "JWT_SECRET_KEY_FILE"
        in start("kitchenowl", wait=False, JWT_SECRET_KEY_FILE="/run/secrets/jwt").refusal()
    )


def test_the_version_is_the_image_s(start: Start) -> None:
    answer = start("kitchenowl", STANDIN_IMAGE="tombursch/kitchenowl:v0.7.9").json("GET", "/_lab/version")
    assert answer == {"standin": "kitchenowl", "image": "tombursch/kitchenowl:v0.7.9", "version": "0.7.9"}


class TestVaultwarden:
    def test_a_lost_key_beside_a_database_is_refused(self, start: Start, tmp_path: Path) -> None:
        start("vaultwarden").stop()
        (tmp_path / "data/rsa_key.pem").unlink()
        assert "rsa_key.pem is missing" in start("vaultwarden", wait=False).refusal()

    def test_it_knows_put_and_not_delete(self, start: Start, tmp_path: Path) -> None:
        vault = start("vaultwarden")
        vault.commit()
        with sqlite3.connect(tmp_path / "data/db.sqlite3") as connection:
            (cipher,) = connection.execute("SELECT uuid FROM ciphers").fetchone()
        assert vault.request("DELETE", f"/api/ciphers/{cipher}/delete")[0] == 404
        assert vault.request("PUT", f"/api/ciphers/{cipher}/delete")[0] == 200

    def test_the_catalogue_s_hook_makes_clients_fetch_again(self, start: Start, tmp_path: Path) -> None:
        secret = tmp_path / "run/secrets/admin_token"
        secret.parent.mkdir(parents=True)
        secret.write_text("open sesame")
        vault = start("vaultwarden", ADMIN_TOKEN_FILE="/run/secrets/admin_token")
        assert vault.request("POST", "/admin", b"token=wrong")[0] == 401
        _, _, headers = vault.request("POST", "/admin", b"token=open+sesame")
        cookie = headers["Set-Cookie"].split(";")[0]
        with sqlite3.connect(tmp_path / "data/db.sqlite3") as connection:
            connection.execute("UPDATE users SET updated_at = '2000-01-01'")
        path = "/admin/users/update_revision"
        assert vault.request("POST", path, b"", Content_Type="application/json")[0] == 401
        assert vault.request("POST", path, b"", Content_Type="application/json", Cookie=cookie)[0] == 200
        with sqlite3.connect(tmp_path / "data/db.sqlite3") as connection:
            assert connection.execute("SELECT count(*) FROM users WHERE updated_at > '2020'").fetchone() == (
                1,
            )

    def test_a_lost_attachment_is_named(self, start: Start, tmp_path: Path) -> None:
        vault = start("vaultwarden")
        vault.commit("?file")
        vault.commit("?file")
        next((tmp_path / "data/attachments").glob("*/lab")).unlink()
        assert len(vault.json("GET", "/_lab/attachments")["lost"]) == 1


class TestGokapi:
    def test_a_lost_configuration_is_refused(self, start: Start, tmp_path: Path) -> None:
        start("gokapi").stop()
        (tmp_path / "home/apps/gokapi/config/config.json").unlink()
        assert "could not be read" in start("gokapi", wait=False).refusal()

    def test_another_key_makes_every_file_unreadable(self, start: Start, tmp_path: Path) -> None:
        gokapi = start("gokapi")
        gokapi.commit()
        gokapi.commit()
        assert gokapi.json("GET", "/_lab/rows")["files_missing"] == []
        gokapi.stop()
        path = tmp_path / "home/apps/gokapi/config/config.json"
        config = json.loads(path.read_text())
        config["Encryption"]["Cipher"] = "A" * 43 + "="
        path.write_text(json.dumps(config))
        assert start("gokapi").json("GET", "/_lab/rows")["files_missing"] == ["lab-1", "lab-2"]


class TestPortainer:
    def test_a_second_process_and_a_torn_copy_are_refused(self, start: Start, tmp_path: Path) -> None:
        first = start("portainer")
        first.commit()
        assert "failed opening store" in start("portainer", wait=False).refusal()
        torn = (tmp_path / "data/portainer.db").read_bytes()
        first.commit()
        first.stop()
        header = (tmp_path / "data/portainer.db").read_bytes()[:28]
        (tmp_path / "data/portainer.db").write_bytes(header + torn[28:])
        assert "failed opening store" in start("portainer", wait=False).refusal()

    def test_the_administrator_s_password_comes_from_the_file_once(self, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("twelve letters")
        arguments = ("-H", "unix:///var/run/docker.sock", "--admin-password-file", "/password")
        running = Running("portainer", tmp_path, arguments).wait()
        running.stop()
        (tmp_path / "password").write_text("another password")
        running = Running("portainer", tmp_path, arguments).wait()
        try:
            right = json.dumps({"Username": "admin", "Password": "twelve letters"}).encode()
            assert running.request("POST", "/api/auth", right)[0] == 200
            assert running.request("POST", "/api/auth", right.replace(b"twelve", b"another"))[0] == 422
        finally:
            running.stop()


def test_goatcounter_takes_the_old_place_only_where_it_is_used(tmp_path: Path) -> None:
    for old, expected in ((False, "goatcounter-data/db.sqlite3"), (True, "db/goatcounter.sqlite3")):
        root = tmp_path / str(old)
        home = root / "home/goatcounter"
        if old:
            (home / "db").mkdir(parents=True)
            sqlite3.connect(home / "db/goatcounter.sqlite3").execute("CREATE TABLE t (x)").connection.close()
        running = Running("goatcounter", root, ("serve",)).wait()
        running.commit()
        running.stop()
        assert [str(path.relative_to(home)) for path in home.rglob("*sqlite3")] == [expected]


def test_homepage_shows_the_catalogue_s_list_to_known_hosts_only(tmp_path: Path) -> None:
    config = tmp_path / "app/config"
    shutil.copytree(ROOT / "services/homepage/config", config)
    settings = {"HOMEPAGE_ALLOWED_HOSTS": "home.example.org", "HOMEPAGE_VAR_DOMAIN": "example.org"}
    running = Running("homepage", tmp_path, **settings).wait()
    try:
        assert running.request("GET", "/api/services", Host="elsewhere.example.org")[0] == 400
        groups = json.loads(running.request("GET", "/api/services", Host="home.example.org")[1])
        assert {
            "name": "Nextcloud",
            "href": "https://cloud.example.org",
            "description": "Files, calendar, contacts",
        } in groups[0]["services"]
        assert running.request("POST", "/_lab/commit")[0] == 404
    finally:
        running.stop()


@pytest.mark.parametrize("program", ["gokapi/gokapi", "planning-poker/server.py"])
def test_the_programs_of_native_services_start_where_they_are_shipped(program: str, tmp_path: Path) -> None:
    """Shipped as the overlay ships them: every file's content at its relative path, links resolved."""
    overlay = ROOT / "lab/overlay" / program.split("/")[0]
    shipped = tmp_path / "shipped"
    for path in overlay.rglob("*.py"):
        target = shipped / path.relative_to(overlay)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    target = shipped / program.split("/")[1]
    target.write_bytes((overlay / target.name).read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = ["-cd", str(tmp_path / "config"), "-d", str(tmp_path / "data")] if "gokapi" in program else []
    environment = {
        "PATH": os.environ["PATH"],
        "PORT": port,
        "GOKAPI_PORT": port,
        "HOST_PASSWORD": "correct horse",
    }
    process = subprocess.Popen(
        [sys.executable, "-B", str(target), *arguments], cwd=shipped, env=environment, stdout=subprocess.PIPE
    )
    try:
        running = Running.__new__(Running)
        running.port, running.process = int(port), process
        assert running.wait().commit() == 1
    finally:
        process.kill()
        output, _ = process.communicate()
    assert b"correct horse" not in output
