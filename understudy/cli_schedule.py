"""`understudy repo schedule`: what needs the owner's keys, done by this machine's own timers."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .cli_data import PROD, Inventory
from .errors import BadInput
from .repository import schedule as schedules

VARIABLES = ("SOPS_AGE_KEY_FILE", "XDG_STATE_HOME", "PATH")


def schedule(
    inventory: Inventory = PROD,
    install: Annotated[
        bool, typer.Option("--install", help="Write the timers into your own systemd and start them.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the timers away again.")] = False,
    cron: Annotated[bool, typer.Option("--cron", help="Print lines for crontab -e instead.")] = False,
) -> None:
    """Check daily, prune weekly, tamper test monthly from this machine; without an option only shows the units."""
    if install + remove + cron > 1:
        raise BadInput("give one of --install, --remove, --cron")
    say = Console(stderr=True)
    if remove:
        gone = schedules.remove()
        say.print(f"{len(gone)} units removed" if gone else "no timer of ours was there", highlight=False)
        return
    where = place(inventory)
    if install:
        timers = schedules.install(where)
        say.print(f"started: {', '.join(timers)}", highlight=False)
        say.print(
            "they run while you are logged in; `loginctl enable-linger` makes them run always", style="dim"
        )
    elif cron:
        print("\n".join(schedules.cron(where)))
    else:
        for name, text in schedules.units(where).items():
            print(f"# {schedules.folder() / name}\n{text}")


def place(inventory: str) -> schedules.Place:
    """This project as a timer finds it. Raises BadInput when the inventory is not here."""
    if not Path(inventory).is_file():
        raise BadInput(f"{inventory} is not in {Path.cwd()}: run this in the project's folder")
    beside = Path(sys.executable).with_name("understudy")
    program = str(beside) if beside.exists() else shutil.which("understudy") or "understudy"
    # Names of files and folders only: a key itself never goes into a unit.
    variables = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    return schedules.Place(str(Path.cwd()), program, inventory, variables)
