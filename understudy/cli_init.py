"""`understudy init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import scaffold

console = Console(highlight=False, soft_wrap=True)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    host: Annotated[str, typer.Option("--host", help="The first host, as ssh takes it.")] = "root@server",
    domain: Annotated[str, typer.Option("--domain", help="The domain of your services.")] = "example.org",
) -> None:
    """Write a project of your own: inventory, group data, services, secrets; contacts no host."""
    said = scaffold.write(folder, scaffold.Start.of(host, domain))
    for line in said[len(scaffold.FILES) :]:
        console.print(line, markup=False)
    console.print(
        f"{folder}: {len(scaffold.FILES)} files. Next: cd {folder} && make bootstrap && make help",
        markup=False,
    )
