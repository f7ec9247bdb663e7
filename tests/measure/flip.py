"""Flips of the critical group between the lab's two hosts while visitors ask at every colo: what they meet, how long it takes.

    PYTHONPATH=. python tests/measure/flip.py [--flips 6] [--delays 0.2,3]

Both hosts have been converged (`understudy converge -i inventory/lab.py`). Every change reaches each colo and resolver after
a delay drawn evenly between the two numbers, records and texts on their own.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections import Counter

from lab import world
from understudy import project
from understudy.traffic import flip, public
from understudy.traffic.edge import open_edge

NAME, PATH = "vault.example.org", "/alive"
INVENTORY = "inventory/lab.py"


def visit(colo: str, statuses: Counter[int], stopped: threading.Event) -> None:
    """One visitor of a colo, asking every 20 ms."""
    while not stopped.is_set():
        statuses[public.ask(NAME, PATH, colo).status] += 1
        time.sleep(0.02)


def main() -> None:
    """Print one line a flip, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=6)
    parser.add_argument("--delays", default="0.2,3")
    options = parser.parse_args()
    low, high = (float(part) for part in options.delays.split(","))
    world.use_lab_key()
    cloud, edge = world.cloud(), open_edge(project.hosts(INVENTORY))
    cloud.control.delays(text=(low, high), route=(low, high))
    tunnels = {tunnel.id: host for host, tunnel in edge.tunnels().items()}
    print(f"delays {low:g} to {high:g} s for each colo, CNAME and TXT independently")
    everything, batches = Counter[int](), list[float]()
    for number in range(options.flips):
        held = flip.read(edge, ["critical"])
        target = next(host for host in sorted(tunnels.values()) if host != held["critical"].ownership.owner)
        cloud.control.forget()
        statuses, stopped = Counter[int](), threading.Event()
        threads = [threading.Thread(target=visit, args=(colo, statuses, stopped)) for colo in cloud.edges]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        began, at = time.monotonic(), time.time()
        flip.flip(edge, held, target)
        batches.append(time.monotonic() - began)
        cloud.control.settle(60)
        time.sleep(0.5)
        stopped.set()
        for thread in threads:
            thread.join()
        rows = cloud.control.requests()
        firsts = {
            colo: min(r["at"] for r in rows if r["colo"] == colo and tunnels[r["tunnel"]] == target) - at
            for colo in {row["colo"] for row in rows}
        }
        everything += statuses
        answered = ", ".join(f"{colo} after {seconds:.1f} s" for colo, seconds in sorted(firsts.items()))
        print(f"{number + 1}. to {target}: {dict(statuses)}; the new host answered at {answered}")
    cloud.control.clear()
    failed = sum(count for status, count in everything.items() if status != 200)
    median = statistics.median(batches)
    print(f"{sum(everything.values())} requests, {failed} failed; batch and its reads: median {median:.2f} s")


if __name__ == "__main__":
    main()
