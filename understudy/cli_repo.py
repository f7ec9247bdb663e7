"""`understudy repo`: the repositories, with the owner's keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import cli_data, clock, owned, tables_data
from .cli_data import PROD, Inventory, Json, Limit, ask, console, finish, moment
from .errors import BadInput, Refused, UnderstudyError
from .protection.secrets import prefix
from .repository import freshness, listing, prune, retention, view
from .repository.restic import AdminRepository, ResticError, opened

app = typer.Typer(no_args_is_help=True, add_completion=False)
Repo = Annotated[str, typer.Option("--repo", help="Only this repository.")]
Group = Annotated[str, typer.Option("--group", help="Only this move group.")]
_AT_ONCE = 4


def chosen(
    inventory: str, limit: str, repo: str, group: str = ""
) -> list[tuple[owned.Owned, AdminRepository]]:
    """Every host's repositories that the words select. Raises BadInput when none is left."""
    found = [
        (one, repository)
        for one in owned.hosts(inventory, limit)
        if one.settings.parts.backup and one.settings.backup.repositories
        for repository in one.repositories(repo)
        if group in ("", repository.group)
    ]
    if not found:
        raise BadInput(
            "no repository that this machine can open is selected (local disks are checked by their host)"
        )
    return found


def each(
    pairs: Iterable[tuple[owned.Owned, AdminRepository]],
    work: Callable[[owned.Owned, AdminRepository], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Do the work for every repository; one that fails does not stop the others."""
    rows = []
    for one, repository in pairs:
        row: dict[str, Any] = {"host": one.name, "repository": repository.name, "group": repository.group}
        try:
            row |= {"ok": True, "error": None, **work(one, repository)}
        except UnderstudyError as error:
            row |= {"ok": False, "error": str(error), "exit_code": error.exit_code}
        rows.append(row)
    return rows


def told(rows: list[dict[str, Any]], as_json: bool, line: Callable[[dict[str, Any]], str]) -> None:
    """Print the rows and leave with 1 when one failed (3 when all that failed were refusals)."""
    if as_json:
        print(json.dumps(rows))
    else:
        table = Table("repository", "group", "result", box=None, pad_edge=False)
        for row in rows:
            result = line(row) if row["ok"] else f"[red]{row['error']}[/red]"
            table.add_row(row["repository"], row["group"], result)
        Console().print(table)
    codes = [row.get("exit_code") or 1 for row in rows if not row["ok"]]
    if codes:
        raise typer.Exit(min(codes) if codes else 0)


@app.command("init")
def init(
    inventory: Inventory = PROD,
    limit: Limit = "",
    repo: Repo = "",
    again: Annotated[
        bool, typer.Option("--again", help="Also where backups have been before and the store is empty now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the repositories that are missing; the only thing that ever does."""
    cli_data.announce("repo init", inventory, limit, as_json)
    request = {"repositories": [repo] if repo else [], "again": again}
    result = ask("prepare", request, inventory, limit, quiet=as_json, in_turn=True)
    rows = [
        {"host": report["host"], "ok": not row["error"], **row}
        for report in cli_data.answered(result)
        for row in report["reply"]["repositories"]
    ]
    finish(result)
    made = {(row["repository"], row["group"]) for row in rows if row["state"] == "made"}
    _admit_all(_reachable(inventory, limit, repo), made)
    told(rows, as_json, lambda row: "made" if row["state"] == "made" else "was there already")


def _reachable(inventory: str, limit: str, repo: str) -> list[tuple[owned.Owned, AdminRepository]]:
    """Like :func:`chosen`; nothing where all are the hosts' own disks."""
    try:
        return chosen(inventory, limit, repo)
    except BadInput:
        return []


def _admit_all(
    pairs: Iterable[tuple[owned.Owned, AdminRepository]], made: Container[tuple[str, str]]
) -> None:
    """Each repository once, also where hosts share it, and side by side: restic spends a second on each key."""
    ones = list({repository.url: (one, repository) for one, repository in reversed(list(pairs))}.values())

    def _admit(pair: tuple[owned.Owned, AdminRepository]) -> None:
        admit(*pair, new=(pair[1].name, pair[1].group) in made)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(_admit, ones):
            pass


def admit(one: owned.Owned, repository: AdminRepository, new: bool = False) -> None:
    """Let the owner's password open what the host has made, and mark it as ours. Raises ResticError.

    ``new``: it was made a moment ago, so nothing is in it that would have to be looked at first.
    """
    host, _ = one.keys
    theirs = replace(repository, password=host.get(f"{prefix(repository.name)}_PASSWORD", ""))
    if theirs.password != repository.password and (new or not _opens(repository)):
        with opened(theirs) as session:
            session.add_password(repository.password)
    with opened(repository) as session:
        if new:
            listing.mark(session, listing.CREATED)
            return
        found = listing.listed(session)
        if not listing.ours(found) and not found.snapshots and not found.strangers:
            listing.adopt(session)


def _opens(repository: AdminRepository) -> bool:
    try:
        with opened(repository) as session:
            session.run(["cat", "config"], 120)
    except ResticError as error:
        if error.kind == "password":
            return False
        raise
    return True


@app.command("check")
def check(
    inventory: Inventory = PROD, limit: Limit = "", repo: Repo = "", group: Group = "", as_json: Json = False
) -> None:
    """Freshness, stale locks, overdue pruning: judged from the repositories alone."""
    cli_data.announce("repo check", inventory, limit, as_json)

    def work(one: owned.Owned, repository: AdminRepository) -> dict[str, Any]:
        worries = judged(one, repository)
        return {"worries": worries, "ok": not worries, "error": "; ".join(worries) or None}

    told(each(chosen(inventory, limit, repo, group), work), as_json, lambda row: "fresh, no stale lock")


def judged(one: owned.Owned, repository: AdminRepository) -> list[str]:
    """What is wrong by the repository's own account: backups too old, stale locks, overdue upkeep. Raises ResticError."""
    settings = one.settings.backup.repositories[repository.name]
    objectives = one.objectives().get(repository.group, {})
    if settings.copy_from:  # filled once a day
        objectives = {name: max(seconds, 2.0 * 86400) for name, seconds in objectives.items()}
    with opened(repository) as session:
        found, there = listing.listed(session), prune.locks(session)
    now, shrink = clock.now(), one.settings.backup.shrink_percent
    late = freshness.overdue(freshness.judge(found.snapshots, objectives, now, shrink_limit=shrink))
    return [*late, *prune.worries(found, there, now, tamper=settings.tamper_tested)]


@app.command("prune")
def prune_command(
    inventory: Inventory = PROD,
    limit: Limit = "",
    repo: Repo = "",
    group: Group = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    most: Annotated[int, typer.Option(help="Allow this many snapshots to go at once.")] = 0,
    as_json: Json = False,
) -> None:
    """Forget what no rule keeps and free its space, in bounded slices, with your key."""
    cli_data.announce("repo prune", inventory, limit, as_json)
    pairs = chosen(inventory, limit, repo, group)
    known = {one.name: _facts(one, inventory) for one, _ in pairs}

    def work(one: owned.Owned, repository: AdminRepository) -> dict[str, Any]:
        keep = keep_of(one)
        say = None if as_json else (lambda line: console.print(f"  {line}", style="dim", markup=False))
        return prune.tidy(repository, known[one.name], keep=keep, dry_run=dry_run, most=most or None, say=say)

    def line(row: dict[str, Any]) -> str:
        verb = "would go" if dry_run else "gone"
        alarms = "".join(f"; [yellow]{alarm}[/yellow]" for alarm in row["alarms"])
        return f"{len(row['forgot'])} of {row['snapshots']} snapshots {verb}{alarms}"

    told(each(pairs, work), as_json, line)


def keep_of(one: owned.Owned) -> retention.Keep:
    """The host's own numbers."""
    keep = one.settings.backup.keep
    return retention.Keep(keep.hours, keep.hourly_days, keep.daily_days, keep.weekly_days)


def _facts(one: owned.Owned, inventory: str) -> retention.Facts:
    """What the host has proven and pinned; a host that does not answer has nothing to say."""
    result = ask("status", {}, inventory, one.name, reads=True, quiet=True)
    services = [row for report in cli_data.answered(result) for row in report["reply"]["services"]]
    proven = frozenset((row["service"], row["proven"]["snapshot"]) for row in services if row["proven"])
    pinned = frozenset(
        r["pinned"] for row in services for r in row["repositories"] if isinstance(r["pinned"], str)
    )
    return retention.Facts(proven, pinned=pinned, services=frozenset(one.plan["services"]))


@app.command("unhide")
def unhide_command(
    repo: Annotated[str, typer.Option("--repo", help="The repository.")],
    to: Annotated[str, typer.Option("--to", help="The moment, e.g. '2026-11-20 14:00'.")],
    inventory: Inventory = PROD,
    limit: Limit = "",
    group: Group = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would change.")] = False,
    keep_added: Annotated[bool, typer.Option("--keep-added", help="Leave what was added since.")] = False,
    partly: Annotated[
        bool, typer.Option("--partly", help="Go on although something of that moment is lost.")
    ] = False,
    yes: Annotated[
        str, typer.Option("--yes", help="The repository's name, to go on without a question.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a versioned repository what it was at a time: after a thief or a mistake hid or overwrote it."""
    from .repository import unhide  # boto3 takes its time

    cli_data.announce("repo unhide", inventory, limit, as_json)
    when = moment(to)
    assert when is not None
    pairs = chosen(inventory, limit, repo, group)
    look = each(
        pairs, lambda one, r: unhide.unhide(r, when, dry_run=True, keep_added=keep_added, partly=partly)
    )
    if dry_run or any(not row["ok"] for row in look):
        told(look, as_json, _changes)
        return
    if not as_json:
        for row in look:
            console.print(f"  {row['repository']}/{row['group']}: {_changes(row)}")
    if yes != repo:
        cli_data.confirm_host(repo, yes, f"This changes {repo}; nothing is deleted for good")
    done = each(
        pairs, lambda one, r: unhide.unhide(r, when, dry_run=False, keep_added=keep_added, partly=partly)
    )
    told(done, as_json, _changes)


def _changes(row: dict[str, Any]) -> str:
    counts = ", ".join(f"{how} {sum(kinds.values())}" for how, kinds in row["changes"].items() if kinds)
    return f"{counts or 'nothing differs'}; {row['snapshots']} snapshots then"


@app.command("copy")
def copy(inventory: Inventory = PROD, limit: Limit = "", repo: Repo = "", as_json: Json = False) -> None:
    """Fill the repositories that are copies, now."""
    cli_data.announce("repo copy", inventory, limit, as_json)
    result = ask("copies", {"repositories": [repo] if repo else []}, inventory, limit, quiet=as_json)
    finish(result)
    rows = [row for report in cli_data.answered(result) for row in report["reply"]["repositories"]]
    told(rows, as_json, lambda row: f"{row['copied']} snapshots copied in {tables_data.span(row['seconds'])}")


@app.command("tamper")
def tamper_command(
    inventory: Inventory = PROD, limit: Limit = "", repo: Repo = "", as_json: Json = False
) -> None:
    """Attack a repository made for it with the host's own key, then bring it back with yours."""
    from .protection import admin
    from .repository import tamper

    cli_data.announce("repo tamper", inventory, limit, as_json)
    rows = []
    for one in owned.hosts(inventory, limit):
        for name, settings in one.settings.backup.repositories.items():
            if repo not in ("", name) or not settings.tamper_tested:
                continue
            host, owner = one.keys
            theirs = admin.with_keys(name, settings, tamper.GROUP, host, admin=False)
            # The host makes it, so its password opens it; what differs is the key to the store.
            password = f"{prefix(name)}_PASSWORD"
            keys = {**host, **owner, password: host.get(password, "")}
            ours = admin.with_keys(name, settings, tamper.GROUP, keys, admin=True)
            rows += each([(one, ours)], partial(_attacked, theirs, settings.scheme))
            if rows[-1]["ok"]:
                rows[-1] |= noted(one, name)
    if not rows:
        raise Refused(
            "no repository is declared tamper: versions (s3) or append-only (rest): nothing was tried"
        )
    told(
        rows,
        as_json,
        lambda row: (
            f"withstood: {row.get('refused')} attempts refused, {row.get('compared')} files equal after"
        ),
    )


def noted(one: owned.Owned, name: str) -> dict[str, Any]:
    """Write the day of a passed test into the repositories of that store, where any machine finds it."""
    try:
        for repository in one.repositories(name):
            with opened(repository) as session:
                listing.mark(session, listing.TAMPERED)
    except ResticError as error:
        return {
            "ok": False,
            "error": f"withstood, but the day could not be written down: {error}",
            "exit_code": 1,
        }
    return {}


def _attacked(
    theirs: AdminRepository, scheme: str, one: owned.Owned, ours: AdminRepository
) -> dict[str, Any]:
    from .repository import tamper

    return tamper.tamper(theirs, ours) if scheme == "s3" else tamper.append_only(theirs)


def snapshots(
    service: Annotated[str, typer.Argument(help="Only those with this service.")] = "",
    inventory: Inventory = PROD,
    limit: Limit = "",
    repo: Repo = "",
    as_json: Json = False,
) -> None:
    """The snapshots, newest first by epoch and sequence number."""
    cli_data.announce("snapshots", inventory, limit, as_json)

    def work(one: owned.Owned, repository: AdminRepository) -> dict[str, Any]:
        with opened(repository) as session:
            return {"snapshots": view.rows(listing.listed(session).snapshots, clock.now(), service)}

    rows = each(chosen(inventory, limit, repo), work)
    if as_json:
        print(json.dumps(rows))
    else:
        _show_snapshots(rows)
    if any(not row["ok"] for row in rows):
        raise typer.Exit(1)


def _show_snapshots(rows: list[dict[str, Any]]) -> None:
    out = Console()
    for row in rows:
        out.print(f"[bold]{row['repository']}/{row['group']}[/bold]", highlight=False)
        if not row["ok"]:
            out.print(f"[red]{row['error']}[/red]", highlight=False, soft_wrap=True)
        elif row["snapshots"]:
            out.print(_snapshots(row["snapshots"]))
        else:
            out.print("no snapshot", highlight=False)


def _snapshots(found: list[dict[str, str]]) -> Table:
    """On a narrow screen the names are what takes several lines, each whole: half a name cannot be copied."""
    table = Table(box=None, pad_edge=False)
    for column in ("id", "seq", "time", "age", "tier", "services", "size"):
        table.add_column(column, no_wrap=column != "services")
    for one in found:
        names = one["services"] + (f"\n[red]failed: {one['failed']}[/red]" if one["failed"] else "")
        cells = (one["id"], one["seq"], one["time"], one["age"], one["tier"], names.strip(), one["size"])
        table.add_row(*cells)
    return table


def mount(
    point: Annotated[str, typer.Argument(help="An empty folder of this machine.")],
    repo: Annotated[str, typer.Option("--repo", help="The repository.")],
    group: Annotated[str, typer.Option("--group", help="The move group.")] = "critical",
    service: Annotated[str, typer.Option(help="Only snapshots of this service.")] = "",
    inventory: Inventory = PROD,
    limit: Limit = "",
) -> None:
    """Look into a repository as folders, read-only, until Ctrl-C."""
    (_, repository), *_ = chosen(inventory, limit, repo, group)
    view.mount(repository, point, [f"service:{service}"] if service else [], lambda line: console.print(line))
