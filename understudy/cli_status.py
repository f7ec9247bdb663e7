"""`understudy status`: how well everything is kept, by the host's ledger and by the repositories themselves."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import cli_repo, owned
from .cli_data import PROD, Inventory, Json, Limit, announce, ask
from .errors import UnderstudyError
from .tables_data import size, span


def status(
    inventory: Inventory = PROD,
    limit: Limit = "",
    as_json: Json = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the repositories.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Uncovered data counts as an error.")] = False,
) -> None:
    """Last backup, last proven restore, RPO now against the objective; exit 1 when anything is overdue."""
    announce("status", inventory, limit, as_json)
    hosts = [one for one in owned.hosts(inventory, limit) if one.settings.backup.repositories]
    reports = ask("status", {}, inventory, limit, reads=True, quiet=True).reports
    by_name = {report["host"]: report for report in reports}
    found = [_facts(one, by_name.get(one.name, {}), offline) for one in hosts]
    if as_json:
        print(json.dumps(found))
    else:
        for facts in found:
            _show(Console(), facts, strict)
    if any(troubles(facts, strict) for facts in found):
        raise typer.Exit(1)


def _facts(one: owned.Owned, report: dict[str, Any], offline: bool) -> dict[str, Any]:
    """One host: its own word (None when it gave none), and each repository's."""
    reply = report.get("reply")
    silent = None if reply else report.get("error") or f"{one.name} did not answer"
    return {
        "host": one.name,
        "reply": reply,
        "silent": silent,
        "repositories": [] if offline else _judged(one),
    }


def _judged(one: owned.Owned) -> list[dict[str, Any]]:
    rows = []
    for repository in one.repositories():
        row: dict[str, Any] = {"repository": repository.name, "group": repository.group, "error": None}
        try:
            row["worries"] = cli_repo.judged(one, repository)
        except UnderstudyError as error:
            row |= {"worries": [], "error": str(error)}
        rows.append(row)
    return rows


def troubles(facts: dict[str, Any], strict: bool = False) -> list[str]:
    """Everything that is wrong with one host, a sentence each."""
    found = [facts["silent"]] if facts["silent"] else []
    reply = facts["reply"] or {}
    found += reply.get("overdue") or []
    found += [f"{row['service']}: {row['error']}" for row in reply.get("services") or [] if row.get("error")]
    for row in facts["repositories"]:
        place = f"{row['repository']}/{row['group']}"
        found += [f"{place}: {row['error']}"] if row["error"] else []
        found += [f"{place}, by the repository itself: {worry}" for worry in row["worries"]]
    if strict:
        found += [f"in no backup: {item['sentence']}" for item in reply.get("uncovered") or []]
    return list(dict.fromkeys(found))


def _show(console: Console, facts: dict[str, Any], strict: bool) -> None:
    reply = facts["reply"]
    console.print(f"[bold]{facts['host']}[/bold]", highlight=False)
    if reply:
        console.print(_table(reply))
        for item in reply.get("uncovered") or []:
            console.print(
                f"[yellow]in no backup:[/yellow] {item['sentence']}", highlight=False, soft_wrap=True
            )
        for name in reply.get("owed") or []:
            console.print(
                f"[red]stopped by a backup or restore and not started again:[/red] {name}", highlight=False
            )
        for line in ownership(reply.get("replica")):
            console.print(line, highlight=False, soft_wrap=True)
    wrong = troubles(facts, strict)
    for line in wrong:
        console.print(f"[red]{line}[/red]", highlight=False, soft_wrap=True)
    asked = len(facts["repositories"])
    if not wrong:
        console.print(f"nothing is overdue; {asked} repositories say the same themselves", highlight=False)


def ownership(replica: dict[str, Any] | None) -> list[str]:
    """A line a group that another host may own, and one for each copy that is kept of what was live before."""
    if replica is None:
        return []
    lines = ["[yellow]the guard is switched off: everything runs here[/yellow]"] if replica["off"] else []
    for name, group in replica["groups"].items():
        if group["may"]:
            state = f"runs here, epoch {group['epoch']}"
        else:
            age = (
                "never refreshed"
                if group["age"] is None
                else f"a replica, {span(max(0.0, group['age']))} old"
            )
            state = (
                f"{group['owner']} owns it, epoch {group['epoch']}; {age}, {len(group['slots'])} to promote"
            )
        lines.append(f"group {name}: {state}")
        for moved in group["moved"]:
            kept = moved["saved"]["name"] if moved["saved"] else "only on this host"
            what = "as the new owner got it" if moved["clean"] else f"diverged ({kept})"
            lines.append(f"  this host's data of epoch {moved['epoch']}: {what}")
    lines += [
        f"kept for {max(0.0, one['days']):.0f} days more: {one['service']} as it was, {', '.join(one['paths'])}"
        for one in replica["kept"]
    ]
    return lines


def _table(reply: dict[str, Any]) -> Table:
    table = Table(
        "service",
        "tier",
        "last backup",
        "objective",
        "size",
        "last proven restore",
        "next due",
        box=None,
        pad_edge=False,
    )
    for row in reply["services"]:
        late = row["overdue"] or row["error"]
        age = span(row["rpo"]) + " ago" if row["rpo"] is not None else "never"
        proven = row["proven"]
        proof = f"{span(proven['age'])} ago, in {span(proven['seconds'])}" if proven else "never"
        due = span(max(0.0, row["next_due"] - reply["at"])) if row["next_due"] else ""
        biggest = max((r["bytes"] or 0 for r in row["repositories"]), default=0)
        table.add_row(
            row["service"],
            row["tier"],
            f"[red]{age}[/red]" if late else age,
            span(row["objective"]),
            size(biggest),
            proof if proven else f"[yellow]{proof}[/yellow]",
            f"in {due}" if due else "",
        )
    return table
