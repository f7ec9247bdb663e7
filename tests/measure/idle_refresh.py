"""Refreshes of a replica: requests and calls of an idle one, and a full and a changed one beside bare restic restores.

    PYTHONPATH=. python tests/measure/idle_refresh.py [--rounds 5] [--megabytes 200] [--snapshots 0]

The lab's two hosts are staged and converged, with guards (UNDERSTUDY_LAB_RESOLVERS where the lab has none of its own), and
lemongrab owns the group. ``--megabytes`` of files are put into Nextcloud's data first; ``--snapshots`` makes the
repository hold that many more. Requests are those that the relay before the store counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from lab import tools
from lab.settings import find_settings
from lab.ssh import on_host
from lab.staging import staged
from lab.storage.stores import find_store

GROUP, REPOSITORY = "critical", "offsite"
AGENT = "/usr/bin/python3 -IB /usr/lib/understudy/agent.pyz"
DATA = "/home/apps/nextcloud/app/data/measure"
BARE = """set -e
cd /run/understudy/repositories
export RESTIC_REPOSITORY_FILE=/run/understudy/repositories/{repository}%2F{group}
export RESTIC_PASSWORD_FILE=/etc/understudy/secrets/backup/{repository}-password
export AWS_SHARED_CREDENTIALS_FILE=/etc/understudy/secrets/backup/{repository}-aws
export RESTIC_CACHE_DIR=/var/cache/understudy/restic
{prepare}
python3 - <<'END'
import subprocess, time
began = time.monotonic()
subprocess.run(["restic", "restore", "--no-lock", "--quiet", "{snapshot}", "--target", "/var/lib/docker/bare-restore"] + {more}, check=True)
print(time.monotonic() - began)
END
"""


class World:
    """The two hosts, and what passes on the way to their store."""

    def __init__(self) -> None:
        tools.put_on_path()
        self.settings = find_settings()
        self.facts = staged(self.settings)
        self.relay = find_store(self.settings, self.facts).relay

    def host(self, name: str, command: str, stdin: str = "") -> str:
        return on_host(
            self.settings, self.facts.hosts[name].ip, command, stdin=stdin, timeout=7200, check=False
        ).stdout

    def verb(self, name: str, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        out = self.host(name, f"{AGENT} {verb} -", json.dumps(request))
        reply: dict[str, Any] = json.loads(out.splitlines()[-1])["reply"]
        if "error" in reply:
            raise SystemExit(f"{verb} on {name}: {reply['error']}")
        return reply

    def backup(self) -> None:
        self.verb(
            "lemongrab",
            "backup",
            {"services": ["vaultwarden", "nextcloud"], "repositories": [REPOSITORY], "confirm": True},
        )

    def refresh(self) -> tuple[dict[str, Any], Any]:
        with self.relay.counting(REPOSITORY) as seen:
            reply = self.verb(
                "standby", "refresh", {"group": GROUP, "repository": REPOSITORY, "lock_wait": 60}
            )
        return reply, seen

    def bare(self, snapshot: str, fresh: bool) -> float:
        """Seconds of restic alone, on the file system of the slots' databases; by difference onto the last one otherwise."""
        script = BARE.format(
            repository=REPOSITORY, group=GROUP, snapshot=snapshot, more=[] if fresh else ["--overwrite", "if-changed", "--delete"],
            prepare="rm -rf /var/lib/docker/bare-restore" if fresh else "true",
        )  # fmt: skip
        return float(self.host("standby", "bash -s", script).splitlines()[-1])


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--megabytes", type=int, default=200)
    asked.add_argument("--snapshots", type=int, default=0)
    words = asked.parse_args()
    world = World()
    for name in ("lemongrab", "standby"):
        world.host(name, "systemctl stop 'understudy-backup-*.timer' 'understudy-refresh-*.timer'")
    fill = f"mkdir -p {DATA} && cd {DATA} && for n in $(seq {words.megabytes}); do head -c 1000000 /dev/urandom > f$n; done"
    world.host("lemongrab", fill)
    for _ in range(words.snapshots):
        world.backup()
    world.host("standby", f"rm -rf /var/lib/understudy/replica/{GROUP} /home/*/*/.understudy-restore-slot-*")
    world.backup()
    full, seen = world.refresh()
    snapshot = full["snapshots"]["nextcloud"]["snapshot"]
    print(f"full refresh   {row(full, seen)}  bare restic restore {world.bare(snapshot, fresh=True):.2f} s")
    world.host("lemongrab", f"head -c 1000000 /dev/urandom > {DATA}/warm")
    world.backup()
    world.refresh()  # the second slot is filled too
    idle, changed, bare = [], [], []
    for number in range(words.rounds):
        world.backup()
        reply, seen = world.refresh()
        assert reply["idle"], reply
        idle.append((reply, seen))
        print(f"idle refresh   {row(reply, seen)}")
        world.host("lemongrab", f"head -c 1000000 /dev/urandom > {DATA}/n{number}")
        world.backup()
        reply, seen = world.refresh()
        changed.append((reply, seen))
        bare.append(world.bare(reply["snapshots"]["nextcloud"]["snapshot"], fresh=False))
        print(f"changed        {row(reply, seen)}  bare restic restore by difference {bare[-1]:.2f} s")
    print(
        f"idle: {max(len(r['restic']) for r, _ in idle)} restic call, at most {max(s.total for _, s in idle)} requests, "
        f"median {statistics.median(r['seconds'] for r, _ in idle):.2f} s\n"
        f"changed by 1 MB: {max(len(r['restic']) for r, _ in changed)} calls, at most {max(s.total for _, s in changed)} requests, "
        f"median {statistics.median(r['seconds'] for r, _ in changed):.2f} s beside {statistics.median(bare):.2f} s bare"
    )


def row(reply: dict[str, Any], seen: Any) -> str:
    return f"{reply['seconds']:6.2f} s  {'+'.join(reply['restic']):24} {seen.total:3} requests  {reply['phases']}"


if __name__ == "__main__":
    main()
