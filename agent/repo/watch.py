"""Ends a restic run whose store has stopped answering or taking: restic itself goes on trying for a quarter of an hour

with the lock of the data held, and a store that accepts connections and says nothing could hold it until the tick's limit.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..errors import AgentError
from . import store

if TYPE_CHECKING:
    from .restic import Repo

__all__ = ["Watch", "watching"]

_ASK = 10.0
_RETRIED = re.compile(r"^(\w+\(<[^)]*\)) returned error, retrying after [^:]+: (.*)")
_DONE = re.compile(r"^(\w+\(<[^)]*\)) operation successful after")


class Watch:
    """What a watch found: ``gone`` is why the run was ended, "" for none."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.gone = ""
        self.silent = 0
        self.failing: dict[str, tuple[float, str]] = {}

    def heard(self, line: str) -> None:
        """A line of restic's standard error: what it tries again, since when and why."""
        if tried := _RETRIED.match(line):
            since = self.failing.get(tried[1], (time.monotonic(), ""))[0]
            self.failing[tried[1]] = (since, tried[2].strip())
        elif done := _DONE.match(line):
            self.failing.pop(done[1], None)

    def look(self, pause: float) -> bool:
        """Ask the store once; whether it is time to give up."""
        repo, patience = self.repo, self.repo.patience
        try:
            store.date(repo, min(_ASK, pause))
            self.silent = 0
        except AgentError as error:
            self.silent += 1
            if self.silent >= 3:
                self.gone = f"{error.sentence} (for {patience:.0f} s in the middle of a run, which was ended)"
        late = [why for since, why in list(self.failing.values()) if time.monotonic() - since > patience]
        if late and not self.gone:
            self.gone = (
                f"the store of {repo.title} answers but has refused the same thing for {patience:.0f} s, and the run was "
                f"ended: {late[0]}. Is it full, or its key restricted?"
            )
        return bool(self.gone)


@contextlib.contextmanager
def watching(repo: Repo, end: Callable[[], None]) -> Iterator[Watch]:
    """Inside, the store is asked now and then; ``end`` is called once when ``repo.patience`` seconds were in vain.

    Costs nothing in the first third of that time, so nothing in an ordinary tick.
    """
    watch, over = Watch(repo), threading.Event()
    if store.place(repo.where) is None or repo.patience <= 0:
        yield watch
        return
    thread = threading.Thread(target=_ask, args=(watch, over, end), daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()


def _ask(watch: Watch, over: threading.Event, end: Callable[[], None]) -> None:
    pause = watch.repo.patience / 3
    while not over.wait(pause):
        if watch.look(pause) and not over.is_set():
            end()
            return
