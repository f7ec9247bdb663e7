"""The table of `understudy snapshots`, as it looks on a screen of 80 columns."""

from __future__ import annotations

import io

from rich.console import Console

from understudy.cli_repo import _snapshots

ROW = {
    "id": "8c1bd058", "seq": "1.14", "time": "2026-11-27 15:34", "age": "16.5 min", "tier": "important",
    "services": "host", "failed": "", "size": "1.2 MB",
}  # fmt: skip


def test_names_stay_whole_on_a_narrow_screen() -> None:
    many = ROW | {"tier": "optional", "services": "goatcounter, planning-poker", "failed": "uptime-kuma"}
    screen = io.StringIO()
    Console(file=screen, width=80).print(_snapshots([ROW, many]))
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert lines[1].endswith("host               1.2 MB") and max(map(len, lines)) <= 80
    assert [line[55:].split("  ")[0] for line in lines] == [
        "services", "host", "goatcounter,", "planning-poker", "failed:", "uptime-kuma",
    ]  # fmt: skip
