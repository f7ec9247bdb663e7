"""An audit for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .importing import Outcome
from .judge import human
from .report import App, Place, Report

STYLE = {"kept": "green", "weak": "yellow", "lost": "red", "cache": "dim"}
WORD = {"kept": "kept", "weak": "doubtful", "lost": "would be lost", "cache": "needs none"}


def show(console: Console, report: Report) -> None:
    """Print the whole report, the one sentence that matters first."""
    style = "bold red" if report.would_lose else "bold green"
    console.print(f"[{style}]{escape(report.headline)}[/{style}]\n", soft_wrap=True)
    for app in report.apps:
        _app(console, app)
    if report.jobs:
        console.print(_jobs(report))
        console.print()
    for line in report.warnings:
        console.print(f"[yellow]look at:[/yellow] {escape(line)}", soft_wrap=True)
    for line in report.unread:
        console.print(f"[red]could not be read:[/red] {escape(line)}", soft_wrap=True)
    console.print(
        f"[dim]{escape(report.host)}, {escape(report.system)}: {len(report.apps)} applications, {len(report.places)} places; "
        f"{report.commands} commands on the host in {report.seconds:.1f} s, nothing written there[/dim]",
        soft_wrap=True,
    )


def _app(console: Console, app: App) -> None:
    title = f"[bold]{escape(app.name)}[/bold] [dim]{app.kind}[/dim]"
    files = ", ".join(app.files)
    where = f"  {escape(files)}" if files else ""
    here = "" if app.described else "  [yellow](only on this machine)[/yellow]"
    console.print(title + where + here, soft_wrap=True)
    for one in app.running:
        version = f" {one.version}" if one.version else ""
        note = f"  [yellow]{escape(one.note)}[/yellow]" if one.note else ""
        digest = f"  [dim]{escape(short(one.digest))}[/dim]" if one.digest else ""
        console.print(
            f"  {escape(one.name)}: {escape(one.image)}{version}{digest}  {escape(one.state)}{note}",
            soft_wrap=True,
        )
    for place in app.places:
        console.print(f"    {_place(place)}", soft_wrap=True)
    for note in app.notes:
        console.print(f"    [dim]{escape(note)}[/dim]", soft_wrap=True)


def _place(place: Place) -> str:
    style = STYLE[place.grade]
    least = "" if place.complete or place.kind == "database" else "at least "
    sqlite = f", SQLite {', '.join(place.sqlite[:2])}" if place.sqlite else ""
    what = short(place.what) if place.kind == "anonymous volume" else place.what
    return (
        f"[{style}]{WORD[place.grade]:13}[/{style}] {escape(what)} [dim]({place.kind}, {least}{human(place.bytes)}"
        f"{escape(sqlite)})[/dim] {escape(place.why)}"
    )


def short(text: str) -> str:
    """A digest as people compare it."""
    head, _, tail = text.partition("sha256:")
    if tail:
        return f"{head}sha256:{tail[:12]}{'' if len(tail) <= 64 else tail[64:]}"
    return text[:12] if len(text) == 64 else text


def _jobs(report: Report) -> Table:
    table = Table("job", "when", "does", "", box=None, pad_edge=False)
    for job in report.jobs:
        broken = f"[red]{escape(job.broken)}[/red]" if job.broken else ""
        table.add_row(escape(job.name), escape(job.when), escape(job.does), broken)
    return table


def show_import(console: Console, outcome: Outcome) -> None:
    """What an import did, and what it left."""
    for name in outcome.written:
        console.print(f"[green]imported[/green] {escape(name)}")
        for note in outcome.notes.get(name, []):
            console.print(f"  [yellow]{escape(note)}[/yellow]")
    for name in outcome.same:
        console.print(f"[dim]as it is written here:[/dim] {escape(name)}")
    for name, changes in outcome.drifted.items():
        console.print(
            f"[yellow]differs[/yellow] {escape(name)}; `understudy import … --service {escape(name)}` takes the host's side"
        )
        for change in changes:
            console.print("\n".join(f"  {escape(line)}" for line in change.splitlines()))
    for name, reason in outcome.left.items():
        console.print(f"[red]not imported[/red] {escape(name)}: {escape(reason)}")
    for line in outcome.unread:
        console.print(f"[red]could not be read:[/red] {escape(line)}")
    if outcome.inventory:
        console.print(escape(outcome.inventory))
