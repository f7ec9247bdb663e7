"""The lab's stand-ins as programs: what they acknowledge survives, and lost data is never papered over."""

from __future__ import annotations

import http.client
import json
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from understudy.catalog import Source, load_catalog
from understudy.spec import Probe

from .standin_process import KNOWN, ROOT, SQLITE, Known, Start, names

VARIABLES = {"DOMAIN": "example.org", "TZ": "Etc/UTC"}


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
            except (OSError, http.client.HTTPException, AssertionError, ValueError):
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
