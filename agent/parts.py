"""Reads independent facts at the same time; what fails says so and never looks like "nothing there"."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from .errors import AgentError

__all__ = ["Unreadable", "gather"]


class Unreadable(Exception):
    """A fact that exists but could not be read; the message says why."""


def gather(readers: Mapping[str, Callable[[], Any]], timeout: float) -> dict[str, Any]:
    """Each reader's value under its name, or {"unreadable": reason}. Takes at most ``timeout`` seconds.

    A reader that hangs (a dead network mount) is left behind in its thread and reported.
    """
    found: dict[str, Any] = {}
    threads = {name: _start(name, reader, found) for name, reader in readers.items()}
    deadline = time.monotonic() + timeout
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    late = {"unreadable": f"no answer within {timeout:g} s"}
    return {name: found.get(name, late) for name in readers}


def _start(name: str, reader: Callable[[], Any], found: dict[str, Any]) -> threading.Thread:
    thread = threading.Thread(target=lambda: found.update({name: _read(reader)}), name=name, daemon=True)
    thread.start()
    return thread


def _read(reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except Unreadable as error:
        return {"unreadable": str(error)}
    except AgentError as error:
        return {"unreadable": error.sentence}
    except Exception as error:
        return {"unreadable": f"{type(error).__name__}: {error}"}
