"""When the control machine does what needs the owner's keys: timers of the user's own systemd, or lines for cron.

Pure but for :func:`install` and :func:`remove`. Nothing secret stands in a unit; keys are found as when typed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UnderstudyError

__all__ = ["DUTIES", "Duty", "Place", "cron", "folder", "install", "remove", "units"]

_TIMEOUT = 60


@dataclass(frozen=True)
class Duty:
    """One verb of ``understudy repo`` and when it runs: ``calendar`` for systemd, ``cron`` for cron (local time)."""

    verb: str
    calendar: str
    cron: str


DUTIES = (
    Duty("check", "*-*-* 07:10", "10 7 * * *"),
    Duty("prune", "Sun *-*-* 08:10", "10 8 * * 0"),
    Duty("tamper", "*-*-01 09:10", "10 9 1 * *"),
)


@dataclass(frozen=True)
class Place:
    """Where the verbs run: the project's folder, the program, the inventory; ``variables`` are names of files."""

    project: str
    program: str
    inventory: str
    variables: Mapping[str, str]


def _argv(place: Place, duty: Duty) -> list[str]:
    return [place.program, "repo", duty.verb, "--inventory", place.inventory]


def _quoted(argv: Sequence[str]) -> str:
    # systemd takes % for a specifier and $ for a variable, also inside quotes.
    return " ".join(shlex.quote(word).replace("%", "%%").replace("$", "$$") for word in argv)


def units(place: Place) -> dict[str, str]:
    """File name to text: a service and a timer for each duty. A missed time is made up for when the machine is on."""
    found = {}
    for duty in DUTIES:
        name = f"understudy-repo-{duty.verb}"
        variables = "".join(
            f'Environment="{key}={value.replace("%", "%%")}"\n' for key, value in place.variables.items()
        )
        found[f"{name}.service"] = (
            f"[Unit]\nDescription=Understudy: repo {duty.verb} for {place.project.replace('%', '%%')}\n\n"
            f"[Service]\nType=oneshot\nWorkingDirectory={place.project.replace('%', '%%')}\n{variables}"
            f"ExecStart={_quoted(_argv(place, duty))}\nTimeoutStartSec=6h\n"
        )
        found[f"{name}.timer"] = (
            f"[Unit]\nDescription=Understudy: repo {duty.verb}\n\n"
            f"[Timer]\nOnCalendar={duty.calendar}\nRandomizedDelaySec=10min\nPersistent=true\n\n"
            "[Install]\nWantedBy=timers.target\n"
        )
    return found


def cron(place: Place) -> list[str]:
    """The same as lines of a crontab, for machines without systemd. cron mails what fails."""
    variables = [f"{key}={shlex.quote(value)}" for key, value in place.variables.items()]
    lines = []
    for duty in DUTIES:
        words = " ".join([*variables, shlex.join(_argv(place, duty))])
        command = f"cd {shlex.quote(place.project)} && {words} >/dev/null".replace("%", "\\%")
        lines.append(f"{duty.cron} {command}")
    return lines


def folder() -> Path:
    """Where the user's own units lie."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd/user"


def install(place: Place) -> list[str]:
    """Write the units, start their timers. Returns the timers. Raises UnderstudyError; units that were written stay."""
    target, made = folder(), units(place)
    target.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        fresh = target / f".{name}.new"
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(target / name)
    timers = [name for name in made if name.endswith(".timer")]
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", *timers)
    return timers


def remove() -> list[str]:
    """Stop the timers and remove the units of ours. Returns the files that went."""
    names = [f"understudy-repo-{duty.verb}.{kind}" for duty in DUTIES for kind in ("timer", "service")]
    there = [name for name in names if (folder() / name).exists()]
    if timers := [name for name in there if name.endswith(".timer")]:
        _systemctl("disable", "--now", *timers)
    for name in there:
        (folder() / name).unlink()
    if there:
        _systemctl("daemon-reload")
    return there


def _systemctl(*words: str) -> None:
    if shutil.which("systemctl") is None:
        raise UnderstudyError(
            "there is no systemd on this machine: `understudy repo schedule --cron` prints lines for cron"
        )
    done = subprocess.run(
        ["systemctl", "--user", *words], capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise UnderstudyError(
            f"systemctl --user {words[0]}: {said}. Without a systemd of your own on this machine,"
            " `understudy repo schedule --cron` prints lines for cron"
        )
