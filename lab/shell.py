"""Runs programs and turns their failures into one sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from understudy.errors import UnderstudyError


class LabError(UnderstudyError):
    """The practice world could not do what was asked. Exit code 1."""


Done = subprocess.CompletedProcess[str]


def run(argv: Sequence[str], *, stdin: str | bytes = b"", timeout: float = 600, check: bool = True) -> Done:
    """Runs a program and returns its output as text; `timeout` is in seconds.

    Raises LabError when it is missing, too slow, or (with `check`) fails.
    """
    try:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        raw = subprocess.run(argv, input=given, timeout=timeout, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise LabError(f"the program {argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{short(argv)}` did not finish within {timeout:.0f} s") from error
    done = Done(
        argv, raw.returncode, raw.stdout.decode(errors="replace"), raw.stderr.decode(errors="replace")
    )
    if check and done.returncode != 0:
        raise LabError(f"`{short(argv)}` failed: {reason(done)}")
    return done


def short(argv: Sequence[str]) -> str:
    """The first words of a command line, for messages."""
    text = " ".join(argv)
    return text if len(text) <= 100 else text[:97] + "..."


def reason(done: Done) -> str:
    """The last line a failed program said, or its exit status."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"
