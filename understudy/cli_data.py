"""`understudy backup` and `understudy restore`."""

from __future__ import annotations

import datetime
import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from . import firstline, runner, tables_data
from .errors import BadInput, Refused

PROD = "inventory/prod.py"
console = Console(stderr=True, highlight=False, soft_wrap=True)

Inventory = Annotated[str, typer.Option("--inventory", "-i", help="The pyinfra inventory file.")]
Json = Annotated[bool, typer.Option("--json", help="The same facts for machines.")]
Limit = Annotated[str, typer.Option("--limit", help="Only this host.")]
Services = Annotated[list[str] | None, typer.Argument(help="Services; all of them when none is named.")]


def ask(
    verb: str,
    request: dict[str, Any],
    inventory: str,
    limit: str,
    *,
    reads: bool = False,
    quiet: bool = False,
    in_turn: bool = False,
) -> runner.Run:
    """Run one verb of the agent on the hosts of the inventory; progress goes to standard error.

    ``in_turn``: one host after the other, where two at once would meet in one repository.
    """
    data = {"verb": verb, "request": json.dumps(request), "asks": "yes" if reads else ""}
    flags = ["-y", *(["--serial"] if in_turn else []), *(["--limit", limit] if limit else [])]
    heard = None if quiet else (lambda line: console.print(f"  {line}", style="dim", markup=False))
    return runner.run(inventory, str(runner.DEPLOYS / "protect.py"), data, flags, quiet=True, heard=heard)


def answered(result: runner.Run) -> list[dict[str, Any]]:
    """The reports of hosts whose agent replied."""
    return [report for report in result.reports if "reply" in report]


def finish(result: runner.Run, failed: bool = False, refused: bool = False) -> None:
    """Leave with the exit code of the run, saying each host's error. ``refused``: the failures are refusals, all of them."""
    for report in result.reports:
        if report.get("error"):
            console.print(f"[red]{report['error']}[/red]")
    if result.exit_code or failed:
        raise typer.Exit(3 if refused else result.exit_code or 1)


def announce(verb: str, inventory: str, limit: str, as_json: bool) -> None:
    """The first line of every verb."""
    if not as_json:
        console.print(firstline.line(verb, inventory, limit))


def backup(
    services: Services = None,
    inventory: Inventory = PROD,
    limit: Limit = "",
    tier: Annotated[str, typer.Option(help="A whole tier, as its timer does it.")] = "",
    confirm_size: Annotated[
        bool, typer.Option("--confirm-size", help="Go on although much is new (docs/backups.md).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Back up now: dump, check, send, record."""
    announce("backup", inventory, limit, as_json)
    request = {"services": services or [], "tier": tier, "reason": "by hand", "confirm": confirm_size}
    result = ask("backup", request, inventory, limit, quiet=as_json)
    replies = answered(result)
    if as_json:
        print(json.dumps(result.reports))
    else:
        tables_data.show_backup(Console(), replies)
    finish(
        result,
        failed=any(not row.get("ok", True) for r in replies for row in r["reply"].get("services") or []),
    )


def jobs(
    names: Annotated[list[str] | None, typer.Argument(help="Jobs; all of them when none is named.")] = None,
    inventory: Inventory = PROD,
    limit: Limit = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be copied and deleted.")
    ] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Go on although the source shrank a lot.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the rclone and rsync jobs now (docs/jobs.md)."""
    announce("jobs", inventory, limit, as_json)
    request = {"jobs": names or [], "dry_run": dry_run, "confirm": confirm}
    result = ask("jobs", request, inventory, limit, quiet=as_json)
    replies = answered(result)
    if as_json:
        print(json.dumps(result.reports))
    else:
        tables_data.show_jobs(Console(), replies)
    finish(result, failed=any(not row["ok"] for r in replies for row in r["reply"]["jobs"]))


def restore(
    services: Services = None,
    inventory: Inventory = PROD,
    limit: Annotated[str, typer.Option("--host", "--limit", help="The host to restore onto.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every service of the host.")] = False,
    snapshot: Annotated[str, typer.Option(help="A snapshot's id; default: the newest good one.")] = "",
    time: Annotated[str, typer.Option(help="As it was at this time, e.g. '2026-11-20 14:00'.")] = "",
    repository: Annotated[
        str, typer.Option(help="From this repository; default: the first that answers.")
    ] = "",
    to: Annotated[str, typer.Option(help="Into this new folder of the host; no service is touched.")] = "",
    here: Annotated[
        str, typer.Option(help="Into this new folder of this machine, with your keys; no host is asked.")
    ] = "",
    path: Annotated[
        list[str] | None, typer.Option(help="Only these, e.g. 'app:/data/anna/**'; needs --to or --here.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Without room for a second copy (docs/restore.md).")
    ] = False,
    allow_version: Annotated[
        bool, typer.Option("--allow-version", help="From another version of the image.")
    ] = False,
    yes: Annotated[str, typer.Option("--yes", help="The host's name, to go on without a question.")] = "",
    as_json: Json = False,
) -> None:
    """Bring data back: one service, several, or all; what is newer is shown first."""
    announce("restore", inventory, limit, as_json)
    if not services and not everything:
        raise BadInput("name the services to restore, or say --all")
    if path and not (to or here):
        raise BadInput("--path restores files beside the service: say where with --to DIR or --here DIR")
    if here:
        from .cli_bring import onto_this_machine

        onto_this_machine(
            services or [], here, inventory, limit, repository, snapshot, moment(time), path or [], as_json
        )
        return
    request = {
        "services": services or [],
        "snapshot": snapshot,
        "time": moment(time),
        "repository": repository,
        "to": to,
        "paths": path or [],
        "in_place": in_place,
        "allow_version": allow_version,
        "dry_run": dry_run,
    }
    if not to and not dry_run:
        _agree(request, inventory, limit, yes, as_json)
        request["confirm_loss"] = True
    result = ask("restore", request, inventory, limit, quiet=as_json)
    replies = answered(result)
    if as_json:
        print(json.dumps(result.reports))
    else:
        tables_data.show_restore(Console(), replies, dry_run)
    failed = [row for r in replies for row in r["reply"]["services"] if not row["ok"]]
    refused = len(replies) == len(result.reports) and all(row.get("kind") == "refused" for row in failed)
    finish(result, bool(failed), bool(failed) and refused)


def _agree(request: dict[str, Any], inventory: str, limit: str, yes: str, as_json: bool) -> None:
    """Show what would be lost and have the host's name typed. Raises Refused."""
    look = ask("restore", {**request, "dry_run": True}, inventory, limit, quiet=True)
    finish(look)
    replies = answered(look)
    hosts = sorted(report["host"] for report in replies)
    if len(hosts) != 1:
        raise Refused(
            f"a restore goes to one host at a time: say --host with one of {', '.join(hosts) or 'none'}"
        )
    if not as_json:
        tables_data.show_restore(Console(), replies, dry_run=True)
    confirm_host(hosts[0], yes, "This replaces the data above; the present data is set aside")


def confirm_host(host: str, yes: str, sentence: str) -> None:
    """Ask for the host's name. Raises Refused without a terminal, or when another name is typed."""
    if yes == host:
        return
    if yes:
        raise Refused(f"--yes={yes} names another host: this one is {host}; nothing was done")
    if not sys.stdin.isatty():
        raise Refused(f"say --yes={host} to do this without a terminal; nothing was done")
    if typer.prompt(f"{sentence}. Type the host's name") != host:
        raise Refused("not the same name: nothing was done")


def moment(text: str) -> float | None:
    """Seconds since the epoch of an ISO time, local without a zone. Raises BadInput."""
    if not text:
        return None
    try:
        return datetime.datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise BadInput(f"--time {text!r} is no time: write it like '2026-11-20 14:00'") from None
