"""When the night is in which services that cannot be copied alive are stopped for their backup."""

from __future__ import annotations

import re
import time

from ..errors import AgentError

__all__ = ["WINDOW", "night"]

WINDOW = "02:00-05:00"
_FORM = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")


def night(window: str, now: time.struct_time) -> str:
    """The date of the night's beginning when ``now`` (local) is inside the window, "" outside. A window may span midnight.

    Raises AgentError when the window is not HH:MM-HH:MM.
    """
    match = _FORM.fullmatch(window or WINDOW)
    if not match:
        raise AgentError(f"quiesce_window {window!r} is not HH:MM-HH:MM", "bad-request")
    start, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    minute = now.tm_hour * 60 + now.tm_min
    today = time.strftime("%Y-%m-%d", now)
    if start <= end:
        return today if start <= minute < end else ""
    if minute >= start:
        return today
    before = time.localtime(time.mktime((now.tm_year, now.tm_mon, now.tm_mday - 1, 12, 0, 0, 0, 0, -1)))
    return time.strftime("%Y-%m-%d", before) if minute < end else ""
