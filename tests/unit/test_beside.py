"""Work side by side: bounded, complete, and over when its caller is told to end."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from understudy.agent import backup, process
from understudy.agent.data.beside import Later, each
from understudy.agent.disk import Disk
from understudy.agent.root import STATE, Root


def test_all_of_it_is_done_and_never_more_than_the_limit_at_once() -> None:
    running, most, done = [0], [0], []
    lock = threading.Lock()

    def work(number: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)
        with lock:
            running[0] -= 1
            done.append(number)

    each([partial(work, n) for n in range(9)], 3)
    assert sorted(done) == list(range(9)) and most[0] == 3


def test_what_a_piece_raises_comes_out_when_the_others_have_ended() -> None:
    done = []

    def slow() -> None:
        time.sleep(0.1)
        done.append("slow")

    def bad() -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        each([bad, slow], 2)
    assert done == ["slow"]


def test_a_signal_ends_the_programs_of_the_pieces_and_begins_no_other() -> None:
    ended: list[process.Finished] = []
    pieces = [lambda: ended.append(process.run(["sleep", "60"], 120)) for _ in range(3)]

    def when_two_run() -> None:
        while len(process._RUNNING) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    begun = time.monotonic()
    threading.Thread(target=when_two_run, daemon=True).start()
    with pytest.raises(backup.Stopped), backup.stoppable():
        each(pieces, 2)
    assert time.monotonic() - begun < 30
    assert [finished.code for finished in ended] == [-signal.SIGTERM] * 2


def test_a_value_asked_for_later_is_there_or_its_error_is() -> None:
    assert Later(lambda: 7).value() == 7
    failed = Later(lambda: 1 // 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failed.value()


def test_a_private_folder_may_be_made_from_several_threads_at_once(tmp_path: Path) -> None:
    disk = Disk(Root(str(tmp_path)))
    for number in range(60):
        folder = f"{STATE}/{number}/shared"
        each([partial(disk.private_dir, f"{folder}/{name}") for name in "abcd"], 4)
        assert sorted(os.listdir(disk.root.at(folder))) == list("abcd")
