"""The acts of `make demo` after the converge: written to, attacked, deleted, restored, killed, taken over, given back.

Every number is counted from what writers outside the hosts were told, or is the verb's own report.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from lab.moves import GROUP, NAMES, Moves, at
from lab.writer import Crowd, Writer

__all__ = ["Say", "play"]

Say = Callable[[str, str], None]
Claim = Callable[[bool, str], None]
PRIMARY, STANDBY = "lemongrab", "standby"
VAULT = "vault.example.org"
DATA = "/home/docker-projects/vaultwarden"
GUARD_LOOKS = 90.0
HOLD = (
    "systemctl stop 'understudy-backup-*.timer'; for i in $(seq 300); do systemctl list-units --plain --no-legend "
    "--state=activating 'understudy-backup-*.service' | grep -q . || exit 0; sleep 0.2; done; exit 1"
)


def play(moves: Moves, say: Say, claim: Claim) -> None:
    """All acts in order; a claim that does not hold is remembered, a verb that fails ends it (Broken)."""
    kept = _backup(moves, say, claim)
    _attack(moves, say, claim)
    _restore(moves, say, claim, kept)
    _refresh(moves, say, claim)
    with Crowd(moves.cloud.edges, NAMES) as crowd:
        _failover(moves, crowd, say, claim)
        _return(moves, say, claim)
        _back(moves, crowd, say, claim)


def _reports(moves: Moves, *words: str) -> Any:
    return json.loads(moves.succeed(*words, "--json"))


def _backup(moves: Moves, say: Say, claim: Claim) -> dict[str, int]:
    """Rows by public name that were acknowledged before the backup; nobody writes from here to the failover."""
    moves.succeed("repo", "init", "--limit", PRIMARY)
    with Crowd(moves.cloud.edges, NAMES) as crowd:
        time.sleep(3)
    written = {writer.name_: writer.loss().acknowledged for writer in crowd.writers}
    say(
        "writers outside",
        "through " + ", ".join(f"https://{n}: {count} rows" for n, count in written.items()),
    )
    began = time.monotonic()
    (report,) = _reports(moves, "backup", "--limit", PRIMARY, "--confirm-size")
    rows = report["reply"]["services"]
    bad = [row["service"] for row in rows if not row["ok"]]
    claim(not bad, f"no backup of {', '.join(bad)}")
    added = sum(row["added"] or 0 for row in rows)
    say("backup", f"{len(rows)} services, {added / 1e6:.1f} MB new, {time.monotonic() - began:.0f} s")
    return {writer.name_: _count(writer) for writer in crowd.writers}


def _count(writer: Writer) -> int:
    return int(str(writer.rows()["count"]))


def _attack(moves: Moves, say: Say, claim: Claim) -> None:
    (row,) = _reports(moves, "repo", "tamper", "--limit", PRIMARY, "--repo", "offsite")
    claim(bool(row["ok"]), f"the host's own key did harm that stayed: {row['error']}")
    say(
        "host's key attacks it",
        f"{row['refused']} removals refused, {row['hidden']} objects hidden and {row['overwritten']} overwritten; "
        f"undone with the owner's key, {row['compared']} files compared",
    )


def _restore(moves: Moves, say: Say, claim: Claim, kept: dict[str, int]) -> None:
    writer = Writer(moves.cloud.edges, VAULT)
    moves.run(PRIMARY, HOLD)  # after a tick that keeps the loss, `restore` asks which of the two is meant
    moves.run(PRIMARY, f"rm -rf {DATA}/data/* && docker restart vaultwarden-vaultwarden-1")
    _until(lambda: _answers(writer))
    say("rm -rf, by mistake", f"vaultwarden comes up empty: {_count(writer)} of {kept[VAULT]} rows")
    claim(_count(writer) == 0, "deleting the data deleted nothing")
    began = time.monotonic()
    (report,) = _reports(moves, "restore", "vaultwarden", "--host", PRIMARY, "--yes", PRIMARY)
    (row,) = report["reply"]["services"]
    moves.run(PRIMARY, "systemctl start $(cd /etc/systemd/system && ls -d understudy-backup-*.timer)")
    _until(lambda: _answers(writer))
    back = _count(writer)
    claim(back == kept[VAULT], f"{kept[VAULT]} rows were acknowledged before the backup, {back} came back")
    down = sum(row["phases"].get(phase, 0) for phase in ("stop", "swap", "start", "probe"))
    say(
        "restore vaultwarden",
        f"{back} of {kept[VAULT]} rows, integrity and probe right, {time.monotonic() - began:.0f} s ({down:.1f} s down); "
        "what it replaced is kept aside",
    )


def _answers(writer: Writer) -> bool:
    try:
        writer.rows()
    except RuntimeError:
        return False
    return True


def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.3)


def _refresh(moves: Moves, say: Say, claim: Claim) -> None:
    began = time.monotonic()
    moves.run(STANDBY, f"systemctl start understudy-refresh-{GROUP}.service", timeout=300)
    offered = moves.agent(STANDBY, "journey", {"group": GROUP})["offered"]
    services = offered[0]["services"] if offered else {}
    claim(
        {"vaultwarden", "nextcloud"} <= set(services), "the standby has no whole copy of the critical group"
    )
    say(
        "standby refreshes",
        f"{len(services)} services restored from the repository and checked, {time.monotonic() - began:.0f} s: "
        "each refresh is a restore test",
    )


def _failover(moves: Moves, crowd: Crowd, say: Say, claim: Claim) -> None:
    began = time.time()
    time.sleep(3)
    moves.cloud.control.forget()
    killed = time.time()
    moves.kill(PRIMARY)
    say("power cut: lemongrab", "no warning, nothing written out")
    record = moves.move("failover", STANDBY, "--yes", STANDBY)
    shown = {one["service"]: one for one in record["shown"]}
    ages = ", ".join(f"{name} {one['age']:.0f} s" for name, one in sorted(shown.items()))
    say("failover to standby", f"would lose: {ages}      (asked; the demo says yes)")
    crowd.wait_for_rows(5)
    losses = {writer.name_: writer.loss(began - 1) for writer in crowd.writers}
    lost = [one for loss in losses.values() for one in loss.lost]
    oldest = min(float(one["at"]) for one in shown.values())
    claim(all(one.over >= oldest for one in lost), "a row older than the snapshot is missing")
    outage = max(writer.longest_gap(killed - 1) for writer in crowd.writers)
    claim(moves.superseded(PRIMARY, moves.batch_at(began)) == 0, "the dead host acknowledged a write")
    say(
        "served by standby",
        f"{at(record, 'probe'):.0f} s after the yes, {outage:.0f} s after the last write; lost {len(lost)} rows, all newer "
        "than the snapshot, as announced",
    )


def _return(moves: Moves, say: Say, claim: Claim) -> None:
    moves.switch_on(PRIMARY)
    held: dict[str, Any] = {}

    def looked() -> bool:
        nonlocal held
        held = moves.agent(PRIMARY, "journey", {"group": GROUP})
        return bool(held["owner"] == STANDBY)

    _until(looked, GUARD_LOOKS)
    running = moves.run(
        PRIMARY, "docker ps --format '{{.Names}}' | grep -E '^(vaultwarden|nextcloud)-' || true"
    )
    claim(
        held.get("owner") == STANDBY and not running,
        f"the old primary started {running or 'without having looked'}",
    )
    say(
        "power on: lemongrab",
        f"its guard: epoch {held.get('epoch')} is owned by standby: it stands by, nothing started",
    )


def _back(moves: Moves, crowd: Crowd, say: Say, claim: Claim) -> None:
    began = time.time()
    record = moves.move("switchover", PRIMARY)
    crowd.wait_for_rows(5)
    losses = [writer.loss(began) for writer in crowd.writers]
    lost, acknowledged = sum(len(loss.lost) for loss in losses), sum(loss.acknowledged for loss in losses)
    claim(lost == 0, f"the switchover lost {lost} acknowledged rows")
    refused = max(writer.longest_gap(began) for writer in crowd.writers)
    say(
        "switchover back",
        f"{record['seconds']:.0f} s in all, writes refused for {refused:.0f} s; lost {lost} of {acknowledged}",
    )
