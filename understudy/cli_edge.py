"""`understudy edge`: how the owner's zone behaves, measured with a canary."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from . import project
from .settings import settings_of
from .traffic.canary import Canary
from .traffic.edge import open_edge

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)
console = Console(stderr=True, highlight=False, soft_wrap=True)


@app.callback()
def about() -> None:
    """The way from the public names to the hosts."""


@app.command()
def check(
    inventory: Annotated[str, typer.Option("--inventory", "-i", help="The pyinfra inventory file.")] = (
        "inventory/prod.py"
    ),
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=20, help="How often each change is made.")
    ] = 3,
) -> None:
    """Prove the conditional batch on your zone, and measure how fast changes arrive; leaves nothing behind."""
    console.print(f"[bold]edge check[/bold]  inventory {inventory}")
    hosts = project.hosts(inventory)
    edge = open_edge(hosts)
    name, data = hosts[0]
    settings = settings_of(name, data)
    chosen = settings.ownership
    canary = Canary(
        edge,
        tuple(chosen.resolvers),
        settings.cloudflare.cacert or chosen.cacert,
        settings.cloudflare.front_url,
        lambda line: console.print(f"  {line}", markup=False),
    )
    for line in canary.run(rounds).lines():
        print(line)
