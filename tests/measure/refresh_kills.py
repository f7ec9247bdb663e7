"""Refreshes of a standby killed at random moments, and one fed a shrunken snapshot; then the owner's power is cut.

    PYTHONPATH=. python tests/measure/refresh_kills.py [--kills 10] [--seed 1]

The lab is as for switchovers.py. After each kill the published copy's database is checked and counted; at the end the standby
takes over and serves it. Exits 1 when a published copy was not whole, or rows of the accepted snapshot are missing.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import Any

from lab.moves import GROUP, NAMES, Moves
from lab.writer import Crowd

SLOT = (
    "slot=$(readlink /var/lib/understudy/replica/critical/current); "
    "python3 -c \"import sqlite3,sys; c=sqlite3.connect('file:'+sys.argv[1]+'?immutable=1', uri=True); "
    "print(c.execute('PRAGMA integrity_check').fetchone()[0], "
    'c.execute(\\"SELECT count(*) FROM ciphers WHERE name LIKE \'lab-%\'\\").fetchone()[0])" '
    "/home/docker-projects/vaultwarden/.understudy-restore-slot-$slot/vaultwarden.data/db.sqlite3"
)
UNIT = f"understudy-refresh-{GROUP}.service"
KILL = (
    f"systemctl kill --kill-whom=all -s KILL {UNIT} 2>/dev/null; "
    f"for i in $(seq 100); do systemctl is-active -q {UNIT} || break; sleep 0.1; done; systemctl reset-failed {UNIT} 2>/dev/null; true"
)
EXTRA = "/home/apps/nextcloud/app/data/measure"


class Broken(SystemExit):
    """A bar does not hold."""


class Standby:
    """The standby's published copy, seen from outside."""

    def __init__(self, moves: Moves) -> None:
        self.moves = moves
        self.owner = moves.owner()
        self.name = moves.other(self.owner)

    def backup(self) -> int:
        """A backup of the group; its exit code (1 when a source shrank)."""
        return self.moves.verb("backup", "--limit", self.owner, "vaultwarden", "nextcloud")[0]

    def refresh(self) -> str:
        """A whole refresh; its error, or ""."""
        try:
            self.moves.agent(self.name, "refresh", {"group": GROUP, "lock_wait": 60})
        except Exception as error:
            return str(error)
        return ""

    def killed(self, after: float) -> None:
        self.moves.run(self.name, f"systemctl start --no-block {UNIT}; sleep {after:.2f}; {KILL}")

    def offered(self) -> dict[str, Any]:
        """What could be promoted now. Raises Broken when nothing whole is published."""
        slots = self.moves.agent(self.name, "journey", {"group": GROUP})["offered"]
        if not slots or not slots[0]["published"]:
            raise Broken(f"nothing whole is published on {self.name}: {slots}")
        found: dict[str, Any] = slots[0]["services"]
        return found

    def rows(self) -> int:
        """Rows in the published copy. Raises Broken when SQLite finds fault with it."""
        verdict, count = self.moves.run(self.name, SLOT).split()
        if verdict != "ok":
            raise Broken(f"the published copy is damaged: {verdict}")
        return int(count)


def kills(standby: Standby, times: int, chance: random.Random) -> None:
    standby.moves.run(standby.name, "systemctl stop 'understudy-refresh-*.timer'")
    began = time.monotonic()
    standby.refresh()
    whole = time.monotonic() - began
    print(f"a whole refresh after a change: {whole:.1f} s")
    for number in range(1, times + 1):
        if standby.backup():
            raise Broken("the backup failed")
        before, count = standby.offered(), standby.rows()
        after = chance.uniform(0.1, whole * 0.9)
        standby.killed(after)
        now, left = standby.offered(), standby.rows()
        new = now["vaultwarden"]["name"] != before["vaultwarden"]["name"]
        if left < count:
            raise Broken(f"the published copy has {left} rows, it had {count}")
        what = "the new one is published" if new else "the one before is published"
        print(f"{number:2d}. killed after {after:.1f} s: {what}, whole, {left} rows", flush=True)
    error = standby.refresh()
    if error:
        raise Broken(f"the refresh after the kills: {error}")
    print(f"the next one finishes: {standby.rows()} rows")


def shrunken(standby: Standby) -> None:
    fill = f"mkdir -p {EXTRA} && cd {EXTRA} && for n in $(seq 8000); do echo $n > f$n; done"
    standby.moves.run(standby.owner, fill)
    standby.backup()
    standby.refresh()
    before = standby.offered()["nextcloud"]["name"]
    standby.moves.run(standby.owner, f"rm -rf {EXTRA}")
    said = standby.backup()
    error = standby.refresh()
    held = standby.offered()["nextcloud"]["name"]
    print(
        f"a shrunken source: backup exit {said}, refresh: {error or 'DONE'}; published was {before}, is {held}"
    )
    if not error or held != before:
        raise Broken("a shrunken snapshot was published")


def taken_over(standby: Standby, crowd: Crowd) -> None:
    began = time.time()
    standby.moves.kill(standby.owner)
    record = standby.moves.move("failover", standby.name, "--yes", standby.name)
    crowd.wait_for_rows(5)
    moments = {one["service"]: float(one["at"]) for one in record["shown"]}
    oldest = min(moments.values())
    lost = [one for writer in crowd.writers for one in writer.loss(began - 60).lost]
    early = [one for one in lost if one.over < oldest]
    print(
        f"the owner's power cut, the standby serves: lost {len(lost)}, of them older than its copy {len(early)}"
    )
    standby.moves.switch_on(standby.owner)
    time.sleep(35)
    standby.moves.move("switchover", standby.owner)
    if early:
        raise Broken("rows of the accepted snapshot are missing")


def main() -> int:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    moves = Moves()
    standby = Standby(moves)
    try:
        with Crowd(moves.cloud.edges, NAMES) as crowd:
            crowd.wait_for_rows(5)
            kills(standby, options.kills, random.Random(options.seed))
            shrunken(standby)
            taken_over(standby, crowd)
    finally:
        moves.run(
            standby.name, "systemctl start $(cd /etc/systemd/system && ls -d understudy-refresh-*.timer)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
