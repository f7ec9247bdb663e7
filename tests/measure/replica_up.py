"""Measures `replica up` in the practice world: its phases, what kills leave behind, a wrong host key, writes when all is done.

python tests/measure/replica_up.py [KILLS]: needs `understudy lab up`, and a converged primary if the replica is to be
converged to the end. Prints a table; exits 1 when something does not hold. Takes minutes.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from lab.hetzner.daemon import Hetzner, find_hetzner  # noqa: E402
from lab.hetzner.faults import Fault  # noqa: E402
from lab.hetzner.state import KINDS  # noqa: E402
from lab.settings import find_settings  # noqa: E402

INVENTORY = ["-i", "inventory/lab.py"]
ONE = {"servers": 1, "firewalls": 1, "ssh_keys": 1, "volumes": 0, "primary_ips": 2, "placement_groups": 0}
NONE = dict.fromkeys(ONE, 0)


@dataclass
class Measurement:
    """What was found, and what did not hold."""

    hetzner: Hetzner
    broken: list[str] = field(default_factory=list)

    def claim(self, holds: bool, sentence: str) -> None:
        print(f"{'ok    ' if holds else 'BROKEN'}  {sentence}", flush=True)
        if not holds:
            self.broken.append(sentence)

    def objects(self) -> dict[str, int]:
        """How many of each kind the project holds."""
        data = json.loads((self.hetzner.folder / "lab.json").read_text())
        return {kind: len(data[kind]) for kind in KINDS if kind != "actions"}

    def machines(self) -> int:
        """Lab hosts behind servers, whatever the API says."""
        project = find_settings().project
        words = ["docker", "ps", "-a", "-q", "--filter", f"name={project}-hcloud-"]
        return len(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())


def start(*words: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "understudy.cli", "replica", *words, *INVENTORY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYINFRA_PROGRESS": "off"}
    return subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def verb(*words: str) -> tuple[int, str, float]:
    """Exit code, output and seconds."""
    begin = time.monotonic()
    process = start(*words)
    said, _ = process.communicate(timeout=1800)
    return process.returncode, said, time.monotonic() - begin


def facts(said: str) -> dict[str, Any]:
    line = next((line for line in reversed(said.splitlines()) if line.startswith("{")), "{}")
    found: dict[str, Any] = json.loads(line)
    return found


def main() -> int:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    found = Measurement(find_hetzner(find_settings()))
    found.hetzner.faults()
    verb("down", "--yes=understudy", "--everything", "--force")
    seconds = bare(found)
    found.claim(*impostor(found))
    whole(found)
    for number in range(kills):
        killed(found, number, random.uniform(0.0, seconds))
    print(f"{len(found.broken)} claims broken")
    return 1 if found.broken else 0


def bare(found: Measurement) -> float:
    """Up without a converge; returns the seconds of its work."""
    code, said, seconds = verb("up", "--no-converge", "--json")
    print(f"up without converge: {seconds:.1f} s wall, {facts(said).get('phases')}", flush=True)
    found.claim(code == 0 and found.objects() == ONE, f"up ends with {found.objects()}, exit {code}")
    removed(found)
    return float(sum(facts(said).get("phases", {"": seconds}).values()))


def removed(found: Measurement) -> None:
    code, said, seconds = verb("down", "--yes=understudy")
    gone = found.objects() == NONE and found.machines() == 0
    found.claim(code == 0 and gone, f"down in {seconds:.1f} s leaves {sum(found.objects().values())} objects")
    if code:
        print(said)


def impostor(found: Measurement) -> tuple[bool, str]:
    """A machine that does not have the host key it should have is not logged into."""
    found.hetzner.faults(Fault("impostor", "POST", "/servers"))
    code, said, _ = verb("up", "--no-converge")
    found.hetzner.faults()
    last = said.strip().splitlines()[-1] if said.strip() else ""
    verb("down", "--yes=understudy", "--force")
    return (
        code == 3 and "another SSH host key" in said,
        f"wrong host key at the first connection: exit {code}: {last}",
    )


def killed(found: Measurement, number: int, after: float) -> None:
    """Up, killed at a random moment, then run again."""
    process = start("up", "--no-converge")
    assert process.stdout
    first = process.stdout.readline()  # the verb has begun: what comes before is Python's start
    time.sleep(after)
    ended = process.poll() is not None
    process.kill()
    said = [first, *(process.communicate()[0] or "").strip().splitlines()]
    where = said[-1].strip()
    left = found.objects()
    code, again, seconds = verb("up", "--no-converge", "--json")
    now = found.objects()
    found.claim(
        code == 0 and now == ONE and found.machines() == 1,
        f"kill {number + 1} after {after:.1f} s{' (had ended)' if ended else ''} at {where!r}, leaving {left}: again {seconds:.1f} s, exit "
        f"{code}, {now['servers']} server, {found.machines()} machine",
    )
    if code:
        print(again)
    removed(found)


def whole(found: Measurement) -> None:
    """From nothing to converged, and once more."""
    code, said, seconds = verb("up", "--json")
    print(f"up with converge: {seconds:.1f} s wall, {facts(said).get('phases')}", flush=True)
    found.claim(code == 0, f"from nothing to converged: exit {code}")
    found.hetzner.forget()
    code, said, seconds = verb("up", "--json")
    calls, writes = found.hetzner.calls(), found.hetzner.writes()
    found.claim(
        code == 0 and not writes,
        f"once more: {seconds:.1f} s, {len(calls)} requests to Hetzner, {len(writes)} of them writes, exit {code}",
    )
    removed(found)


if __name__ == "__main__":
    raise SystemExit(main())
