"""`understudy watch`: what hosts that could take over see of the owners now, or what this machine sees."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from . import cli_auto, project
from .cli_data import PROD, Inventory, Json, Limit, announce, answered, ask, finish
from .errors import BadInput
from .ownership import watching_here

WORDS = {
    "well": "served",
    "own-line": "nothing known: the watcher's own line is dead",
    "service": "some names do not serve",
    "services": "every name answers with an error",
    "uplink": "the owner answers, its tunnel has no connection",
    "host": "the owner is not there",
    "edge": "the edge does not answer",
}


Here = Annotated[bool, typer.Option("--here", help="Look from this machine; no host is logged in to.")]
Auto = Annotated[
    bool, typer.Option("--auto", help="With --here: move what nobody serves once its owner's lease is over.")
]
Every = Annotated[
    int, typer.Option("--every", help="With --here: look again after so many seconds, without end.")
]


def watch(
    inventory: Inventory = PROD,
    limit: Limit = "",
    here: Here = False,
    every: Every = 0,
    auto: Auto = False,
    as_json: Json = False,
) -> None:
    """Whether owners of move groups are well, as the hosts see it that could take over; exit 1 when one is not."""
    announce("watch", inventory, limit, as_json)
    if every and (not here or every < 10):
        raise BadInput("--every goes with --here, and is 10 seconds or more")
    if auto and not here:
        raise BadInput("--auto goes with --here: this machine is the one that moves things")
    if here:
        _here(inventory, every, auto, as_json)
        return
    result = ask("watch", {"only_look": True}, inventory, limit, reads=True, quiet=True)
    replies = answered(result)
    groups = [
        (report["host"], name, one) for report in replies for name, one in report["reply"]["groups"].items()
    ]
    if as_json:
        print(json.dumps(result.reports))
    else:
        table = Table("seen from", "group", "owner", "is", "for", box=None, pad_edge=False)
        for host, name, one in groups:
            long = f"{one['seconds'] / 60:.0f} min" if one["seconds"] else ""
            table.add_row(host, name, one["owner"], WORDS[one["cause"]], long)
        Console(soft_wrap=True).print(table)
    finish(result, failed=any(one["cause"] != "well" for _, _, one in groups))


def _here(inventory: str, every: int, auto: bool, as_json: bool) -> None:
    groups = watching_here.groups(project.hosts(inventory))
    if not groups:
        raise BadInput(
            f"no group of {inventory} has a public name and a host that could own it: nothing to watch"
        )
    out = Console(soft_wrap=True, highlight=False)
    watcher = cli_auto.Watcher(inventory, groups) if auto else None
    while True:
        found = watching_here.looks(groups)
        if as_json:
            print(json.dumps([asdict(one) for one in found]), flush=True)
        elif not every:
            for one in found:
                long = f" for {one.seconds / 60:.0f} min" if one.seconds else ""
                out.print(f"{one.group} on {one.owner}: {WORDS[one.cause]}{long}")
        for text in [one.text for one in found if one.text and not as_json]:
            out.print(text)
        for text in watcher.act(found) if watcher else ():
            out.print(text)
        if not every:
            raise typer.Exit(int(any(one.cause != "well" for one in found)))
        time.sleep(every)
