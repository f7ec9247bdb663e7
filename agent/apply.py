"""Changes a host's files as one journaled transaction (protocol.md §9).

Request: {"release", "archive": base64 tar.gz, "context": [paths], "expect": {path: sha256 | "missing"},
"entries": [{"index", "path", "kind", "mode", "user", "group", "sha256", "target", "secret", "service",
"reaction"}],
"delete": [{"path", "sha256", "reaction"?}], "validators": [{"name", "argv", "timeout", "service"}],
"manifest": {"entries": {path: {"kind", "sha256", ...}}, ...}}.
Reply: {"changed": [paths], "deleted": [paths], "markers": {reaction: token}, "seconds"}.
An interrupted earlier run is finished or undone first; that makes the request outdated: error kind "stale".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import commit, lock, manifest, markers, originals, recover, space, stage, validate
from .disk import Disk
from .errors import AgentError, because
from .journal import Journal
from .plan import Plan, build
from .request import Request, parse
from .root import MANIFEST, STATE, Root
from .say import say

__all__ = ["run"]

Checkpoint = Callable[[str], None]


def run(
    values: dict[str, Any], root: Root, checkpoint: Checkpoint | None = None, chunk: int = 1 << 20
) -> dict[str, Any]:
    """The verb. ``checkpoint`` and ``chunk`` are for tests that kill this process everywhere."""
    started, request = time.monotonic(), parse(values)
    disk = Disk(root, checkpoint, chunk)
    with lock.exclusive(root, "apply", f"apply {request.release}", request.lock_wait, say):
        disk.private_dir(STATE)
        _recover_first(disk)
        plan = _transact(disk, request)
    return {
        "changed": plan.paths("mkdir", "meta", "put"),
        "deleted": plan.paths("delete"),
        "markers": markers.tokens(root),
        "seconds": round(time.monotonic() - started, 3),
    }


def _recover_first(disk: Disk) -> None:
    """A request made while a journal was open was compared with a half-done tree: it must be made anew."""
    closed = recover.recover(disk)
    if closed:
        sentence = f"an interrupted run ({closed['release']}) was {closed['outcome']} first"
        raise AgentError(f"{sentence}: compare again", "stale", recovered=closed)


def _transact(disk: Disk, request: Request) -> Plan:
    before = manifest.load(disk.root)
    plan = build(disk.root, request, before)
    if not plan.steps:
        return plan
    contents = {**stage.unpack(request), **_put_back(disk.root, plan, request)}
    _require_contents(plan, contents)
    space.check(disk.root, plan, contents, request.context)
    try:
        _validate(disk, request, contents)
        if build(disk.root, request, before).steps != plan.steps:
            raise AgentError(
                "files changed on the host while they were checked; nothing was changed", "stale"
            )
        originals.keep(disk, plan.steps, manifest.entries(request.manifest), before)
        _commit(disk, _journal(disk, request, plan), {**contents, MANIFEST: plan.manifest})
    except OSError as error:
        raise AgentError(f"{error.filename or STATE}: {because(error)}; nothing was changed", "io") from error
    finally:
        stage.sweep(disk)
    return plan


def _put_back(root: Root, plan: Plan, request: Request) -> dict[str, bytes]:
    """Content of the originals that come back where our own file goes."""
    known = originals.load(root) if request.delete else {}
    paths = [step.path for step in plan.steps if step.op == "put" and step.path in request.delete]
    return {path: originals.content(root, known[path]) for path in paths if known[path]["kind"] == "file"}


def _require_contents(plan: Plan, contents: dict[str, bytes]) -> None:
    for step in plan.steps:
        if (
            step.op == "put"
            and step.new.kind == "file"
            and step.path != MANIFEST
            and step.path not in contents
        ):
            raise AgentError(f"the archive lacks {step.path}; nothing was changed", "bad-request")


def _validate(disk: Disk, request: Request, contents: dict[str, bytes]) -> None:
    if request.validators:
        say(f"{len(request.validators)} checks on the staged files")
        validate.check(disk, request, stage.lay_out(disk, request, contents), contents)


def _journal(disk: Disk, request: Request, plan: Plan) -> Journal:
    due = {reaction for step in plan.steps for reaction in step.reactions} | set(request.reactions)
    since = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {time.monotonic_ns()}"
    added = sorted(due - set(markers.pending(disk.root)))
    return Journal(request.release, since, steps=plan.steps, reactions=sorted(due), added=added)


def _commit(disk: Disk, journal: Journal, contents: dict[str, bytes]) -> None:
    commit.save_previous(disk, journal)
    try:
        commit.prepare(disk, journal, contents)
        commit.forward(disk, journal, strict=True)
    except (OSError, AgentError) as error:
        say("something went wrong: putting every file back")
        recover.back(disk, journal)
        reason = error.sentence if isinstance(error, AgentError) else because(error)
        kind = error.kind if isinstance(error, AgentError) else "io"
        raise AgentError(f"{reason}; every file was put back", kind) from error
    say(f"{len(journal.steps) - 1} changes are in place")
