"""The order in which a host receives its stack; the example's deploy.py spells the same out (a test compares them)."""

from __future__ import annotations

from ..operations import firewall, proof, stacks, traffic, tree, units, updates
from ..operations import host as base


def whole_host() -> None:
    """Every operation of a converge. Call it from a deploy file, after session.start."""
    base.locked(name="Take the host's lock")
    traffic.tunnelled(name="Give the host its tunnel")
    base.checked(name="Check that this host can take the change")
    base.packages(name="Install packages")
    base.users(name="Create service users")
    updates.prepared(name="Snapshot what changes its version")
    tree.reconciled(name="Write files, validated by the host's own tools")
    units.settled(name="Settle systemd units")
    firewall.closed(name="Load the firewall, proven by a new connection")
    traffic.led(name="Point the public names at their owners")
    stacks.running(name="Bring stacks up in order")
    updates.judged(name="Keep versions that serve, put back what does not")
    proof.answered(name="Probe every service by content")
