"""`understudy lab`: stage, look at, break and throw away the practice world."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lab import cleanup, hosts, staging
from lab.engine import stop_engine
from lab.progress import Progress
from lab.settings import DEFAULT_HOSTS, Settings, find_settings, refuse_cloud_credentials
from lab.ssh import ssh_command

app = typer.Typer(help="The practice world: real hosts on this machine.", no_args_is_help=True)
HostName = Annotated[str, typer.Argument(metavar="HOST", help="A host of the lab, such as lemongrab.")]


def settings_after_checks() -> Settings:
    refuse_cloud_credentials(dict(os.environ))
    return find_settings()


@app.command()
def up(
    names: Annotated[str, typer.Option("--hosts", help="Host names, separated by commas.")] = ",".join(
        DEFAULT_HOSTS
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="New machines, also where hosts are there.")] = False,
) -> None:
    """Stage the lab: engine, images, hosts. Does only what is missing."""
    progress = Progress()
    wanted = [name for name in names.split(",") if name]
    facts = staging.up(settings_after_checks(), wanted, progress, fresh=fresh)
    progress.say("lab", f"ready: {', '.join(facts.hosts)}", progress.total())


@app.command()
def down(
    everything: Annotated[
        bool, typer.Option("--all", help="Also images, prepared store, keys and our engine.")
    ] = False,
    engine: Annotated[
        bool, typer.Option("--engine", help="Also stop the engine, if the lab started it.")
    ] = False,
) -> None:
    """Throw the hosts and their disks away; images stay for the next time."""
    settings = settings_after_checks()
    progress = Progress()
    with staging.locked(settings):
        cleanup.remove_lab(settings, everything=everything)
        if engine:
            stop_engine(settings)
    progress.say("lab", "removed" if everything else "hosts removed", progress.total())


@app.command("list")
def list_hosts(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """Show the lab's hosts and whether they are on."""
    rows = host_rows(settings_after_checks())
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("host", "role", "address", "state")
    for row in rows:
        table.add_row(row["host"], row["role"], row["address"], row["state"])
    Console().print(table)


def host_rows(settings: Settings) -> list[dict[str, str]]:
    facts = staging.staged(settings)
    return [
        {"host": name, "role": host.role, "address": host.ip, "state": hosts.state_of(host.container)}
        for name, host in facts.hosts.items()
    ]


@app.command()
def shell(host: HostName) -> None:
    """Open a root shell on a host."""
    settings = settings_after_checks()
    _, found = staging.find_host(settings, host)
    command = ssh_command(settings, found.ip)
    os.execvp(command[0], command)  # noqa: S606 - argument list, no shell


@app.command()
def reset(host: Annotated[str, typer.Argument(metavar="[HOST]", help="Default: every host.")] = "") -> None:
    """Replace a host by a new machine: fresh disks, new host key, same address."""
    settings = settings_after_checks()
    progress = Progress()
    names = [host] if host else list(staging.staged(settings).hosts)
    for name in names:
        staging.find_host(settings, name)
    staging.up(settings, names, progress, fresh=True)
    progress.say("lab", f"fresh: {', '.join(names)}", progress.total())


@app.command()
def kill(host: HostName) -> None:
    """Cut a host's power."""
    settings = settings_after_checks()
    hosts.power_cut(staging.find_host(settings, host)[1].container)
    Progress().say(host, "power cut")


@app.command()
def start(host: HostName) -> None:
    """Switch a host on and wait until it has booted."""
    settings = settings_after_checks()
    progress = Progress()
    staging.switch_on(settings, staging.find_host(settings, host)[1])
    progress.say(host, "running", progress.total())
