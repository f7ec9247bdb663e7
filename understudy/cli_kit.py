"""`understudy kit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import kit as kits
from .cli_data import PROD, Inventory, announce
from .errors import BadInput

console = Console(stderr=True, highlight=False, soft_wrap=True)


def kit(
    inventory: Inventory = PROD,
    out: Annotated[Path | None, typer.Option("--out", help="Into this new file (0600).")] = None,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="With the repositories' passwords and keys; needs --out.")
    ] = False,
) -> None:
    """The page you need when everything else is gone: repositories, where keys are, commands. For printing."""
    announce("kit", inventory, "", False)
    if with_secrets and out is None:
        raise BadInput("--with-secrets goes to a file of your own only: say --out FILE")
    text = kits.page(inventory, with_secrets)
    if out is None:
        print(text)
        return
    kits.write_private(out, text)
    console.print(f"{out}: written, readable by you alone" + ("; it holds secrets" if with_secrets else ""))
