"""Runs on the lab host: `fill COUNT`, `tick` and `bare`; each prints one JSON line. Used by idle_tick.py.

``bare`` is what a careful owner's own script would do for the same two services: pg_dump in the server's container,
SQLite's online backup and its check, then one restic run over dumps and folders, with the same parent hint and without
a scan, so that restic has no more to do than in our tick.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

AGENT = ["/usr/bin/python3", "-IB", "/usr/lib/understudy/agent.pyz"]
ASK = {"services": ["nextcloud", "vaultwarden"], "repositories": ["offsite"], "reason": "measure"}
FOLDER = "/var/lib/understudy-measure"
APP, DATA = "/home/apps/nextcloud/app", "/home/docker-projects/vaultwarden/data"
SECRETS = "/etc/understudy/secrets/backup"
RESTIC = {
    "RESTIC_REPOSITORY_FILE": "/run/understudy/repositories/offsite%2Fcritical",
    "RESTIC_PASSWORD_FILE": f"{SECRETS}/offsite-password",
    "AWS_SHARED_CREDENTIALS_FILE": f"{SECRETS}/offsite-aws",
    "RESTIC_CACHE_DIR": "/var/cache/understudy/restic",
    "HOME": "/root",
    "PATH": os.environ["PATH"],
}
ONLINE = (
    "import sqlite3, sys, os; live = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True)\n"
    "if os.path.exists(sys.argv[2]): os.unlink(sys.argv[2])\n"
    "copy = sqlite3.connect(sys.argv[2]); live.backup(copy)\n"
    "assert copy.execute('PRAGMA integrity_check').fetchone() == ('ok',)"
)


def run(argv: list[str], **more: Any) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, **more).stdout


def timed(work: Any) -> tuple[float, float, Any]:
    """(wall seconds, processor seconds of what was started, what it gave)."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    found = work()
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(wall, 3), round(spent, 3), found


def restic(*argv: str) -> str:
    return run(["restic", *argv], env=RESTIC)


def dumps() -> None:
    """Byte-stable as ours are: an unchanged file is left, or restic would have to read what we need not."""
    os.makedirs(FOLDER, exist_ok=True)
    for name, words in (
        ("db.pgdump", ["pg_dump", "-U", "nextcloud", "-Fc", "-Z0", "nextcloud"]),
        ("globals.sql", ["pg_dumpall", "-U", "nextcloud", "--globals-only"]),
    ):
        with open(f"{FOLDER}/{name}", "w") as stream:
            subprocess.run(["docker", "exec", "nextcloud-db-1", *words], check=True, stdout=stream)
    run(["python3", "-ISBc", ONLINE, f"{DATA}/db.sqlite3", f"{FOLDER}/db.sqlite3"])


def upload(parent: str) -> str:
    hint = ["--parent", parent] if parent else []
    words = [
        "--json",
        "--no-scan",
        "--host",
        "bare",
        "--tag",
        "bare",
        *hint,
        "--exclude",
        f"{DATA}/db.sqlite3*",
    ]
    return restic("backup", *words, FOLDER, APP, DATA)


def bare() -> dict[str, Any]:
    os.makedirs(FOLDER, exist_ok=True)
    note = Path(f"{FOLDER}.parent")
    parent = note.read_text() if note.exists() else ""
    wall_dumps, spent_dumps, _ = timed(dumps)
    wall, spent, out = timed(lambda: upload(parent))
    note.write_text(json.loads(out.splitlines()[-1])["snapshot_id"])
    return {"dumps": wall_dumps, "restic": wall, "cpu": round(spent_dumps + spent, 3)}


def tick() -> dict[str, Any]:
    wall, spent, out = timed(lambda: run([*AGENT, "backup", "-"], input=json.dumps(ASK)))
    reply = json.loads(out.splitlines()[-1])["reply"]
    assert all(row["ok"] for row in reply["services"]), reply
    return {"wall": wall, "cpu": spent, "inside": reply["seconds"]}


def fill(count: int) -> dict[str, Any]:
    """Snapshots as ticks leave them, each with something new, so that packs and indexes are as many as in real life."""
    have = len(json.loads(restic("snapshots", "--json", "--no-lock")))
    os.makedirs(f"{FOLDER}-fill", exist_ok=True)
    for number in range(have, count):
        with open(f"{FOLDER}-fill/changed", "wb") as stream:
            stream.write(os.urandom(20_000))
        tags = ["bare", "filler"]
        words = [word for tag in tags for word in ("--tag", tag)]
        restic("backup", "--json", "--no-scan", "--host", f"fill{number}", *words, f"{FOLDER}-fill")
    return {"snapshots": max(have, count), "made": max(0, count - have)}


def main() -> None:
    work = {"bare": bare, "tick": tick, "fill": lambda: fill(int(sys.argv[2]))}[sys.argv[1]]
    print(json.dumps(work()))


main()
