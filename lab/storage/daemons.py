"""Programs of the lab that keep running after the command that started them has ended.

Each notes its own process id before it becomes the program, so that a killed `lab up` loses none. A note counts
only while that process still names the lab's folder: process ids are used again.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lab.shell import LabError

READY_SECONDS = 30
STOP_SECONDS = 5

# Arguments: fingerprint, note, program and its arguments.
START = 'printf "%s %s\\n" $$ "$1" >"$2.new" && mv "$2.new" "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True)
class Daemon:
    """A program in the background; `folder` (one lab's own) must be named in `argv`. `ready` says when it serves.

    Changing the command line or a file in `inputs` makes `ensure` start it anew.
    """

    name: str
    folder: Path
    argv: list[str]
    ready: Callable[[], bool]
    inputs: tuple[Path, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def note(self) -> Path:
        return self.folder / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256("\0".join(self.argv).encode())
        for path in self.inputs:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def ensure(self) -> bool:
        """Running and ready afterwards; returns whether it had to be started. LabError says why it could not."""
        running = noted(self.note)
        if running and running[1] == self.fingerprint:
            self.wait()
            return False
        stop(self.note)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            started = subprocess.Popen(
                ["sh", "-c", START, self.name, self.fingerprint, str(self.note), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self.wait(started)
        return True

    def wait(self, started: subprocess.Popen[bytes] | None = None) -> None:
        """Returns once it serves."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.ready():
            if started and started.poll() is not None:
                raise LabError(f"the lab's {self.name} stopped at once: {last_line(self.log)}")
            if time.monotonic() > deadline:
                raise LabError(f"the lab's {self.name} does not answer: see {self.log}")
            time.sleep(0.05)

    def running(self) -> bool:
        return noted(self.note) is not None


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


def noted(note: Path) -> tuple[int, str] | None:
    """Process id and fingerprint of the program the note is about, None when it has ended."""
    try:
        pid, fingerprint = note.read_text().split()
        command = Path("/proc", pid, "cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return (int(pid), fingerprint) if str(note.parent).encode() in command else None


def stop(note: Path) -> None:
    """Ends the program the note is about, in order if it can be, and forgets it."""
    running = noted(note)
    if running:
        signal_and_wait(running[0], note, signal.SIGTERM)
        if noted(note):
            signal_and_wait(running[0], note, signal.SIGKILL)
    note.unlink(missing_ok=True)


def signal_and_wait(pid: int, note: Path, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + STOP_SECONDS
    while noted(note) and time.monotonic() < deadline:
        time.sleep(0.02)


def kill(note: Path) -> None:
    """A power cut for one program: nothing is written out."""
    running = noted(note)
    if running:
        signal_and_wait(running[0], note, signal.SIGKILL)


def stop_all(folder: Path) -> None:
    """Ends every program noted in the folder."""
    for note in sorted(folder.glob("*.pid")):
        stop(note)
