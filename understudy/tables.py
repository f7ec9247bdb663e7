"""What an owner reads at the end of a verb: tables of facts that were measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

Report = Mapping[str, Any]


def show_plan(console: Console, reports: Iterable[Report]) -> None:
    """One block a host: parts, changes, problems, refusals, what nobody describes."""
    for report in reports:
        if "count" not in report:
            console.print(
                f"[red]{report['host']}: {report.get('error')}[/red]", highlight=False, soft_wrap=True
            )
            continue
        console.print(
            f"[bold]{report['host']}[/bold] ({report['role']})  parts: {', '.join(report['parts'])}",
            highlight=False,
            soft_wrap=True,
        )
        if report["plan"]:
            console.print(_plan_table(report["plan"]))
        console.print(f"{report['count']} changes", highlight=False)
        for title, key, colour in (
            ("problem", "problems", "red"),
            ("refused", "refused", "red"),
            ("drift", "drift", "yellow"),
            ("warning", "warnings", "yellow"),
            ("no repository", "unmade", "yellow"),
            ("in no backup", "uncovered", "yellow"),
            ("not described", "unmanaged", "dim"),
        ):
            for line in report.get(key) or []:
                console.print(f"[{colour}]{title}:[/{colour}] {line}", highlight=False, soft_wrap=True)


def _plan_table(rows: Iterable[Mapping[str, str]]) -> Table:
    table = Table("change", "what", "why", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["kind"], row["what"], row["why"])
    return table


def show_costs(console: Console, lines: Iterable[str]) -> None:
    """What things cost, a sentence each."""
    for line in lines:
        console.print(f"[cyan]cost:[/cyan] {line}", highlight=False, soft_wrap=True)


def show_converge(console: Console, reports: Iterable[Report]) -> None:
    """One block a host: what changed, each service's probes with their times."""
    for report in reports:
        probes = report.get("probes") or []
        if probes:
            console.print(_probe_table(probes))
        changed = {step: len(items) for step, items in (report.get("changed") or {}).items() if items}
        total = sum(changed.values())
        detail = ", ".join(f"{count} {step}" for step, count in changed.items())
        good = sum(1 for probe in probes if probe["ok"])
        console.print(
            f"[bold]{report['host']}[/bold]: {total} changes{f' ({detail})' if detail else ''}; "
            f"{good}/{len(probes)} probes answered with the right content; {report['commands']} commands",
            highlight=False,
            soft_wrap=True,
        )
        if report.get("error"):
            console.print(f"[red]{report['error']}[/red]", highlight=False, soft_wrap=True)


def _probe_table(probes: Iterable[Mapping[str, Any]]) -> Table:
    table = Table("service", "probe", "answer", "time", box=None, pad_edge=False)
    for probe in probes:
        answer = "[green]ok[/green]" if probe["ok"] else f"[red]{probe['error']}[/red]"
        milliseconds = f"{probe['ms']:.0f} ms" if probe.get("ms") is not None else ""
        table.add_row(probe["service"], probe["name"], answer, milliseconds)
    return table
