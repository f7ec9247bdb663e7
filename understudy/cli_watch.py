"""`understudy watch`: what hosts that could take over see of the owners now."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from .cli_data import PROD, Inventory, Json, Limit, announce, answered, ask, finish

WORDS = {
    "well": "served",
    "own-line": "nothing known: that host's own line is dead",
    "service": "some names do not serve",
    "services": "every name answers with an error",
    "uplink": "the owner answers, its tunnel has no connection",
    "host": "the owner is not there",
    "edge": "the edge does not answer",
}


def watch(inventory: Inventory = PROD, limit: Limit = "", as_json: Json = False) -> None:
    """Whether owners of move groups are well, as the hosts see it that could take over; exit 1 when one is not."""
    announce("watch", inventory, limit, as_json)
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
