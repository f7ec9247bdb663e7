"""`understudy drill`: restore into a scratch copy now, as every night does for what is critical."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .cli_data import PROD, Inventory, Json, Limit, announce, answered, ask, finish

Drilled = Annotated[list[str] | None, typer.Argument(help="Services; every critical one when none is named.")]


def drill(
    services: Drilled = None,
    inventory: Inventory = PROD,
    limit: Limit = "",
    repository: Annotated[
        str, typer.Option(help="From this repository; default: the first that answers.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Restore services into a scratch copy that reaches nothing live, probe them, remove it; timed."""
    announce("drill", inventory, limit, as_json)
    request = {"services": services or [], "repository": repository}
    result = ask("drill", request, inventory, limit, quiet=as_json)
    replies = answered(result)
    if as_json:
        print(json.dumps(result.reports))
    else:
        show(Console(), replies)
    finish(result, failed=any(not row["ok"] for r in replies for row in r["reply"]["services"]))


def show(console: Console, reports: Iterable[Mapping[str, Any]]) -> None:
    """One line a service: what was proven, from which snapshot, in which time."""
    table = Table(
        "host", "service", "result", "snapshot", "seconds", "files", "scope", box=None, pad_edge=False
    )
    for report in reports:
        for row in report["reply"]["services"]:
            result = "proven" if row["ok"] else str(row["error"])
            cells = (
                str(row.get("snapshot") or "")[:8],
                f"{row.get('seconds') or 0:.1f}",
                str(row.get("files") or 0),
            )
            table.add_row(report["host"], row["service"], result, *cells, str(row.get("scope") or ""))
        if report["reply"].get("skipped"):
            console.print(f"{report['host']}: {report['reply']['skipped']}", highlight=False)
    console.print(table)
