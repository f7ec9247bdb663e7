"""Independent work at the same time: a bounded number of pieces, or one value that is asked for later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .. import process

__all__ = ["Later", "each"]

_LEAVE = 10.0
_Value = TypeVar("_Value")


class Later(Generic[_Value]):
    """What ``work`` returns, begun now and asked for when it is needed."""

    def __init__(self, work: Callable[[], _Value]) -> None:
        self._work = work
        self._found: list[_Value] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as error:
            self._error = error

    def value(self) -> _Value:
        """Wait for it. Raises what the work raised, each time it is asked."""
        self._thread.join()
        if self._error:
            raise self._error
        return self._found[0]


def each(works: Sequence[Callable[[], None]], most: int) -> None:
    """Do all of it, at most ``most`` pieces at once; what one raises comes out when every piece has ended.

    A signal that ends the caller ends the programs that the pieces are running, and begins no further piece.
    """
    if min(len(works), most) <= 1:
        for work in works:
            work()
        return
    waiting = list(works)
    errors: list[BaseException] = []
    threads = [
        threading.Thread(target=_pull, args=(waiting, errors), daemon=True)
        for _ in range(min(len(works), most))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        waiting.clear()
        _ended(threads)
        raise
    if errors:
        raise errors[0]


def _pull(waiting: list[Callable[[], None]], errors: list[BaseException]) -> None:
    while True:
        try:
            work = waiting.pop(0)
        except IndexError:  # all of it is taken
            return
        try:
            work()
        except BaseException as error:
            errors.append(error)


def _ended(threads: Sequence[threading.Thread]) -> None:
    """No thread may touch anything after its caller has cleaned up, so their programs end and they are waited for."""
    until = time.monotonic() + _LEAVE
    while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
        process.end_running()
        time.sleep(0.05)
