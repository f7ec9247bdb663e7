"""Restores of 2 GB and more beside bare `restic restore` of the same snapshot on the same host, turn by turn.

`make measure-throughput ARGS="3 2.2"` (rounds, GB). Files only is what is compared, the whole restore stands beside it.
Ends 1 below 0.9 of restic's own throughput (protocol.md's bar).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench import ask, ready, staged
from conftest import Lab, LabHost
from project import Project

from lab.ssh import on_host

SERVICE, FOLDER = "kitchenowl", "/home/docker-projects/kitchenowl/data/upload/measure"
BARE = "/home/measure-bare"
BAR = 0.9

# Photographs, documents and a few films: (count, bytes each) for each GB.
SIZES = ((20, 20_000_000), (150, 3_000_000), (1500, 100_000))


def main(rounds: int, gigabytes: float) -> int:
    lab = staged()
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        ready(lab, Project.copy(Path(folder)))
    host = lab.host()
    try:
        return measure(lab, host, rounds, gigabytes)
    finally:
        host.run(f"rm -rf {FOLDER} {BARE} /root/measure-aws /root/measure-password")


def measure(lab: Lab, host: LabHost, rounds: int, gigabytes: float) -> int:
    fill(host, gigabytes)
    saved = ask(host, "backup", services=[SERVICE], confirm=True)["services"][0]
    assert saved["ok"], saved
    size = saved["bytes"] / 1e9
    print(f"{saved['files']} files, {size:.2f} GB; backup {saved['seconds']} s")
    print(f"{'round':>5}{'restic s':>10}{'files s':>10}{'ratio':>8}{'whole s':>10}{'down s':>8}")
    ratios = []
    for number in range(1, rounds + 1):
        bare = bare_restore(lab, host, saved["snapshot"])
        row = ask(host, "restore", services=[SERVICE], confirm_loss=True, keep_old_days=0)["services"][0]
        phases = row["phases"]
        down = sum(phases.get(name, 0) for name in ("stop", "swap", "databases", "start", "probe"))
        ratios.append(bare / phases["files"])
        print(
            f"{number:>5}{bare:>10.2f}{phases['files']:>10.2f}{ratios[-1]:>8.2f}{row['seconds']:>10.2f}{down:>8.2f}",
            flush=True,
        )
    median = statistics.median(ratios)
    print(f"median {median:.2f} of restic's own throughput (bar {BAR})")
    return 0 if median >= BAR else 1


def fill(host: LabHost, gigabytes: float) -> None:
    """Files that neither compress nor repeat."""
    host.run(f"rm -rf {FOLDER}; mkdir -p {FOLDER}", check=True)
    for count, size in SIZES:
        wanted = max(1, int(count * gigabytes))
        each = f"for i in $(seq {wanted}); do head -c {size} /dev/urandom >{FOLDER}/{size}-$i; done"
        host.run(each, check=True, timeout=1200)


def bare_restore(lab: Lab, host: LabHost, snapshot: str) -> float:
    """Seconds of restic alone, onto the same disk, past its cache of data as ours is."""
    secrets = lab.store.secrets("lemongrab")
    login = f"[default]\naws_access_key_id = {secrets['OFFSITE_KEY_ID']}\naws_secret_access_key = {secrets['OFFSITE_KEY']}\n"
    for name, text in (("aws", login), ("password", secrets["OFFSITE_PASSWORD"])):
        on_host(host.settings, host.ip, f"umask 077; cat >/root/measure-{name}; rm -rf {BARE}", stdin=text)
    url = f"{lab.store.settings()['offsite']['url']}/rest"
    words = f"restic -q -r {url} --password-file /root/measure-password restore {snapshot}:/{SERVICE} --target {BARE} --no-lock"
    begun = time.monotonic()
    host.run(
        f"AWS_SHARED_CREDENTIALS_FILE=/root/measure-aws RESTIC_CACHE_DIR=/var/cache/understudy/restic {words}",
        check=True,
        timeout=3600,
    )
    took = time.monotonic() - begun
    host.run(f"rm -rf {BARE}; sync", check=True)
    return took


if __name__ == "__main__":
    given = sys.argv[1:]
    raise SystemExit(main(int(given[0]) if given else 3, float(given[1]) if len(given) > 1 else 2.2))
