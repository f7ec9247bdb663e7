"""Forget and prune with real restic, killed at random points."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from quick_key import quicken

from understudy.errors import Refused
from understudy.repository import identity, listing, prune, restic
from understudy.repository.prune import Limits, Lock
from understudy.repository.restic import AdminRepository, ResticError, Session, opened
from understudy.repository.retention import Facts, Keep

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of ours, to be copied: making one costs seconds."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        with opened(AdminRepository("usb", "critical", str(folder / "repo"), "pw")) as session:
            session.run(["init", "--json"], 60, lock=True)
            quicken(folder / "repo", "pw")
            listing.adopt(session)
    return folder / "repo"


@pytest.fixture
def repository(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminRepository:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    shutil.copytree(empty, tmp_path / "repo")
    return AdminRepository("usb", "critical", str(tmp_path / "repo"), "pw", cache_dir=str(tmp_path / "cache"))


def backup(session: Session, folder: Path, seq: int, days_ago: float = 0) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - days_ago * 86400))
    tags = ["understudy", "group:critical", "tier:critical", "epoch:1", f"seq:{seq}", "service:vault"]
    more = [part for tag in tags for part in ("--tag", tag)]
    argv = ["backup", "--json", "--host", "home", "--time", when, *more, "."]
    return str(session.run(argv, 60, lock=True, cwd=str(folder)).summary["snapshot_id"])


def churn(folder: Path, count: int = 60, share: float = 1.0) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        if random.random() < share:
            (folder / f"f{number}").write_bytes(os.urandom(40_000))


def test_tidy_forgets_prunes_and_marks_the_day(repository: AdminRepository, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with opened(repository) as session:
        ids = []
        for seq in range(1, 7):
            churn(data)
            ids.append(backup(session, data, seq, days_ago=100 - seq if seq < 5 else 0))
        before = sum(one.stat().st_size for one in Path(repository.url).rglob("*") if one.is_file())
    dry = prune.tidy(repository, Facts(), dry_run=True)
    record = prune.tidy(repository, Facts())
    with opened(repository) as session:
        found = listing.listed(session)
    after = sum(one.stat().st_size for one in Path(repository.url).rglob("*") if one.is_file())
    assert dry["forgot"] == record["forgot"] == ids[:4]
    assert [one.id for one in found.snapshots] == ids[4:]
    assert record["ok"] and record["complete"] and after < before * 0.5
    assert time.time() - (found.last_prune or 0) < 60
    prune.tidy(repository, Facts())
    with opened(repository) as session:
        assert len(listing.listed(session).pruned) == 1, "the older mark is gone"
    assert prune.health(repository) == []


def test_a_repository_of_others_is_never_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    theirs = AdminRepository("nas", "critical", str(tmp_path / "theirs"), "pw")
    with opened(theirs) as session:
        session.run(["init"], 60, lock=True)
        quicken(tmp_path / "theirs", "pw")
        session.run(["backup", "--json", "--stdin"], 60, lock=True, feed=b"x")
        churn(tmp_path / "d", 1)
        backup(session, tmp_path / "d", 1)
    tree = sorted(str(one) for one in Path(theirs.url).rglob("*"))
    with pytest.raises(Refused, match="did not make this repository"):
        prune.tidy(theirs, Facts(), keep=Keep(0, 0, 0, 0))
    assert tree == sorted(str(one) for one in Path(theirs.url).rglob("*"))
    assert any("did not make" in worry for worry in prune.health(theirs))


def test_nothing_is_pruned_during_a_switchover_or_beside_another_run(repository: AdminRepository) -> None:
    with pytest.raises(Refused, match="switchover critical-7"):
        prune.tidy(repository, Facts(), switchover="critical-7")
    with identity.only_one(repository.url, "x"), pytest.raises(Refused, match="another prune"):
        prune.tidy(repository, Facts())


def test_a_stopped_choice_removes_nothing(repository: AdminRepository, tmp_path: Path) -> None:
    churn(tmp_path / "data", 2)
    with opened(repository) as session:
        for seq in range(1, 5):
            backup(session, tmp_path / "data", seq, days_ago=100 - seq)
    record = prune.tidy(repository, Facts(), most=2)
    assert not record["ok"] and "3 snapshots would go where at most 2" in record["error"]
    with opened(repository) as session:
        assert len(listing.listed(session).snapshots) == 4


def kill_later(pid: int, locks: Path, after: float) -> threading.Thread:
    """Kill a process group ``after`` seconds after it has put its lock into the repository."""
    before = set(os.listdir(locks))

    def kill() -> None:
        deadline = time.monotonic() + 20
        while set(os.listdir(locks)) <= before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


ROUNDS = int(os.environ.get("UNDERSTUDY_ROUNDS", "3"))


def kill_one(session: Session, held: int, verb: list[str], after: float) -> None:
    locks, killers = Path(session.repository.url, "locks"), []
    with contextlib.suppress(ResticError):
        session.run(
            verb,
            60,
            lock=True,
            pass_fds=(held,),
            on_start=lambda pid: killers.append(kill_later(pid, locks, after)),
        )
    for killer in killers:
        killer.join()


@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_a_prune_killed_anywhere_stops_nothing(repository: AdminRepository, tmp_path: Path) -> None:
    """SIGKILL at random points of forget and prune: each time the next tidy, backup, check and restore work."""
    data, out = tmp_path / "data", tmp_path / "out"
    seed = random.randrange(10**6)
    print("seed", seed)  # shown when it fails
    random.seed(seed)
    left = 0
    with opened(repository) as session:
        for turn in range(ROUNDS):
            for half in range(2):
                churn(data, 60, 0.6)
                backup(session, data, 3 * turn + half + 1)
            # The first one surely comes while the lock is there: restic waits 0.2 s before it looks again.
            after = random.uniform(0, 0.6 if turn else 0.1)
            with identity.only_one(repository.url, "test") as held:
                old = [one.id for one in listing.listed(session).snapshots][:-1]
                if turn % 4 == 3:
                    kill_one(session, held, ["forget", *old], after)
                else:
                    prune.forget(session, old, held)
                    kill_one(session, held, ["prune", "--max-unused", "0"], after)
            left += len(prune.locks(session)) > 0
            record = prune.tidy(repository, Facts())
            assert record["ok"] and prune.locks(session) == []
            churn(data, 60, 0.2)
            newest = backup(session, data, 3 * turn + 3)
            session.run(["restore", newest, "--target", str(out / str(turn))], 60)
            same = subprocess.run(
                ["diff", "-r", str(data), str(out / str(turn))], capture_output=True, check=False
            )
            assert same.returncode == 0, same.stdout[:500]
        session.run(["check", "--read-data"], 60)
    print(f"{left} of {ROUNDS} kills left a lock")
    assert left, "all kills came too late to test anything"


def test_a_slice_that_is_killed_has_its_lock_taken_away_at_once(
    repository: AdminRepository, tmp_path: Path
) -> None:
    churn(tmp_path / "data", 30)
    locks = Path(repository.url, "locks")
    with opened(repository) as session, identity.only_one(repository.url, "test") as held:
        backup(session, tmp_path / "data", 1)
        with pytest.raises(ResticError) as error:
            prune.prune(session, held, on_start=lambda pid: kill_later(pid, locks, 0.05) and None)
        assert error.value.kind == "interrupted"
        assert list(locks.iterdir()) == []


def test_the_time_limit_ends_a_slice_without_a_lock(repository: AdminRepository) -> None:
    with opened(repository) as session, identity.only_one(repository.url, "test") as held:
        assert prune.prune(session, held, Limits(seconds=1.01)) in [(0, False), (1, True)]
        assert prune.locks(session) == []


def test_only_our_own_dead_locks_and_very_old_ones_are_taken_away() -> None:
    mine = Lock("1", NOW - 60, True, "admin", 999)
    hosts = Lock("2", NOW - 60, False, "home", 999)
    old = Lock("3", NOW - 3700, False, "home", 999)
    fresh = Lock("4", NOW + 4000, False, "home", 999)
    assert prune.dead([mine, hosts, old], "admin", True, NOW) == ([mine], [old])
    assert prune.dead([hosts, old, fresh], "admin", True, NOW) == ([], [])
    assert prune.dead([Lock("5", NOW, True, "admin", os.getpid())], "admin", False, NOW) == ([], [])
    assert prune.dead([Lock("5", NOW, True, "admin", 2**22 + 5)], "admin", False, NOW)[0]


def test_a_living_lock_of_a_host_stays(repository: AdminRepository, tmp_path: Path) -> None:
    """A backup that runs under another host name is left alone, whatever its age in minutes."""
    reader, writer = os.pipe()
    with opened(repository) as session:
        done: list[BaseException | int] = []

        def run() -> None:
            argv = [session.program, "backup", "--stdin"]
            environment = {**os.environ, "RESTIC_REPOSITORY": repository.url, "RESTIC_PASSWORD": "pw"}
            done.append(
                subprocess.run(
                    argv, stdin=reader, env=environment, capture_output=True, check=False
                ).returncode
            )

        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 20
        while not (there := prune.locks(session)):
            assert time.monotonic() < deadline
        with identity.only_one(repository.url, "test") as held:
            if identity.separate():
                assert prune.unlock(session, held) == []
            assert [one.id for one in prune.locks(session)] == [one.id for one in there]
        os.write(writer, b"end")
        os.close(writer)
        thread.join(30)
    assert done == [0]


def test_unlock_sees_no_process_of_this_machine(repository: AdminRepository) -> None:
    """restic sends SIGHUP to the process whose number stands in a lock of its host name, and keeps the lock when it

    lives; after a restart the number may be anybody's. Here it lives, and the lock goes all the same: restic could
    not see the process, so it could not signal it.
    """
    assert identity.separate(), "this machine gives no namespaces; the test needs one that does"
    reader, writer = os.pipe()
    with opened(repository) as session, identity.only_one(repository.url, "test") as held:
        process = subprocess.Popen(
            session.argv(["backup", "--stdin"], lock=True),
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=restic.environment(repository, session.folder),
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 20
            while not (there := prune.locks(session)):
                assert time.monotonic() < deadline
            assert [(one.host, one.pid) for one in there] == [(identity.host(), process.pid)]
            session.run(["unlock"], 60, lock=True)
            assert prune.locks(session), "seen from outside, the process lives"
            assert [one.pid for one in prune.unlock(session, held)] == [process.pid]
            assert prune.locks(session) == []
        finally:
            process.kill()
            process.wait()
            os.close(reader)
            os.close(writer)


def listed(snapshots: list[float], pruned: dict[str, float], strangers: int = 0) -> listing.Listing:
    raw = [
        {
            "id": f"{n:064x}",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when)),
            "tags": ["understudy", "group:g", "tier:t", "epoch:1", f"seq:{n + 1}", "service:a"],
        }
        for n, when in enumerate(snapshots)
    ]
    raw += [
        {"id": key, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when)), "tags": [listing.PRUNED]}
        for key, when in pruned.items()
    ]
    raw += [{"id": f"s{n}", "time": "2026-01-01T00:00:00Z"} for n in range(strangers)]
    return listing.read(json.loads(json.dumps(raw)))


DAY = 86400.0


@pytest.mark.parametrize(
    ("found", "there", "words"),
    [
        (listed([NOW - 3 * DAY], {}), [], []),
        (listed([NOW - 9 * DAY], {}), [], ["no prune ended well ever"]),
        (listed([NOW - 90 * DAY], {"p": NOW - 7 * DAY}), [], []),
        (listed([NOW - 90 * DAY], {"p": NOW - 9 * DAY, "q": NOW - 20 * DAY}), [], ["since 9 days"]),
        (listed([NOW], {"p": NOW + DAY}), [], ["dated in the future"]),
        (listed([NOW], {"p": NOW}, 2), [], ["2 snapshots of others"]),
        (listed([NOW], {"p": NOW}), [Lock("1", NOW - 60, True, "admin", 7)], []),
        (
            listed([NOW], {"p": NOW}),
            [Lock("1", NOW - 2400, True, "home", 7)],
            ["an exclusive lock of home (process 7, 40 min"],
        ),
    ],
)
def test_worries(found: listing.Listing, there: list[Lock], words: list[str]) -> None:
    told = prune.worries(found, there, NOW)
    assert len(told) == len(words)
    for sentence, word in zip(told, words, strict=True):
        assert word in sentence


def test_health_of_a_repository_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    gone = AdminRepository("usb", "critical", str(tmp_path / "gone"), "pw")
    assert len(prune.health(gone)) == 1 and "no repository" in prune.health(gone)[0]
