"""Run one program with a time limit, a fixed environment and no terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

__all__ = ["Finished", "end_running", "run", "started", "stream"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GRACE = 5.0
_started: list[str] = []
_RUNNING: set[subprocess.Popen[str]] = set()


@dataclass
class Finished:
    """A program that ended. ``code`` is its exit status, 127 = could not be started, 124 = time was up.

    ``lost``: it was given up, as it waited for something that will not come.
    """

    code: int
    out: str = ""
    err: str = ""
    lines: list[str] = field(default_factory=list)
    lost: bool = False

    @property
    def ok(self) -> bool:
        return self.code == 0

    def why(self, count: int = 3) -> str:
        """Its last words, for a sentence."""
        words = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return " / ".join(words[-count:]) or f"exit status {self.code}"


def started() -> int:
    """How many programs this process has started so far."""
    return len(_started)


def _environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    # HOME: the docker CLI finds its plugins and registry logins there. Nothing else of the login leaks in,
    # or Compose would interpolate it.
    keep = {
        name: os.environ[name] for name in ("HOME", "DOCKER_HOST", "XDG_RUNTIME_DIR") if name in os.environ
    }
    return {
        "HOME": "/root",
        **keep,
        "PATH": os.environ.get("PATH") or _PATH,
        "LC_ALL": "C.UTF-8",
        **(more or {}),
    }


def _start(
    argv: Sequence[str],
    cwd: str | None,
    merge: bool,
    env: Mapping[str, str] | None = None,
    feed: IO[bytes] | None = None,
    into: IO[bytes] | None = None,
) -> subprocess.Popen[str]:
    _started.append(argv[0])
    return subprocess.Popen(
        list(argv),
        stdin=feed or subprocess.DEVNULL,
        stdout=into or subprocess.PIPE,
        stderr=subprocess.STDOUT if merge else subprocess.PIPE,
        cwd=cwd,
        env=_environment(env),
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[str]) -> None:
    """End the whole process group: gently, then surely (a child that ignores the first holds our pipe open)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(
    argv: Sequence[str],
    timeout: float,
    cwd: str | None = None,
    *,
    env: Mapping[str, str] | None = None,
    feed: IO[bytes] | None = None,
    into: IO[bytes] | None = None,
    lost: Callable[[], bool] | None = None,
    every: float = 5.0,
) -> Finished:
    """Run to the end and keep both outputs apart.

    ``env`` is added to the fixed environment (never a secret); ``feed`` is its standard input and ``into`` takes
    its standard output, both open files (then ``out`` is empty). ``lost`` is asked ``every`` so many seconds whether it
    waits in vain.
    """
    try:
        process = _start(argv, cwd, False, env, feed, into)
    except OSError as error:
        return Finished(127, err=f"{argv[0]}: {error.strerror}")
    _RUNNING.add(process)
    try:
        return _to_the_end(process, argv[0], timeout, lost, every)
    finally:
        _RUNNING.discard(process)


def _to_the_end(
    process: subprocess.Popen[str], name: str, timeout: float, lost: Callable[[], bool] | None, every: float
) -> Finished:
    until = time.monotonic() + timeout
    while True:
        left = max(0.0, until - time.monotonic())
        try:
            out, err = process.communicate(timeout=min(every, left) if lost else left)
            return Finished(process.returncode, out or "", err or "")
        except subprocess.TimeoutExpired:
            if time.monotonic() >= until:
                _kill(process)
                return Finished(124, err=f"{name} took longer than {timeout:g} s and was stopped")
            if lost and lost():
                _kill(process)
                return Finished(124, err=f"{name} waited in vain and was stopped", lost=True)


def end_running() -> None:
    """Ask every program that ``run`` waits for, in any thread, to end."""
    for process in list(_RUNNING):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def stream(
    argv: Sequence[str],
    timeout: float,
    heard: Callable[[str], None],
    cwd: str | None = None,
    *,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run to the end, both outputs as one, each line passed to ``heard`` as it comes."""
    try:
        process = _start(argv, cwd, True, env)
    except OSError as error:
        return Finished(127, lines=[f"{argv[0]}: {error.strerror}"])
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(timeout, stop)
    timer.daemon = True
    timer.start()
    lines = _drain(process, heard)
    process.wait()
    timer.cancel()
    if late.is_set():
        return Finished(124, lines=[*lines, f"{argv[0]} took longer than {timeout:g} s and was stopped"])
    return Finished(process.returncode, lines=lines)


def _drain(process: subprocess.Popen[str], heard: Callable[[str], None]) -> list[str]:
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip())
        heard(lines[-1])
    return lines
