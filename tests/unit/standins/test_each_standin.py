"""What is particular to one stand-in."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from .standin_process import ROOT, Running, Start


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
