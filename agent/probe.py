"""Asks services whether they really serve: status, content type, text and JSON values.

Request: {"probes": [{"name", "url", "host", "method", "headers", "body", "status": [ints], "text",
"json": {dotted.key: value}, "content_type", "timeout", "wait", "follow", "hop"}], "parallel": 8}.
Reply: {"results": [{"name", "ok", "status", "ms", "waited", "error", "hop"}]} in request order. ``url`` is
http(s)://ADDRESS:PORT/path, or tcp://ADDRESS:PORT for "something serves there", with "any": [further ones]. ``wait``: seconds to keep
retrying. ``ms`` is the last attempt, ``waited`` the seconds until the verdict.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .http_call import Answer, CallFailed, call, connects
from .judge import objection
from .root import Root

__all__ = ["run"]

Probe = dict[str, Any]
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    probes = list(request.get("probes") or [])
    with ThreadPoolExecutor(max(1, int(request.get("parallel") or 8))) as pool:
        return {"results": list(pool.map(_until_settled, probes))}


def _until_settled(probe: Probe) -> dict[str, Any]:
    """Retry until it is right or the time is up."""
    started, pause = time.monotonic(), _FIRST_PAUSE
    deadline = started + float(probe.get("wait") or 0)
    while True:
        result = _once(probe)
        left = deadline - time.monotonic()
        if result["ok"] or left <= 0:
            return {**result, "waited": round(time.monotonic() - started, 3)}
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _once(probe: Probe) -> dict[str, Any]:
    started = time.monotonic()
    answer, error = _attempt(probe)
    return {
        "name": probe.get("name"),
        "ok": error is None,
        "status": answer.status if answer else None,
        "ms": round((time.monotonic() - started) * 1000, 1),
        "error": error,
        "hop": probe.get("hop") or str(probe.get("url", "")).partition("://")[2].partition("/")[0],
    }


def _attempt(probe: Probe) -> tuple[Answer | None, str | None]:
    try:
        if str(probe["url"]).startswith("tcp://"):
            connects(probe)
            return None, None
        answer = call(probe)
    except CallFailed as error:
        return None, str(error)
    return answer, objection(probe, answer)
