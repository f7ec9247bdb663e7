"""Replicas in an inventory: left out with a word when they cannot be read, and never taken for gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab.hetzner.faults import Fault
from understudy import preflight
from understudy.cli import app
from understudy.errors import BadInput, UnderstudyError
from understudy.ownership.files import PLAN
from understudy.replica import costs, identity, listing, rotation, up
from understudy.replica.inventory import Cloud as CloudOf
from understudy.replica.inventory import cloud_of, hetzner
from understudy.replica.price import storage_lines
from understudy.secrets import Store, init

from .conftest import Cloud
from .test_up import made, request


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> Path:
    """A project folder whose environment leads to the emulated Hetzner."""
    folder = tmp_path / "home"
    (folder / "group_data").mkdir(parents=True)
    (folder / "group_data" / "all.py").write_text('stack = "home"\n')
    (folder / "group_data" / "replica.py").write_text('hetzner = {"name": "spare", "max_monthly": 15}\n')
    (folder / "key.pub").write_text(identity.new_key("owner").public)
    (folder / "inventory.py").write_text(
        "from understudy.replica.inventory import hetzner as _hetzner\n"
        f"_cloud = _hetzner({{'ssh_key': '{folder}/key'}})\n"
        "primary = [('lemongrab', {})]\nreplica = _cloud.hosts()\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HCLOUD_TOKEN", "lab-owner")
    monkeypatch.setenv("HCLOUD_ENDPOINT", cloud.endpoint)
    return folder


def finished(cloud: Cloud, tmp_path: Path, hear: Callable) -> str:
    """A server with the labels of a finished replica; returns the mark of its host key."""
    api = cloud.client()
    server = made(api, request(tmp_path, hear))
    labels = {**server.labels, "state": "ready"}
    api.set_labels(server.id, labels)
    return labels[rotation.CURRENT]


def test_a_finished_replica_is_a_host_and_an_unfinished_one_is_not(
    home: Path, cloud: Cloud, tmp_path: Path, hear: Callable
) -> None:
    made(cloud.client(), request(tmp_path, hear))
    assert hetzner().hosts() == []
    key_mark = finished(cloud, tmp_path, hear)
    pin = hetzner().pins(key_mark, "spare")
    pin.parent.mkdir(parents=True)
    pin.write_text("10.9.9.100 ssh-ed25519 AAAA\n")
    ((name, data),) = hetzner({"services": ["caddy"]}).hosts()
    assert (name, data["role"], data["ssh_hostname"], data["services"]) == (
        "spare",
        "replica",
        "10.9.9.100",
        ["caddy"],
    )
    assert data["ssh_strict_host_key_checking"] == "yes" and data["ssh_known_hosts_file"] == str(pin)
    assert data["metadata_service"] is True


def test_no_token_means_the_primary_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("HCLOUD_TOKEN")
    found = hetzner()
    assert found.hosts() == [] and not found.complete
    assert capsys.readouterr().err == ""


def test_the_token_may_lie_in_sops(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HCLOUD_TOKEN")
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(home / "age.txt"))
    init(home / "secrets")
    Store(home / "secrets").add("hetzner", {"HCLOUD_TOKEN": "lab-owner"})
    assert hetzner().token == "lab-owner" and hetzner().complete


def test_an_api_that_is_down_is_said_and_the_primary_stays(
    home: Path, cloud: Cloud, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("understudy.replica.inventory.QUICK", {"read": 0.3, "patience": 0.3})
    cloud.faults(Fault("hang", seconds=2))
    found = hetzner()
    assert found.hosts() == [] and not found.complete
    assert "did not answer in time" in capsys.readouterr().err
    cloud.faults()
    assert hetzner().complete


def test_a_guard_is_not_taken_away_while_replicas_cannot_be_read() -> None:
    class Settings:
        peers_complete = False

    class Desired:
        guarded: frozenset[str] = frozenset()
        settings = Settings()

    survey = {"manifest": {"entries": {PLAN: {}}}}
    (sentence,) = preflight._guard_lost(Desired(), survey)  # type: ignore[arg-type]
    assert "could not be read" in sentence
    assert list(preflight._guard_lost(Desired(), {"manifest": {"entries": {}}})) == []  # type: ignore[arg-type]
    Settings.peers_complete = True
    assert list(preflight._guard_lost(Desired(), survey)) == []  # type: ignore[arg-type]


def test_login_keys_are_found_or_missed_in_a_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CloudOf({"ssh_key": str(home / "key")}).public_keys() == [(home / "key.pub").read_text()]
    with pytest.raises(BadInput, match="cannot be read"):
        CloudOf({"hetzner": {"ssh_keys": ["~/nothing.pub"]}}).public_keys()
    (home / "private").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nx y\n")
    with pytest.raises(BadInput, match="not an SSH public key"):
        CloudOf({"hetzner": {"ssh_keys": [str(home / "private")]}}).public_keys()
    monkeypatch.setenv("HOME", str(home))
    assert CloudOf({}).public_keys() == []


def test_an_inventory_without_hetzner_is_told_what_to_add() -> None:
    with pytest.raises(BadInput, match="says nothing about Hetzner: add"):
        cloud_of({"primary": []}, "inventory/prod.py")


def test_the_command_line(home: Path, cloud: Cloud) -> None:
    runner = CliRunner()
    dry = runner.invoke(app, ["replica", "up", "-i", "inventory.py", "--dry", "--json"])
    assert dry.exit_code == 0 and '"monthly_net": 5.99' in dry.stdout
    for words, kind in (
        (["up", "--type", "cx99"], BadInput),
        (["up", "--location", "mars"], BadInput),
        (["up", "--max-monthly", "1"], UnderstudyError),
        (["down", "elsewhere", "--yes=elsewhere"], BadInput),
        (["list", "-i", "nothing.py"], BadInput),
    ):
        more = [] if "-i" in words else ["-i", "inventory.py"]
        done = runner.invoke(app, ["replica", *words, *more])
        assert isinstance(done.exception, kind), (words, done.output)
    assert cloud.writes == []


def test_a_name_that_the_inventory_has_by_hand_is_refused(home: Path, cloud: Cloud) -> None:
    text = (home / "inventory.py").read_text()
    (home / "inventory.py").write_text(text + "replica.append(('spare', {'ssh_hostname': '192.168.1.20'}))\n")
    done = CliRunner().invoke(app, ["replica", "up", "-i", "inventory.py"])
    assert isinstance(done.exception, UnderstudyError) and "already has a host named spare" in str(
        done.exception
    )
    assert cloud.writes == []


def test_costs_of_what_is_there_and_of_what_could_be(
    home: Path, cloud: Cloud, tmp_path: Path, hear: Callable
) -> None:
    by_name, lines = costs.replica_costs(hetzner())
    assert (
        by_name == {}
        and "`understudy replica up` would cost 5.99 EUR a month net (7.13 with 19 % VAT)" in lines[0]
    )
    finished(cloud, tmp_path, hear)
    by_name, lines = costs.replica_costs(hetzner())
    assert by_name["spare"]["monthly_net"] == pytest.approx(5.99)
    assert lines == ["spare (cx23 in fsn1, running): 5.99 EUR a month net, 0.0096 an hour"]
    (row,) = listing.rows(cloud.client(), "home")
    assert row["so_far_net"] == pytest.approx(0.0096) and row["age_seconds"] < 60
    cloud.faults(Fault("error", status=401, code="unauthorized"))
    assert "could not be read" in costs.replica_costs(hetzner())[1][0]


def test_storage_prices_carry_their_date() -> None:
    (line,) = storage_lines(
        {"offsite": "s3:https://s3.eu-central-003.backblazeb2.com/x", "nas": "rest:http://nas/x"}
    )
    assert line.startswith("offsite: Backblaze B2 6.00 USD per TB and month") and "price of 2026-04" in line


def test_ages_for_people() -> None:
    assert [listing.age(n) for n in (5, 65, 7200, 200000, None)] == ["5 s", "1 min", "2 h", "2 d", ""]
    assert up.wanted_rules(hetzner({}).wish()) != frozenset()
