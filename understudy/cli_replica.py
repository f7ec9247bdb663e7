"""`understudy replica up|down|list`: a replica at Hetzner on demand."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import project, runner, tables
from .errors import Refused
from .replica import down as downing
from .replica import listing
from .replica.costs import replica_costs, storage_costs
from .replica.inventory import Cloud, cloud_of
from .replica.price import Cost
from .replica.up import Request, existing, quote
from .replica.up import up as bring_up

app = typer.Typer(no_args_is_help=True)
console = Console(stderr=True)
PROD = "inventory/prod.py"
Inventory = Annotated[str, typer.Option("--inventory", "-i", help="The pyinfra inventory file.")]
Json = Annotated[bool, typer.Option("--json", help="The same facts for machines.")]


def _cloud(verb: str, inventory: str, as_json: bool, host: str = "") -> tuple[Cloud, set[str]]:
    """What the inventory says about Hetzner, and the names of all its hosts."""
    names = project.run_inventory(inventory)
    cloud = cloud_of(names, inventory)
    if not as_json:
        console.print(
            f"[bold]replica {verb}[/bold]  inventory {inventory}, stack {cloud.stack}: {host or cloud.wish().name} (replica)",
            highlight=False,
        )
    return cloud, {name for name, _ in project.hosts_of(names)}


def _heard(line: str) -> None:
    console.print(f"  {line}", highlight=False, soft_wrap=True)


@app.command()
def up(
    inventory: Inventory = PROD,
    as_json: Json = False,
    server_type: Annotated[str, typer.Option("--type", help="This server type and no other.")] = "",
    location: Annotated[str, typer.Option("--location", help="This location and no other.")] = "",
    max_monthly: Annotated[float, typer.Option("--max-monthly", help="Ceiling, net EUR a month.")] = 0.0,
    dry: Annotated[bool, typer.Option("--dry", help="Only say what it would be and cost.")] = False,
    converge: Annotated[
        bool, typer.Option("--converge/--no-converge", help="Converge it afterwards.")
    ] = True,
) -> None:
    """Create or complete the replica, then converge it like any other host."""
    cloud, declared = _cloud("up", inventory, as_json)
    wish = cloud.wish(
        types=[server_type] if server_type else [],
        locations=[location] if location else [],
        max_monthly=max_monthly,
    )
    api = cloud.api()
    asked = Request(
        cloud.stack,
        wish,
        cloud.public_keys(),
        cloud.user,
        cloud.key_file,
        cloud.pins,
        _quiet if as_json else _heard,
    )
    server = existing(api, asked)
    if server is None and wish.name in declared:
        raise Refused(
            f"{inventory} already has a host named {wish.name} that is not at Hetzner: give the replica another name "
            "(hetzner.name)"
        )
    price = None if server else quote(api, wish)[1]
    if price and not as_json:
        _heard(price.sentence())
    if dry:
        _result(as_json, {"name": wish.name, "exists": server is not None, **_facts(price)})
        return
    begin = time.monotonic()
    made = bring_up(api, asked)
    facts: dict[str, Any] = {
        "name": made.name,
        "address": made.ip,
        "type": made.type,
        "location": made.location,
    }
    code = _converge(inventory, made.name, as_json, asked) if converge else 0
    facts |= {"phases": asked.phases.seconds, "seconds": round(time.monotonic() - begin, 2), **_facts(price)}
    _result(as_json, facts)
    if code:
        raise typer.Exit(code)


def _quiet(line: str) -> None:
    """Machines want the result alone."""


def _facts(price: Cost | None) -> dict[str, Any]:
    return {"cost": price.as_facts()} if price else {}


def _converge(inventory: str, name: str, as_json: bool, asked: Request) -> int:
    with asked.phases.timed("converge"):
        result = runner.run(inventory, "deploy.py", {}, ["-y", "--limit", name], quiet=as_json)
    if not as_json:
        tables.show_converge(Console(), result.reports)
    return result.exit_code


def _result(as_json: bool, facts: dict[str, Any]) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    phases = facts.get("phases") or {}
    if phases:
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in phases.items())
        console.print(
            f"[bold]{facts['name']}[/bold] {facts['type']} in {facts['location']} at {facts['address']}: "
            f"{facts['seconds']:.0f} s ({parts})",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def down(
    host: Annotated[str, typer.Argument(metavar="[HOST]", help="Default: the one in group_data.")] = "",
    inventory: Inventory = PROD,
    as_json: Json = False,
    yes: Annotated[str, typer.Option("--yes", help="The host's name, to go on without a question.")] = "",
    everything: Annotated[
        bool, typer.Option("--everything", help="Also its kept address and volume.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Also when it serves, or nobody can tell.")] = False,
) -> None:
    """Destroy a replica: the server with its disk, its firewall and key. Only what our labels mark."""
    cloud, _ = _cloud("down", inventory, as_json, host)
    name, api = host or cloud.wish().name, cloud.api()
    found = downing.belongings(api, cloud.stack, name)
    downing.require_something(found, api, cloud.stack, name)
    reason = "" if force else downing.serving(found.servers, cloud.user, cloud.key_file)
    if reason:
        raise Refused(f"{reason} (or `--force`)")
    if yes != name:
        _ask_for_name(name)
    stays = downing.down(api, found, everything, _quiet if as_json else _heard)
    if as_json:
        print(json.dumps({"name": name, "removed": True, "stays": stays}))
        return
    for sentence in stays:
        _heard(
            f"{sentence} stays and is charged for: `understudy replica down {name} --everything` removes it"
        )
    console.print(f"{name} is gone", highlight=False)


def _ask_for_name(name: str) -> None:
    if not sys.stdin.isatty():
        raise Refused(f"`replica down` destroys {name} and needs a terminal, or --yes={name}")
    if input(f"This destroys the server {name} and its disk. Type its name to go on: ").strip() != name:
        raise Refused(f"that is not {name}: nothing was done")


@app.command("list")
def list_replicas(inventory: Inventory = PROD, as_json: Json = False) -> None:
    """Replicas at Hetzner: state, age, cost."""
    cloud, _ = _cloud("list", inventory, as_json)
    rows = listing.rows(cloud.api(), cloud.stack)
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(
        "name", "state", "type", "where", "address", "age", "EUR/month", "EUR/h", "so far", box=None
    )
    for row in rows:
        money = [
            _money(row[key], digits)
            for key, digits in (("monthly_net", 2), ("hourly_net", 4), ("so_far_net", 2))
        ]
        where = [str(row[key]) for key in ("name", "state", "type", "location", "address")]
        table.add_row(*where, listing.age(row["age_seconds"]), *money)
    Console().print(table)
    console.print(f"{len(rows)} at Hetzner, prices net", highlight=False)


def _money(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def add_costs(inventory: str, reports: list[dict[str, Any]]) -> list[str]:
    """For `plan`: what each replica costs goes into its report, what people read is returned."""
    names = project.run_inventory(inventory)
    lines = storage_costs(project.hosts_of(names))
    clouds = [value for value in names.values() if isinstance(value, Cloud)]
    for cloud in clouds:
        costs, sentences = replica_costs(cloud)
        lines = [*sentences, *lines]
        for report in reports:
            if report["host"] in costs:
                report["cost"] = costs[report["host"]]
    return lines
