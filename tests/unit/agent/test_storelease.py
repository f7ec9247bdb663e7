"""The lease of auto mode against a real object store, and its timing against every order of late answers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.facts import Facts
from lab.settings import Settings
from lab.storage import objectstore, stores
from lab.storage.faults import Faults
from understudy.agent.errors import AgentError
from understudy.agent.owner import objects, state, storelease
from understudy.agent.owner.decide import Verdict, unleased
from understudy.agent.owner.objects import Lost, Place, StoreFault
from understudy.agent.owner.plan import Auto
from understudy.agent.owner.storelease import MARGIN, Right, Term
from understudy.agent.root import Root

TTL = 420.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    folder = tmp_path_factory.mktemp("lab")
    where = Settings(folder, folder / "state")
    found = stores.find_store(where, Facts("test", "127.0.0.0/24"))
    stores.ensure_programs(found)
    yield found
    stores.down(where)


@pytest.fixture
def url(store: stores.Store, request: pytest.FixtureRequest) -> str:
    store.reset()
    return f"s3:http://{store.outside('second')}/{objectstore.LEASES}/{request.node.name}"


@pytest.fixture
def place(store: stores.Store, url: str) -> Place:
    key = store.keys.s3["lemongrab"]
    return objects.place(url, "", key.key_id, key.secret)


class Host:
    """One host with auto mode on; its clock is the kernel's plus ``later``."""

    def __init__(self, name: str, base: Path, url: str, place: Place) -> None:
        self.name, self.root = name, Root(str(base))
        key = base / "etc/key"
        key.parent.mkdir(parents=True)
        key.write_text(
            f"[default]\naws_access_key_id = {place.key_id}\naws_secret_access_key = {place.secret}\n"
        )
        self.auto = Auto(url, TTL, ("critical",), "/etc/key")

    def renew(self, epoch: int) -> Right:
        return storelease.renew(self.root, self.auto, "critical", self.name, epoch)

    @property
    def right(self) -> Right:
        return storelease.held(self.root, "critical")


@pytest.fixture
def box(tmp_path: Path, url: str, place: Place) -> Host:
    return Host("box", tmp_path / "box", url, place)


@pytest.fixture
def spare(tmp_path: Path, url: str, place: Place) -> Host:
    return Host("spare", tmp_path / "spare", url, place)


def term(place: Place) -> Term:
    found = objects.read(place, "lease-critical.json")
    assert found is not None
    return storelease.parse(found.body, "lease-critical.json")


def test_a_store_with_conditions_passes_and_may_be_asked_again(place: Place) -> None:
    objects.conditional(place, "box")
    objects.conditional(place, "box")


@contextmanager
def answering(put: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(put)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"s3:http://127.0.0.1:{server.server_port}/bucket"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("put", "words"), [(200, "pays no heed to If-Match"), (501, "on no condition")])
def test_a_store_without_conditions_is_refused_in_one_sentence(put: int, words: str) -> None:
    with answering(put) as url, pytest.raises(StoreFault, match=words):
        objects.conditional(objects.place(url, "", "id", "secret"), "box")


def test_each_renewal_writes_another_object_and_moves_the_end(
    box: Host, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    for module in (state, storelease):
        monkeypatch.setattr(module, "boottime", lambda: now)
    assert not box.right.good
    seen = set()
    for count in range(1, 5):
        right = box.renew(3)
        assert right.good and right.until == now + TTL - MARGIN
        assert term(place) == Term("critical", "box", 3, count, TTL)
        seen.add(right.etag)
        now += 30
    assert len(seen) == 4
    now += TTL
    assert not box.right.good and box.renew(3).good


def test_an_unreachable_store_leaves_the_right_until_its_end(
    box: Host, store: stores.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    for module in (state, storelease):
        monkeypatch.setattr(module, "boottime", lambda: now)
    box.renew(3)
    monkeypatch.setattr(objects, "TIMEOUT", 0.5)
    with store.relay.faulty("second", Faults(hang=True)):
        now = 1000 + TTL - MARGIN - 1
        assert box.renew(3).good
        now += 1
        right = box.renew(3)
    assert not right.good and "does not answer" in right.why
    assert box.renew(3).good


def test_who_is_named_with_a_higher_epoch_takes_it_and_the_old_owner_is_out_at_once(
    box: Host, spare: Host, place: Place
) -> None:
    assert box.renew(3).good and spare.renew(4).good
    assert term(place).owner == "spare"
    right = box.renew(3)
    assert not right.good and right.why == "spare has the lease of epoch 4, and this is 3"
    assert box.renew(4).good, "a batch that won has named it with the same epoch: nobody else can be named"


def test_a_watcher_takes_only_the_lease_that_it_saw(box: Host, place: Place) -> None:
    from understudy.ownership import auto

    box.renew(3)
    seen = auto.sight(place, "critical", None, 10.0, "boot")
    assert seen is not None
    again = auto.sight(place, "critical", seen, 40.0, "boot")
    assert again == seen, "the same ETag is as old as when it was first seen"
    assert auto.sight(place, "critical", seen, 40.0, "another boot").since == 40.0  # type: ignore[union-attr]
    box.renew(3)
    with pytest.raises(Lost):
        auto.take(place, "critical", seen, "spare", 4, TTL)
    assert term(place).owner == "box"
    fresh = auto.sight(place, "critical", seen, 70.0, "boot")
    assert fresh is not None and fresh.since == 70.0
    auto.take(place, "critical", fresh, "spare", 4, TTL)
    assert not box.renew(3).good
    taken = auto.sight(place, "critical", fresh, 80.0, "boot")
    assert taken is not None and auto.continues(taken, 3, ("spare",))
    auto.take(place, "critical", taken, "spare", 4, TTL)  # already so: nothing is written
    auto.give_back(place, "critical", taken, "box", 3)
    assert box.renew(3).good


def test_a_foreign_object_is_no_lease(box: Host, place: Place) -> None:
    objects.write(place, "lease-critical.json", b"hello", "")
    assert "none of ours" in box.renew(3).why
    assert objects.read(place, "lease-critical.json").body == b"hello"  # type: ignore[union-attr]


def test_a_wrong_key_says_so_and_never_shows_it(url: str, tmp_path: Path, place: Place) -> None:
    wrong = objects.place(url, "", place.key_id, "not-the-secret")
    with pytest.raises(StoreFault, match="refused to give") as caught:
        objects.read(wrong, "lease-critical.json")
    assert "not-the-secret" not in str(caught.value) and "not-the-secret" not in repr(wrong)


def test_without_its_lease_what_would_run_stops_and_learns() -> None:
    run, stay = Verdict("run", "named, epoch 4", True), Verdict("stay-down", "no answer")
    assert unleased(run, "its lease is over: x") == Verdict(
        "stop", "named, epoch 4, and its lease is over: x", True
    )
    assert unleased(Verdict("go-on", "no answer"), "gone").action == "stop"
    assert unleased(run, "") is run and unleased(stay, "gone") is stay


class Shelf:
    """A store in memory, for the explorer below: a write arrives when the test says."""

    def __init__(self) -> None:
        self.body, self.version = b"", 0

    @property
    def etag(self) -> str:
        return f'"{self.version}"' if self.version else ""

    def write(self, body: bytes, etag: str) -> str:
        if etag != self.etag:
            raise Lost("lease")
        self.body, self.version = body, self.version + 1
        return self.etag


Renewal = st.tuples(
    st.floats(1, 600),  # seconds to the next try
    st.floats(0, 900),  # how long the write is under way
    st.booleans(),  # whether its answer arrives
)


@settings(max_examples=600, deadline=None)
@given(
    st.lists(Renewal, min_size=1, max_size=12),
    st.floats(5, 120),
    st.floats(0.95, 1.05),
    st.floats(0, 300),
)
def test_nobody_serves_when_the_lease_is_taken_however_late_answers_are(
    renewals: list[tuple[float, float, bool]], every: float, rate: float, phase: float
) -> None:
    """The holder and the watcher each by a clock of its own (``rate``: one against the other), writes under way for as long

    as they like. When the watcher's conditional write goes through, the holder's right has been over for a while.
    """
    shelf, arrivals, until = Shelf(), list[tuple[float, bytes, str, float, bool]](), 0.0
    now, etag = 0.0, ""
    for count, (pause, late, answered) in enumerate(renewals):
        body = storelease.text(Term("critical", "box", 3, count, TTL))
        arrivals.append((now + late, body, etag, now, answered))
        now += pause
    events: list[tuple[float, int, Any]] = [(one[0], 0, one) for one in arrivals]
    horizon = now + 900 + 3 * TTL
    look = phase
    while look < horizon:
        events.append((look, 1, None))
        look += every
    seen, since = "", 0.0
    for at, kind, one in sorted(events, key=lambda event: event[:2]):
        if kind == 0:
            with_etag = shelf.etag  # the holder read it before it wrote: the condition always fits
            shelf.write(one[1], with_etag)
            if one[4]:
                until = max(until, one[3] + TTL - MARGIN)
            continue
        mine = at * rate
        if shelf.etag != seen:
            seen, since = shelf.etag, mine
        elif seen and storelease.expired(TTL, mine - since):
            shelf.write(storelease.text(Term("critical", "spare", 4, 1, TTL)), seen)
            assert at > until, f"taken at {at:.0f}, while the holder may serve until {until:.0f}"
            return


def test_the_state_is_of_this_boot_only(box: Host) -> None:
    box.renew(3)
    (file,) = Path(box.root.at("/run/understudy/owner")).glob("lease-*")
    assert json.loads(file.read_text())["etag"]
    storelease.drop(box.root, "critical")
    assert not file.exists() and not box.right.good


def test_a_boot_has_one_name_and_a_machine_without_any_one_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storelease.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def none(*given: object, **more: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", none)
    assert storelease.boot_id() == storelease.boot_id() != ""


def test_a_damaged_key_is_named(box: Host) -> None:
    Path(box.root.at("/etc/key")).write_text("nothing")
    assert "key to the store" in box.renew(3).why
    with pytest.raises(AgentError, match="is not s3"):
        objects.place("https://example.org/x")
