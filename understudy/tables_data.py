"""What an owner reads after a backup, a restore, or for the state of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Report = Mapping[str, Any]


def size(count: float | None) -> str:
    """Bytes for a person."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def span(seconds: float | None) -> str:
    """A duration or an age for a person."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    for unit, length in (("min", 60), ("h", 3600), ("days", 86400)):
        if seconds < length * (120 if unit == "min" else 48) or unit == "days":
            return f"{seconds / length:.0f} {unit}"
    return ""


def show_backup(console: Console, reports: Iterable[Report]) -> None:
    """One row a service and repository."""
    for report in reports:
        reply = report["reply"]
        table = Table("service", "repository", "result", "snapshot", "new", box=None, pad_edge=False)
        for row in reply.get("services") or []:
            result = "[green]ok[/green]" if row["ok"] else f"[red]{row['error']}[/red]"
            table.add_row(
                row["service"],
                row.get("repository") or "",
                result,
                (row.get("snapshot") or "")[:8],
                size(row.get("added")),
            )
        console.print(table)
        console.print(f"[bold]{report['host']}[/bold]: {span(reply.get('seconds'))}", highlight=False)
        for warning in reply.get("warnings") or []:
            console.print(f"[yellow]warning:[/yellow] {warning}", highlight=False, soft_wrap=True)


def show_jobs(console: Console, reports: Iterable[Report]) -> None:
    """One row a job."""
    for report in reports:
        table = Table("job", "result", "files", "bytes", "deleted", "time", box=None, pad_edge=False)
        for row in report["reply"]["jobs"]:
            result = "[green]ok[/green]" if row["ok"] else f"[red]{row['error']}[/red]"
            count, deleted = str(row.get("files") or 0), str(row.get("deleted") or 0)
            table.add_row(
                row["job"], result, count, size(row.get("bytes")), deleted, span(row.get("seconds"))
            )
        console.print(table)


def show_restore(console: Console, reports: Iterable[Report], dry_run: bool) -> None:
    """One block a service: the snapshot, its age, what is newer now, the time each phase took."""
    for report in reports:
        for row in report["reply"]["services"]:
            _restored(console, report["host"], row, dry_run)


def _restored(console: Console, host: str, row: Mapping[str, Any], dry_run: bool) -> None:
    if not row["ok"]:
        console.print(
            f"[red]{row['service']} on {host}: {row['error']}[/red]", highlight=False, soft_wrap=True
        )
        return
    verb = "would be restored" if dry_run else f"restored in {span(row.get('seconds'))}"
    sums = row.get("would") or row
    console.print(
        f"[bold]{row['service']}[/bold] on {host} {verb} from snapshot {(row.get('snapshot') or '')[:8]}, "
        f"{span(row.get('age'))} old: {size(sums.get('bytes'))}, {sums.get('files')} files",
        highlight=False,
        soft_wrap=True,
    )
    for name, seconds in (row.get("phases") or {}).items():
        console.print(f"    {name:<12}{span(seconds)}", highlight=False)
    for line in _newer(row.get("newer")):
        console.print(f"    [yellow]{escape(line)}[/yellow]", highlight=False, soft_wrap=True)
    for line in _remarks(row):
        console.print(f"    [yellow]{escape(line)}[/yellow]", highlight=False, soft_wrap=True)
    if row.get("old") and not dry_run:
        old = row["old"] if isinstance(row["old"], str) else ", ".join(row["old"])
        console.print(f"    the data before: {old}", highlight=False, soft_wrap=True)


def _remarks(row: Mapping[str, Any]) -> list[str]:
    """What the owner should know of a restore that went well: notes, hooks that failed, files that differ."""
    lines = [str(line) for key in ("notes", "hooks_failed") for line in row.get(key) or []]
    for one in row.get("versions") or []:
        if one.get("why"):
            lines.append(
                f"{one['container']}: {one['snapshot']} in the snapshot, {one['declared']} here: {one['why']}"
            )
    wrong = row.get("wrong") or {}
    if wrong.get("count"):
        lines.append(f"{wrong['count']} files differ from the snapshot: {', '.join(wrong['paths'][:3])}")
    return lines


def _newer(newer: Any) -> Iterable[str]:
    if isinstance(newer, Mapping):
        return [f"newer than the snapshot: {key}: {value}" for key, value in newer.items() if value]
    return [str(line) for line in newer or []]
