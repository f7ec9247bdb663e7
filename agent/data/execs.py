"""Tells a program in a container that still works from one whose end Docker has lost.

An engine under load can lose the exit of a program that ``docker exec`` started, or never start it: the client then
waits for ever (containerd pull requests 9828 and 9999 tell how). Whether the program is there at all can be seen in this
host's /proc, where a mark in its environment names it. The mark also says until when it may begin: what has been given
up, and perhaps done once more, must not start after all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable

__all__ = ["DUE", "LOOK", "LOOKS", "VARIABLE", "Mark", "carried"]

VARIABLE = "UNDERSTUDY_EXEC"
LOOK = 5.0
"""Seconds between two looks; a program that ends sooner costs none."""
LOOKS = 12
"""Looks in a row that must find nothing. A client may be slow to write down what the program has said."""
BEGIN = 45
"""Seconds within which a program must begin, safely less than all looks take."""
DUE = f"""\
if [ -n "${{{VARIABLE}:-}}" ] && read -r up rest </proc/uptime && [ "${{up%.*}}" -gt "${{{VARIABLE}#*@}}" ]; then
  echo "Docker started this program too late" >&2; exit 75
fi
"""
"""What a marked shell script begins with; by the kernel's own count of seconds, which no change of the clock moves."""


class Mark:
    """One program, ``value`` is ID@SECONDS, and how often in a row it was not seen.

    ``pid_of_container``: of its first process; None: it is gone.
    """

    def __init__(self, pid_of_container: Callable[[], int | None]) -> None:
        self.value = f"{secrets.token_hex(8)}@{int(time.clock_gettime(time.CLOCK_BOOTTIME)) + BEGIN}"
        self._pid = pid_of_container
        self._seen = False
        self._missed = 0

    @property
    def argument(self) -> str:
        """NAME=VALUE for the program's environment."""
        return f"{VARIABLE}={self.value}"

    def lost(self) -> bool:
        """To be asked every ``LOOK`` seconds while the client waits: whether it waits in vain."""
        if carried(self.argument):
            self._seen, self._missed = True, 0
            return False
        self._missed += 1
        return self._missed >= LOOKS and (self._seen or self._would_be_seen())

    def _would_be_seen(self) -> bool:
        """Whether programs of that container show in our /proc at all: not so from inside another container."""
        pid = self._pid()
        return pid is None or os.path.exists(f"/proc/{pid}")


def carried(argument: str, proc: str = "/proc") -> bool:
    """Whether any process of this host has NAME=VALUE in the environment it was started with."""
    wanted = argument.encode()
    for name in filter(str.isdigit, os.listdir(proc)):
        with contextlib.suppress(OSError), open(f"{proc}/{name}/environ", "rb") as stream:
            if wanted in stream.read().split(b"\0"):
                return True
    return False
