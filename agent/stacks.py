"""Runs the Compose commands of stacks, level by level.

Request: {"stacks": [{"service", "argv": [words] | [[words], ...], "timeout", "clears": [reactions] | {reaction:
token}}], "levels": [[service, ...], ...], "needs": {service: [services]}, "parallel": 3, "mask": [strings]}.
Reply: {"results": [{"service", "rc", "seconds", "tail": last lines, "skipped": reason | null}], "failed":
[services]} in level order. The stacks of a level run side by side; the next level starts when all have ended.
After a failure only what needs the failed service, directly or not, is skipped; without "needs" all that follows.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from . import lock, markers, process
from .disk import Disk
from .errors import AgentError
from .root import Root
from .say import say
from .validate import mask

__all__ = ["run"]

Stack = dict[str, Any]
Result = dict[str, Any]
_TIMEOUT = 600.0
_TAIL = 15


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb. One run per host at a time: two would start the same containers."""
    stacks = {stack["service"]: stack for stack in request.get("stacks") or []}
    levels = request.get("levels") or [list(stacks)]
    _check(stacks, levels)
    results: dict[str, Result] = {}
    pool = ThreadPoolExecutor(max(1, int(request.get("parallel") or 3)))
    with lock.exclusive(root, "stacks", "stacks", float(request.get("lock_wait", 120)), say), pool:
        for level in levels:
            names = [name for name in level if name in stacks]
            job = partial(_one, Disk(root), request, stacks, dict(results))
            results |= dict(zip(names, pool.map(job, names), strict=True))
    failed = [name for name, result in results.items() if result["rc"] != 0]
    return {"results": list(results.values()), "failed": failed}


def _check(stacks: dict[str, Stack], levels: list[list[str]]) -> None:
    placed = [name for level in levels for name in level]
    lost = sorted(set(stacks) - set(placed))
    if lost:
        raise AgentError(f"{lost[0]} is in no level", "bad-request")
    twice = sorted({name for name in placed if placed.count(name) > 1})
    if twice:
        raise AgentError(f"{twice[0]} is in two levels", "bad-request")


def _one(
    disk: Disk, request: dict[str, Any], stacks: dict[str, Stack], so_far: dict[str, Result], name: str
) -> Result:
    started, stack = time.monotonic(), stacks[name]
    reason = _blocked(request.get("needs"), so_far, name)
    if reason:
        say(f"{name}: skipped, {reason}")
        return {"service": name, "rc": None, "seconds": 0.0, "tail": [], "skipped": reason}
    say(f"{name}: starting")
    code, lines = _steps(stack, name, request.get("mask") or [])
    if code == 0:
        markers.clear(disk, stack.get("clears") or [])
    seconds = round(time.monotonic() - started, 2)
    say(f"{name}: {'up' if code == 0 else f'failed with status {code}'} after {seconds:.1f} s")
    return {"service": name, "rc": code, "seconds": seconds, "tail": lines[-_TAIL:], "skipped": None}


def _blocked(needs: dict[str, list[str]] | None, so_far: dict[str, Result], name: str) -> str | None:
    """Why a stack must not start: what it needs (without ``needs``: anything earlier) did not start."""
    bad = [other for other, result in so_far.items() if result["rc"] != 0]
    blocking = bad if needs is None else [other for other in bad if other in needs.get(name, [])]
    return f"it needs {blocking[0]}, which did not start" if blocking else None


def _steps(stack: Stack, name: str, hidden: list[str]) -> tuple[int, list[str]]:
    """Run the stack's commands one after the other until one fails; ``timeout`` covers all of them."""
    argv = stack["argv"]
    steps = [argv] if argv and isinstance(argv[0], str) else argv
    deadline = time.monotonic() + float(stack.get("timeout") or _TIMEOUT)
    lines: list[str] = []
    for step in steps:
        left = max(1.0, deadline - time.monotonic())
        ended = process.stream(step, left, lambda line: say(f"{name}: {mask(line, hidden)}"))
        lines += [mask(line, hidden) for line in ended.lines]
        if not ended.ok:
            return ended.code, lines
    return 0, lines
