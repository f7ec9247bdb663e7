"""The verbs. Each says first which inventory it works on; exit codes are those of design.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import (
    cli_data,
    cli_drill,
    cli_host,
    cli_init,
    cli_kit,
    cli_layout,
    cli_live,
    cli_replica,
    cli_repo,
    cli_schedule,
    cli_status,
    cli_switchover,
    cli_watch,
    firstline,
    runner,
    tables,
)
from . import retire as retiring
from .cli_edge import app as edge_app
from .cli_secrets import app as secrets_app
from .errors import UnderstudyError

app = typer.Typer(
    name="understudy",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Describe a self-hosted stack once; converge it, prove its backups, keep an understudy ready.",
)
app.add_typer(edge_app, name="edge", help="The way from the public names to the hosts.")
app.add_typer(secrets_app, name="secrets", help="Secrets of the services: SOPS files, one a service.")

Inventory = Annotated[str, typer.Option("--inventory", "-i", help="The pyinfra inventory file.")]
Json = Annotated[bool, typer.Option("--json", help="The same facts for machines.")]
Limit = Annotated[str, typer.Option("--limit", help="Only this host.")]
PROD = "inventory/prod.py"
console = Console(stderr=True)


def _announce(verb: str, inventory: str, as_json: bool = False, limit: str = "") -> None:
    if not as_json:
        console.print(firstline.line(verb, inventory, limit), highlight=False, soft_wrap=True)


def _flags(limit: str, *more: str) -> list[str]:
    return ["-y", *(["--limit", limit] if limit else []), *more]


@app.command()
def plan(
    inventory: Inventory = PROD,
    limit: Limit = "",
    as_json: Json = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 4 when changes are pending.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Data in no backup, or no repository for it, is an error.")
    ] = False,
) -> None:
    """What a converge would change; reads only."""
    _announce("plan", inventory, as_json, limit)
    result = runner.run(inventory, str(runner.DEPLOYS / "plan.py"), {}, _flags(limit), quiet=True)
    costs = cli_replica.add_costs(inventory, result.reports) if result.reports else []
    if as_json:
        print(json.dumps(result.reports))
    else:
        tables.show_plan(Console(), result.reports)
        tables.show_costs(Console(), costs)
    if result.exit_code:
        raise typer.Exit(result.exit_code)
    if any(report.get("refused") for report in result.reports):
        raise typer.Exit(3)
    if any(report.get("problems") for report in result.reports):
        raise typer.Exit(1)
    if strict and any(report.get("uncovered") or report.get("unmade") for report in result.reports):
        raise typer.Exit(1)
    if exit_code and any(report.get("count") for report in result.reports):
        raise typer.Exit(4)


@app.command()
def converge(
    inventory: Inventory = PROD,
    limit: Limit = "",
    as_json: Json = False,
    dry: Annotated[bool, typer.Option("--dry", help="Only show what would change.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show file differences, secrets masked.")] = False,
    overwrite: Annotated[
        str, typer.Option(help="Services whose changed files on the host may be replaced.")
    ] = "",
    fresh: Annotated[str, typer.Option(help="Services that may start empty.")] = "",
    allow_downgrade: Annotated[str, typer.Option(help="Services that may go back to an older version.")] = "",
) -> None:
    """Bring hosts to what the description says, and prove that every service answers."""
    _announce("converge", inventory, as_json, limit)
    flags = [*_flags(limit), *(["--diff"] if diff else [])]
    if dry:
        flags = [flag for flag in flags if flag != "-y"] + ["--dry"]
    data = {"overwrite": overwrite, "fresh": fresh, "downgrade": allow_downgrade}
    result = runner.run(inventory, "deploy.py", data, flags, quiet=as_json)
    if as_json:
        print(json.dumps(result.reports))
    elif not dry:
        tables.show_converge(Console(), result.reports)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


@app.command()
def update(
    service: str,
    inventory: Inventory = PROD,
    limit: Limit = "",
    as_json: Json = False,
) -> None:
    """Bring one service to its declared version: fresh snapshot, new version, back if it does not serve."""
    _announce("update", inventory, as_json, limit)
    result = runner.run(inventory, "deploy.py", {"only": service}, _flags(limit), quiet=as_json)
    if as_json:
        print(json.dumps(result.reports))
    else:
        tables.show_converge(Console(), result.reports)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


@app.command()
def retire(
    service: str,
    inventory: Inventory = PROD,
    limit: Limit = "",
    yes: Annotated[
        str, typer.Option("--yes", help="The service's name again, to go on without a question.")
    ] = "",
) -> None:
    """Take a service away: route, monitor, units and containers go, the data stays."""
    _announce("retire", inventory, limit=limit)
    if yes != service:
        _confirm(service)
    raise typer.Exit(retiring.retire(Path.cwd(), inventory, service, console, limit))


app.command()(cli_live.audit)
app.command("import")(cli_live.import_host)
app.command()(cli_init.init)
app.add_typer(cli_replica.app, name="replica", help="A replica at Hetzner on demand: up, down, list.")
app.command()(cli_data.backup)
app.command()(cli_data.restore)
app.command()(cli_drill.drill)
app.command()(cli_kit.kit)
app.command()(cli_data.jobs)
app.command()(cli_status.status)
app.command()(cli_switchover.switchover)
app.command()(cli_switchover.failover)
app.command()(cli_watch.watch)
app.command()(cli_repo.snapshots)
app.command()(cli_repo.mount)
app.add_typer(cli_host.app, name="host", help="One host: footprint, leave.")
cli_repo.app.command("schedule")(cli_schedule.schedule)
app.add_typer(
    cli_repo.app, name="repo", help="Repositories: init, check, prune, unhide, copy, tamper, schedule."
)


def _confirm(service: str) -> None:
    if not sys.stdin.isatty():
        console.print(
            f"[red]retire stops {service} for good: say --yes={service} to do this without a terminal[/red]"
        )
        raise typer.Exit(3)
    if (
        typer.prompt(
            f"This stops {service} and removes its containers; its data stays. Type the name of the service"
        )
        != service
    ):
        console.print("not the same name: nothing was done")
        raise typer.Exit(3)


def main() -> None:
    """The entry point: errors of ours are one sentence, never a traceback."""
    try:
        _add_lab()
        cli_layout.arrange(app)
        app()
    except UnderstudyError as error:
        console.print(f"[red]{error}[/red]", highlight=False, soft_wrap=True)
        raise SystemExit(error.exit_code) from None


def _add_lab() -> None:
    """The practice world exists only in a clone; an installed tool has no `lab` verb."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        from lab.cli import app as lab_app
        from lab.demo import demo
    except ModuleNotFoundError:
        return
    finally:
        sys.path.pop(0)
    app.add_typer(lab_app, name="lab", help="The practice world on this machine.")
    app.command(help="Converge the practice world before your eyes, every number counted.")(demo)


if __name__ == "__main__":
    main()
