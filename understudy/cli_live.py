"""`understudy audit` and `understudy import`: the way in for a server that already runs."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .live import importing, judge, page, redact, show
from .live.reach import Reach

Where = Annotated[
    str, typer.Argument(metavar="USER@HOST", help="A host, a name of your ssh configuration, or @local.")
]
SshConfig = Annotated[str, typer.Option("--ssh-config", "-F", help="Another ssh configuration file.")]
NoSudo = Annotated[bool, typer.Option("--no-sudo", help="Only what this user can read by itself.")]
Json = Annotated[bool, typer.Option("--json", help="The same facts for machines.")]


def audit(
    where: Where,
    as_json: Json = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write one HTML file.")] = None,
    hide: Annotated[
        bool, typer.Option("--redact", help="Hide names of hosts and people, addresses, accounts.")
    ] = False,
    ssh_config: SshConfig = "",
    no_sudo: NoSudo = False,
) -> None:
    """What would be lost if this machine died now; reads only. Exit 1 when anything would."""
    reach = Reach(where, ssh_config, not no_sudo)
    census = reach.census({})
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    report = judge.judge(census, where, at)
    if hide:
        report = redact.report(report, census)
    if html:
        html.write_text(page.render(report), encoding="utf-8")
    if as_json:
        print(json.dumps(report.as_json()))
    else:
        show.show(Console(highlight=False), report)
    if report.would_lose:
        raise typer.Exit(1)


def import_host(
    where: Where,
    service: Annotated[
        str, typer.Option("--service", "-s", help="Take the live side of this one service.")
    ] = "",
    inventory: Annotated[
        str, typer.Option("--inventory", "-i", help="The pyinfra inventory file.")
    ] = "inventory/prod.py",
    pin: Annotated[
        bool, typer.Option("--pin", help="Write the digest that runs now behind floating tags.")
    ] = False,
    as_json: Json = False,
    ssh_config: SshConfig = "",
) -> None:
    """Take a running host into this project: its files as they are, its secrets, its place in the inventory.

    The host is only read. Run again it shows what differs; --service takes the host's side for one service.
    """
    reach = Reach(where, ssh_config)
    say = Console(stderr=True, highlight=False, soft_wrap=True)
    outcome = importing.Import(
        reach, Path.cwd(), inventory, service, pin, say=lambda line: say.print(line, markup=False)
    ).run()
    if as_json:
        print(json.dumps(dataclasses.asdict(outcome)))
    else:
        show.show_import(Console(highlight=False, soft_wrap=True), outcome)
    if outcome.left or outcome.unread:
        raise typer.Exit(1)
    if outcome.drifted:
        raise typer.Exit(4)
