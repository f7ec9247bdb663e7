"""`understudy host`: what of a host is ours, and leaving it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from . import runner
from .cli_data import Inventory, Json, announce, answered, ask, confirm_host, finish
from .errors import BadInput

PROD = "inventory/prod.py"
app = typer.Typer(help="One host: what is ours on it, its guard, and leaving it.", no_args_is_help=True)
HostName = Annotated[str, typer.Argument(metavar="HOST", help="A host of the inventory.")]
Item = Mapping[str, str]
# What happens to each thing, in the words of the table; "keep" needs its reason beside it.
FATES = {
    "remove": "goes",
    "restore": "what was there comes back",
    "disable": "is switched off",
    "keep": "stays",
}


@app.command()
def footprint(host: HostName, inventory: Inventory = PROD, as_json: Json = False) -> None:
    """Everything on a host that is there because of us, read from the host; changes nothing."""
    announce("host footprint", inventory, host, as_json)
    result = _ask({"packages": True, "dumps": True}, inventory, host, reads=True)
    if as_json:
        print(json.dumps(result.reports))
    for report in answered(result):
        if not as_json:
            _show(Console(), report["reply"]["items"])
    finish(result)


@app.command()
def guard(
    host: HostName,
    action: Annotated[str, typer.Argument(help="look, off or on.")] = "look",
    inventory: Inventory = PROD,
    yes: Annotated[str, typer.Option("--yes", help="The host's name, to go on without a question.")] = "",
    as_json: Json = False,
) -> None:
    """Look at who owns the groups now; or switch the host's guard off and on (at the console: docs/replica.md)."""
    announce(f"host guard {action}", inventory, host, as_json)
    if action not in ("look", "off", "on"):
        raise BadInput(f"{action!r} is none of look, off and on")
    if action == "off":
        confirm_host(
            host, yes, f"Without its guard {host} starts everything, also what another host serves now"
        )
    result = ask("guard", {"words": [] if action == "look" else [action]}, inventory, host, quiet=as_json)
    if as_json:
        print(json.dumps(result.reports))
    for report in answered(result) if not as_json else []:
        Console(highlight=False, soft_wrap=True).print("\n".join(guard_lines(report["reply"])))
    finish(result)


def guard_lines(reply: Mapping[str, Any]) -> list[str]:
    """What a guard found, a line a group."""
    off = ["the guard is switched off: everything runs"] if reply.get("off") else []
    found = []
    for name, facts in reply["groups"].items():
        runs = "runs" if facts["may"] else "down"
        found.append(f"{name}: {runs}, epoch {facts['epoch']} is {facts['owner']}'s ({facts['why']})")
        found += [f"  {resolver}: {why}" for resolver, why in (facts.get("silent") or {}).items()]
    return off + found


@app.command()
def leave(
    host: HostName,
    inventory: Inventory = PROD,
    packages: Annotated[
        bool, typer.Option("--packages", help="Also the packages that we installed and nothing else needs.")
    ] = False,
    dumps: Annotated[
        bool, typer.Option("--dumps", help="Also the last dumps of databases that lie on the host.")
    ] = False,
    yes: Annotated[str, typer.Option("--yes", help="The host's name, to go on without a question.")] = "",
    as_json: Json = False,
) -> None:
    """Take everything of ours off a host; its stacks, data and repositories stay as they are."""
    announce("host leave", inventory, host, as_json)
    request = {"packages": packages, "dumps": dumps}
    look = _ask(request, inventory, host, reads=True)
    finish(look)
    items = [item for report in answered(look) for item in report["reply"]["items"]]
    if not as_json:
        _show(Console(), items)
    going = sum(1 for item in items if item["fate"] != "keep")
    confirm_host(host, yes, f"This removes {going} things of ours from {host}; stacks and data run on")
    result = _ask(request, inventory, host, reads=False)
    if as_json:
        print(json.dumps(result.reports))
    finish(result)
    if not as_json:
        Console().print(f"{going} things of ours are gone from {host}; what stays is in docs/leaving.md")


def _ask(request: dict[str, Any], inventory: str, host: str, *, reads: bool) -> runner.Run:
    data = {"request": json.dumps(request), "asks": "yes" if reads else ""}
    result = runner.run(
        inventory, str(runner.DEPLOYS / "leave.py"), data, ["-y", "--limit", host], quiet=True
    )
    if not result.reports and not result.exit_code:
        raise BadInput(f"{inventory} has no host {host!r}")
    return result


def _show(console: Console, items: Iterable[Item]) -> None:
    table = Table("kind", Column("what", overflow="fold"), "is", "when leaving", box=None, pad_edge=False)
    for item in items:
        fate = FATES[item["fate"]] + (f": {item['why']}" if item["why"] else "")
        table.add_row(
            item["kind"], item["what"], item["state"], fate, style="dim" if item["fate"] == "keep" else ""
        )
    console.print(table)
