"""From the catalogue to the host's protection plan, its units and its credentials."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError
from samples import VARIABLES, Write

from understudy import render
from understudy.agent.data import plan as agent_plan
from understudy.catalog import Catalog
from understudy.desired import Desired
from understudy.errors import BadInput
from understudy.faults import CatalogError
from understudy.protection import files, secrets
from understudy.protection.policy import Policy
from understudy.settings import HostSettings, Parts, settings_of

Load = Callable[..., Catalog]
OFFSITE = {"url": "s3:https://s3.example/bucket", "tamper": "versions"}
VALUES = {
    "OFFSITE_PASSWORD": "pass",
    "OFFSITE_KEY_ID": "id",
    "OFFSITE_KEY": "key",
    "PING_CRITICAL": "https://ping/1",
}


def settings(**policy: Any) -> HostSettings:
    backup = {"repositories": {"offsite": OFFSITE}, "host_paths": [], **policy}
    return settings_of("box", {"domain": VARIABLES["DOMAIN"], "backup": backup})


def rendered(load: Load, host: HostSettings | None = None, values: dict[str, str] = VALUES) -> Desired:
    secret = {"KEY": "k", "DB_PASSWORD": "p"}
    catalog = load()
    given = {**{name: secret for name in catalog.services}, "backup": values}
    return render.desired(catalog, host or settings(), given)


def planned(desired: Desired) -> agent_plan.Plan:
    raw = json.loads(desired.tree.entries[files.PLAN].content)
    return agent_plan.parse(raw)


def test_without_a_probe_one_of_the_published_ports_must_serve(write: Write, load: Load) -> None:
    """Never where only the owner starts it: what he has stopped would fail each converge."""
    ports = "['8101:80', '127.0.0.1:8102:81', '192.168.1.5:53:53', '8103:9/udp']"
    write(
        "odd/compose.yaml",
        f"services: {{app: {{image: 'odd:1', restart: always, ports: {ports}, volumes: ['./d:/d']}}}}",
    )
    desired = rendered(load)
    (probe,) = planned(desired).services["odd"].probes
    assert (probe["url"], probe["any"]) == ("tcp://127.0.0.1:8101", ["tcp://127.0.0.1:8102"])
    assert [one.request for one in desired.probes] == [probe]
    theirs = rendered(load, settings().model_copy(update={"parts": Parts.model_validate(["backup"])}))
    assert theirs.probes == [] and planned(theirs).services["odd"].probes == (probe,)


def test_the_agent_reads_what_the_control_machine_writes(notes: Write, load: Load) -> None:
    plan = planned(rendered(load))
    service = plan.services["notes"]
    assert [(m.key, m.kind, m.source, m.class_) for m in service.mounts] == [
        ("files/data", "bind", "/home/docker-projects/notes/data", "keep")
    ]
    database = service.databases[0]
    assert (database.kind, database.mount, database.path) == ("sqlite", "files/data", "notes.db")
    assert service.ports == (8100,) and service.tier == "important"
    assert service.probes[0]["url"] == "http://127.0.0.1:8100/health"
    assert plan.repositories["offsite"].of("rest") == "s3:https://s3.example/bucket/rest"


def test_no_secret_stands_in_the_plan_or_the_units(notes: Write, load: Load) -> None:
    desired = rendered(
        load, values={**VALUES, "OFFSITE_KEY": "very-secret-key", "OFFSITE_PASSWORD": "very-secret"}
    )
    for path, entry in desired.tree.entries.items():
        if b"very-secret" in entry.content:
            assert path.startswith(secrets.FOLDER) and entry.mode == 0o400 and entry.secret
    assert desired.tree.entries[files.PLAN].mode == 0o600
    assert desired.tree.entries[secrets.FOLDER].mode == 0o700


def test_each_tier_in_use_has_a_timer_and_no_other(notes: Write, load: Load) -> None:
    desired = rendered(load)
    timers = [path for path in desired.tree.entries if path.endswith(".timer")]
    assert timers == [
        "/etc/systemd/system/understudy-backup-important.timer",
        "/etc/systemd/system/understudy-verify.timer",
    ]
    wished = [unit.name for unit in desired.units if unit.name.startswith("understudy-")]
    assert "understudy-backup-important.timer" in wished and "understudy-lift.service" in wished


def test_the_unit_of_a_tick_is_gentle_bounded_alarmed_and_lifts_what_it_stopped(
    notes: Write, load: Load
) -> None:
    entry = rendered(load).tree.entries["/etc/systemd/system/understudy-backup-important.service"]
    lines = entry.content.decode().splitlines()
    for line in (
        "ExecStart=/usr/bin/python3 -IB /usr/lib/understudy/agent.pyz backup important",
        "ExecStopPost=/usr/bin/python3 -IB /usr/lib/understudy/agent.pyz lift",
        "OnFailure=understudy-alarm@%n.service",
        "LoadCredential=backup:/etc/understudy/secrets/backup",
        "TimeoutStartSec=21600",
        "Nice=10",
        "NoNewPrivileges=yes",
    ):
        assert line in lines


def test_the_timer_says_the_owners_interval_with_jitter(notes: Write, load: Load) -> None:
    host = settings(tiers={"important": {"every": 600}})
    entry = rendered(load, host).tree.entries["/etc/systemd/system/understudy-backup-important.timer"]
    lines = entry.content.decode().splitlines()
    assert "OnUnitActiveSec=600" in lines and "RandomizedDelaySec=40" in lines


def test_ticks_closer_than_five_minutes_are_refused() -> None:
    with pytest.raises(BadInput, match=r"box: backup\.tiers\.important\.every"):
        settings(tiers={"important": {"every": 60}})


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("b2:bucket", "S3 endpoint"),
        ("ftp://x", "none of s3:, sftp:, rclone:, rest:"),
        ("rest:https://user:secret@nas/x", "secrets file"),
    ],
)
def test_addresses_that_cannot_work_are_refused_with_the_reason(url: str, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Policy.model_validate({"repositories": {"x": {"url": url}}})


def test_a_copy_names_a_repository_that_exists() -> None:
    with pytest.raises(ValidationError, match="no repository 'nowhere'"):
        Policy.model_validate({"repositories": {"x": {"url": "/mnt/x", "copy_from": "nowhere"}}})


def test_a_missing_store_key_is_named_with_its_file(notes: Write, load: Load) -> None:
    with pytest.raises(CatalogError) as raised:
        rendered(load, values={"OFFSITE_PASSWORD": "p"})
    text = str(raised.value)
    assert (
        "secrets/backup.yaml" in text and "OFFSITE_KEY" in text and "understudy secrets edit backup" in text
    )


def test_credentials_are_files_in_the_form_their_programs_read() -> None:
    policy = Policy.model_validate(
        {
            "repositories": {
                "offsite": OFFSITE,
                "away": {"url": "sftp:u@h:/x"},
                "nas": {"url": "rest:http://nas/"},
            }
        }
    )
    values = {
        **VALUES,
        "AWAY_PASSWORD": "a",
        "AWAY_SSH_KEY": "KEY",
        "NAS_PASSWORD": "n",
        "NAS_REST": "me:word",
    }
    found = secrets.credential_files(policy, values)
    assert found["offsite-aws"] == "[default]\naws_access_key_id = id\naws_secret_access_key = key\n"
    assert found["away-ssh-key"] == "KEY\n" and found["nas-rest"] == "me:word"
    assert secrets.credentials_of("nas", policy.repositories["nas"], found) == {
        "password": "nas-password",
        "rest": "nas-rest",
    }


def test_the_admin_key_has_no_way_to_the_host(notes: Write, load: Load) -> None:
    host = settings()
    assert secrets.ADMIN not in render.declared_secrets(load(), host)
    assert set(secrets.admin_specs(host.backup)) == {"OFFSITE_PASSWORD", "OFFSITE_KEY_ID", "OFFSITE_KEY"}


def test_without_a_repository_nothing_of_backups_reaches_the_host(notes: Write, load: Load) -> None:
    desired = render.desired(load(), settings_of("box", {"domain": "example.org"}), {"notes": {"KEY": "k"}})
    assert files.PLAN not in desired.tree.entries


SHARED = """
services:
  db:
    image: postgres:16.15
    environment: {POSTGRES_USER: cloud, POSTGRES_PASSWORD_FILE: /run/secrets/pw}
    volumes: ["dbdata:/var/lib/postgresql/data"]
    secrets: [pw]
  app:
    image: example/cloud:1.0.0
    volumes: ["./files:/files", "/srv/media:/media", "/var/run/docker.sock:/var/run/docker.sock"]
  worker:
    image: example/cloud:1.0.0
    volumes: ["./files:/work"]
volumes: {dbdata: {}}
secrets:
  pw: {file: /etc/understudy/secrets/cloud/DB_PASSWORD}
"""
SHARED_BLOCK = """
data:
  app:/media: media
  app:/files/thumbs: {class: cache, keep: [.keep]}
probe: {to: "80", path: /, text: x}
databases: [{postgres: {service: db, database: cloud, user: cloud}}]
secrets: {DB_PASSWORD: {generate: alnum32}}
"""
GUEST = """
services:
  app:
    image: example/paper:1.0.0
    volumes: ["./data:/data"]
"""
GUEST_BLOCK = """
needs: [cloud]
probe: {to: "81", path: /, text: x}
databases: [{postgres: {service: cloud/db, database: paper, user: paper}}]
"""


@pytest.fixture
def cloud(write: Write) -> None:
    write("cloud/compose.yaml", SHARED)
    write("cloud/understudy.yaml", SHARED_BLOCK)
    write("paper/compose.yaml", GUEST)
    write("paper/understudy.yaml", GUEST_BLOCK)


def test_a_mount_of_two_containers_is_kept_once_and_sockets_never(cloud: None, load: Load) -> None:
    service = planned(rendered(load)).services["cloud"]
    places = {mount.key: mount for mount in service.mounts}
    assert set(places) == {"volumes/dbdata", "files/files", "paths/srv/media"}
    assert places["paths/srv/media"].class_ == "media"
    assert places["files/files"].rules == (agent_plan.Rule("thumbs", "cache", (".keep",)),)


def test_a_servers_own_files_are_left_to_its_dump(cloud: None, load: Load) -> None:
    service = planned(rendered(load)).services["cloud"]
    assert (
        service.mount("volumes/dbdata").class_ == "none"
        and service.mount("volumes/dbdata").source == "cloud_dbdata"
    )
    assert service.servers == ("db",)
    database = service.databases[0]
    assert (database.project, database.container, database.database) == ("cloud", "db", "cloud")
    assert database.roles == {"cloud": "/etc/understudy/secrets/cloud/DB_PASSWORD"}


def test_a_database_on_another_units_server_is_dumped_there(cloud: None, load: Load) -> None:
    database = planned(rendered(load)).services["paper"].databases[0]
    assert (database.project, database.container, database.database, database.data_mount) == (
        "cloud",
        "db",
        "paper",
        "",
    )
    assert database.user == "", (
        "its own role can neither read roles nor make databases: the superuser does it"
    )


def test_b5_a_wrong_database_name_is_no_silent_success(notes: Write, load: Load) -> None:
    """KitchenOwl's job looked for kitchenowl.db: a database in no volume is an error before any host is asked."""
    notes(
        "notes/understudy.yaml",
        'databases: [{sqlite: "app:/elsewhere/notes.db"}]\nsecrets: {KEY: {generate: alnum32}}\n',
    )
    with pytest.raises(CatalogError, match="is in no volume"):
        load()


def test_b12_the_hosts_own_configuration_is_kept(notes: Write, load: Load) -> None:
    host = settings(host_paths=["/etc", "/usr/local/bin"])
    service = planned(rendered(load, host)).services["host"]
    assert [mount.source for mount in service.mounts] == [
        "/etc",
        "/usr/local/bin",
        "/var/lib/understudy/ledger",
    ]


def test_b12_compose_files_and_env_files_are_kept(notes: Write, load: Load) -> None:
    config = planned(rendered(load)).services["notes"].config
    assert config == ("/home/docker-projects/notes/compose.yaml", "/home/docker-projects/notes/.env")


def test_what_a_profile_that_is_off_never_made_is_not_missing(write: Write, load: Load) -> None:
    write(
        "media/compose.yaml",
        """
        services:
          player: {image: "example/player:1", volumes: ["films:/films"]}
          tools: {image: "example/tools:1", profiles: [tools], volumes: ["scratch:/scratch", "films:/films"]}
        volumes: {films: {}, scratch: {}}
        """,
    )
    mounts = {m.source: m.required for m in planned(rendered(load)).services["media"].mounts}
    assert mounts == {"media_films": True, "media_scratch": False}
    write("media/understudy.yaml", "profiles: [tools]\n")
    mounts = {m.source: m.required for m in planned(rendered(load)).services["media"].mounts}
    assert mounts == {"media_films": True, "media_scratch": True}
