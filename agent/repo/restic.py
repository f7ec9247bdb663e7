"""The seam to restic: start it, read its JSON, turn each way it ends into one sentence."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from .. import process
from ..errors import AgentError
from . import lock_name, watch

__all__ = ["KINDS", "Repo", "ResticError", "Result", "calls", "program", "run"]

OWN = "/usr/lib/understudy/restic"
OLDEST = (0, 17)
KINDS = {
    3: "incomplete",
    10: "no-repository",
    11: "locked",
    12: "password",
    124: "interrupted",
    130: "interrupted",
}
_PROGRESS = ("status", "verbose_status", "node")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GRACE = 10.0
_MOST = 500
calls: list[str] = []
"""The commands that this process has given to restic, for those who must say how many."""


@dataclass(frozen=True)
class Repo:
    """A restic repository that is ready to be asked; made by agent/repo/repository.py.

    ``options`` stand after the program in every call. ``where`` is the address without secrets, ``secrets`` what
    must not appear in any output. ``key`` names it in the agent's state: of rotating disks each has its own.
    ``source`` are the repository file and the password file, for calls in which it is the one copied from.
    ``patience``: seconds without an answer of the store after which a run is ended; 0 for no such end.
    """

    name: str
    group: str
    program: str
    options: tuple[str, ...]
    env: dict[str, str]
    where: str
    key: str
    secrets: tuple[str, ...] = ()
    source: tuple[str, str] = ("", "")
    patience: float = 120.0

    @property
    def title(self) -> str:
        """How sentences call it."""
        return f"{self.name}/{self.group}"


@dataclass
class Result:
    """A call that ended. ``summary`` is its summary message ({} without one); ``messages`` all others but progress;

    ``lines`` what was no message (lists of snapshots); ``errors`` what went wrong with single items:
    {"item", "message"}; ``err`` its standard error without secrets.
    """

    code: int
    summary: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    lines: list[Any] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    err: str = ""


class ResticError(AgentError):
    """restic did not do it all; ``result`` is what it said. ``kind`` is one of KINDS' values, or failed."""

    def __init__(self, sentence: str, kind: str, result: Result) -> None:
        super().__init__(sentence, kind)
        self.result = result


def program(named: str = "", own: str = OWN, memo: str = "") -> str:
    """The restic to use: the plan's, else our own pinned one, else the one on PATH. Raises AgentError when too old.

    ``memo`` is a file (real path) that remembers the version of a program until the program changes.
    """
    found = named or (own if os.access(own, os.X_OK) else "") or shutil.which("restic") or ""
    if not found:
        raise AgentError(
            "restic is not installed on this host: converge it with the backup part on", "no-restic"
        )
    version = _remembered(found, memo) if memo else _version(found)
    if version < OLDEST:
        said = ".".join(map(str, version)) or "no version"
        raise AgentError(f"{found} is restic {said}; at least {OLDEST[0]}.{OLDEST[1]} is needed", "no-restic")
    return found


def _remembered(found: str, memo: str) -> tuple[int, ...]:
    try:
        info = os.stat(found)
    except OSError:
        return _version(found)
    now = f"{found} {info.st_ino} {info.st_size} {info.st_mtime_ns} "
    with contextlib.suppress(OSError, ValueError), open(memo, encoding="utf-8") as stream:
        said = stream.read()
        if said.startswith(now):
            return tuple(int(word) for word in said.removeprefix(now).split("."))
    version = _version(found)
    temp = f"{memo}.{os.getpid()}"
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temp, flags, 0o600), "w", encoding="utf-8") as stream:
            stream.write(now + ".".join(map(str, version)))
        os.replace(temp, memo)
    return version


@functools.lru_cache(maxsize=8)
def _version(found: str) -> tuple[int, ...]:
    ended = process.run([found, "version"], 30)
    match = re.search(r"restic (\d+)\.(\d+)", ended.out)
    if not ended.ok or not match:
        raise AgentError(f"{found} does not run: {ended.why(1)}", "no-restic")
    return int(match[1]), int(match[2])


def run(
    repo: Repo,
    argv: Sequence[str],
    timeout: float,
    on_message: Callable[[dict[str, Any]], None] | None = None,
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    lock_as: str = "",
    alone: bool = False,
) -> Result:
    """One call of restic; ``on_message`` hears every message as it comes, progress and items too.

    ``lock_as``: the host name in its lock, and ``alone``: it sees no other process (agent/repo/lock_name.py).
    Raises ResticError unless it ends with 0: any unknown exit status is a failure.
    """
    calls.append(argv[0])
    try:
        child = _start(
            repo,
            [*(lock_name.wrapper(lock_as, alone) if lock_as else []), repo.program, *repo.options, *argv],
            cwd,
            env or {},
        )
    except OSError as error:
        raise AgentError(f"{repo.program} cannot be started: {error.strerror}", "no-restic") from error
    result = Result(0)
    with watch.watching(repo, lambda: _end(child)) as watched:
        late = _listen(child, result, timeout, on_message, watched.heard)
    if watched.gone:
        raise ResticError(_redacted(repo, watched.gone), "unreachable", result)
    result.code = 124 if late else 130 if child.returncode < 0 else child.returncode
    result.err = _redacted(repo, result.err)
    if result.code != 0:
        kind = KINDS.get(result.code, "failed")
        raise ResticError(_sentence(repo, argv[0], kind, result, timeout if late else 0), kind, result)
    return result


def _start(
    repo: Repo, command: Sequence[str], cwd: str | None, env: Mapping[str, str]
) -> subprocess.Popen[str]:
    # Should the agent be killed, restic must not go on alone: it would hold a lock and the private mounts.
    leash = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    known = {name: os.environ[name] for name in ("HOME", "PATH") if os.environ.get(name)}
    return subprocess.Popen(
        [*leash, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={"HOME": "/root", "PATH": _PATH, **known, "LC_ALL": "C.UTF-8", **repo.env, **env},
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def _listen(
    child: subprocess.Popen[str],
    result: Result,
    timeout: float,
    heard: Callable[[dict[str, Any]], None] | None,
    complained: Callable[[str], None],
) -> bool:
    """Read both outputs to their end. Returns whether time was up."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        _end(child)

    timer = threading.Timer(max(timeout, 0.1), stop)
    timer.daemon = True
    assert child.stdout is not None and child.stderr is not None
    complaints: list[str] = []
    aside = threading.Thread(target=_collect, args=(child.stderr, complaints, complained), daemon=True)
    timer.start()
    aside.start()
    try:
        for line in child.stdout:
            _take(line, result, heard)
        child.wait()
        aside.join(_GRACE)
    finally:
        timer.cancel()
        timer.join(_GRACE)
        if child.poll() is None:
            _end(child)
    result.err = "\n".join(_plain(line, result) for line in complaints)
    return late.is_set()


def _collect(stream: IO[str], lines: list[str], complained: Callable[[str], None]) -> None:
    for line in stream:
        complained(line)
        lines.append(line.rstrip())
        if len(lines) > _MOST:
            del lines[_MOST // 2]


def _take(line: str, result: Result, heard: Callable[[dict[str, Any]], None] | None) -> None:
    text = line.strip()
    try:
        value = json.loads(text)
    except ValueError:
        if text:
            result.lines.append(text)
        return
    if not isinstance(value, dict) or "message_type" not in value:
        result.lines.append(value)
        return
    if heard:
        heard(value)
    kind = value["message_type"]
    if kind == "summary":
        result.summary = value
    elif kind not in _PROGRESS:
        result.messages.append(value)


def _plain(line: str, result: Result) -> str:
    """A line of standard error as text; errors about single items are noted."""
    try:
        value = json.loads(line)
    except ValueError:
        return line
    if not isinstance(value, dict):
        return line
    error = value.get("error")
    text = str(value.get("message") or (error.get("message") if isinstance(error, dict) else error) or line)
    if value.get("message_type") == "error":
        result.errors.append({"item": str(value.get("item") or ""), "message": text})
    return text.strip()


def _end(child: subprocess.Popen[str]) -> None:
    """Gently first: restic then takes its lock with it."""
    for number in _signals():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
            return


def _signals() -> Iterator[signal.Signals]:
    yield signal.SIGTERM
    yield signal.SIGKILL


def _redacted(repo: Repo, text: str) -> str:
    for secret in repo.secrets:
        text = text.replace(secret, "***")
    return text


def _sentence(repo: Repo, verb: str, kind: str, result: Result, late: float) -> str:
    words = [line.strip() for line in result.err.splitlines() if line.strip()]
    said = words[-1] if words else f"exit status {result.code}"
    if late:
        return f"restic {verb} on {repo.title} took longer than {late:.0f} s and was stopped"
    if kind == "no-repository":
        return (
            f"there is no repository {repo.title} at {repo.where}: if it never was, `understudy repo init` makes it;"
            " if it held snapshots, find out who removed it first"
        )
    if kind == "locked":
        return f"{repo.title} is locked by another run: {said}"
    if kind == "password":
        return f"the password of repository {repo.name} does not open {repo.where}"
    if kind == "incomplete":
        first = result.errors[0] if result.errors else {"item": "", "message": said}
        return f"restic {verb} on {repo.title} could not read everything: {first['item']} {first['message']}".rstrip()
    said = said.removeprefix("Fatal: ")
    if result.errors:
        # "There were 28 errors" says nothing; the first of them mostly says it all.
        said = f"{result.errors[0]['item']} {result.errors[0]['message'][:300]} ({said})".strip()
    return f"restic {verb} on {repo.title} failed: {said}"
