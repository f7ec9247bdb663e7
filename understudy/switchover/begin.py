"""Before anything is changed: what stands where, why it may not begin, and the journey that it becomes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from .. import clock, owned, probes, project, runner
from ..cloudflare import Access
from ..errors import BadInput, Refused, UnderstudyError
from ..hostside import HostsideError
from ..owned import Owned
from ..traffic import flip
from ..traffic.edge import Edge, find_edge
from . import machine, through
from .hosts import Remote, Unreachable
from .loss import Loss, losses, too_old
from .machine import Journey
from .perform import FLIP_TIMEOUT, Group
from .refusal import Facts, reasons

__all__ = ["Scene", "hearing", "look", "scene"]

HOST_GROUP = "host"
_LOOK = 60


@dataclass
class Scene:
    """The inventory as a switchover needs it: its hosts, the way to the zone (None: the owner's own), connections."""

    inventory: str
    hosts: dict[str, Owned]
    remotes: dict[str, Remote]
    edge: Edge | None

    def host(self, name: str) -> Owned:
        """Raises BadInput for a host that the inventory does not have."""
        if name not in self.hosts:
            raise BadInput(f"{self.inventory} has no host {name!r}; it has {', '.join(self.hosts)}")
        return self.hosts[name]

    def group(self, name: str, host: str) -> Group:
        """A group as a host carries it, with the requests that prove it through the edge."""
        one = self.host(host)
        desired = project.desired_for(host, one.data)
        names = [n for n in desired.services if desired.catalog.services[n].block.group == name]
        if not names:
            raise BadInput(
                f"{host} carries no service of the group {name!r}; it carries {', '.join(self.groups(host))}"
            )
        kept = one.plan["services"]
        wanted = probes.public(desired, name)
        return Group(name, tuple(n for n in names if n in kept), tuple(wanted))

    def groups(self, host: str) -> list[str]:
        """The move groups that a host carries, as its own settings say."""
        one = self.host(host)
        desired = project.desired_for(host, one.data)
        found = (desired.catalog.services[name].block.group for name in desired.services)
        return sorted({group for group in found if group != HOST_GROUP})

    def known(self, group: str) -> None:
        """Raises BadInput for a group that no host of the inventory carries."""
        found = sorted({name for host in self.hosts for name in self.groups(host)})
        if group not in found:
            raise BadInput(f"no host carries a service of the group {group!r}; there are {', '.join(found)}")

    def close(self) -> None:
        """End the connections."""
        for remote in self.remotes.values():
            remote.close()


def scene(inventory: str) -> Scene:
    """Read the inventory; nothing is contacted. Raises BadInput."""
    found = {one.name: one for one in owned.hosts(inventory)}
    remotes = {name: Remote(name, one.data) for name, one in found.items()}
    return Scene(inventory, found, remotes, _edge(inventory, found))


def _edge(inventory: str, hosts: Mapping[str, Owned]) -> Edge | None:
    if all(one.settings.edge != "cloudflare" for one in hosts.values()):
        return None
    edge = find_edge(project.hosts(inventory))
    if edge is None:
        raise Refused(
            "the names of this inventory are at Cloudflare, and there is no token to move them with: put it into "
            "secrets/cloudflare.yaml, or say `edge: external` and move them yourself; nothing was changed"
        )
    edge.account.access = _quick(edge.account.access)
    return edge


def _quick(access: Access) -> Access:
    return replace(access, timeout=FLIP_TIMEOUT)


def look(
    scene: Scene, group: str, target: str, *, forced: bool, stale: bool = False
) -> tuple[Journey, list[Loss]]:
    """The journey that may begin, and what it would lose. Raises Refused with every reason; nothing was changed."""
    scene.known(group)
    owner, epoch, claim = _ownership(scene, group, target)
    source = owner or next(name for name in scene.hosts if name != target)
    facts, lost = _facts(scene, group, source, target, owner, epoch, forced=forced)
    found = reasons(facts if not stale else _fresh(facts), forced=forced)
    if found:
        raise Refused("\n".join([*found, "nothing was changed"]))
    known = max((int(one.get("epoch") or 0) for one in (facts.source, facts.target) if one), default=0)
    journey = Journey(
        secrets.token_hex(4), group, source, target, epoch or known, claim,
        mode="forced" if forced else "planned", edge=scene.edge is not None,
        balanced=scene.edge is not None and scene.edge.world.balanced,
    )  # fmt: skip
    return machine.start(journey), lost


def _fresh(facts: Facts) -> Facts:
    return replace(facts, stale=())


def _ownership(scene: Scene, group: str, target: str) -> tuple[str, int, str]:
    """Owner, epoch and the claim's id; without a zone what the hosts say, and no id."""
    if scene.edge:
        try:
            held = flip.read(scene.edge, [group])[group]
        except UnderstudyError as error:
            raise Refused(f"{error}\nnothing was changed") from error
        return held.ownership.owner, held.ownership.epoch, held.claim_id
    newest: dict[str, Any] = {}
    for remote in scene.remotes.values():
        said, _ = _said(remote, group)
        if said and int(said["epoch"]) >= int(newest.get("epoch", 0)):
            newest = {**said, "owner": said["owner"] or _first(scene, group)}
    return str(newest.get("owner") or _first(scene, group)), int(newest.get("epoch") or 0), ""


def _first(scene: Scene, group: str) -> str:
    """Who owns a group that nobody has ever moved."""
    names = [name for name, one in scene.hosts.items() if one.settings.role == "primary"]
    return next((name for name in names if group in scene.groups(name)), "")


def _said(remote: Remote, group: str) -> tuple[dict[str, Any] | None, str]:
    try:
        return remote.ask("journey", {"group": group}, 15), ""
    except (Unreachable, HostsideError) as error:
        return None, str(error)


def hearing(remote: Remote, group: str) -> tuple[dict[str, Any] | None, str]:
    """What a host says of the group, or why it says nothing.

    A guard that no resolver has answered since the boot may only not have looked since the records were made (it does so
    every 30 seconds): it looks now.
    """
    said, silent = _said(remote, group)
    if said is None or said.get("silence", 0.0) is not None:
        return said, silent
    with suppress(HostsideError, Unreachable):
        remote.ask("guard", {"groups": [group]}, _LOOK)
    return _said(remote, group)


def _facts(
    scene: Scene, group: str, source: str, target: str, owner: str, epoch: int, *, forced: bool
) -> tuple[Facts, list[Loss]]:
    taking = forced and owner != target
    # Side by side: a host that is gone takes a connection's whole patience to be found so.
    with ThreadPoolExecutor(2) as both:
        asked = both.submit(_target, scene.remotes[target], group, newest=taking)
        here, source_silent = (
            hearing(scene.remotes[source], group)
            if source in scene.remotes
            else (None, "not in the inventory")
        )
        there, silent, newest = asked.result()
    wanted = scene.group(group, source if source in scene.hosts else target)
    carried = set(there["services"]) if there else set()
    missing = tuple(name for name in wanted.services if there and name not in carried)
    lost: list[Loss] = []
    if there and taking:
        lost = losses(newest, wanted.services, clock.now())
    pending = _pending(scene, target) if there and not forced and not missing and owner != target else 0
    objectives = scene.host(target).objectives().get(group, {})
    return Facts(
        group, source, target, owner, epoch, here, there, silent, source_silent,
        there["journey"] if there else None, missing, pending, tuple(too_old(lost, objectives)),
    ), lost  # fmt: skip


def _target(
    target: Remote, group: str, *, newest: bool
) -> tuple[dict[str, Any] | None, str, dict[str, dict[str, Any]]]:
    """What the target says, why it says nothing, and with ``newest`` what it would begin from."""
    there, silent = hearing(target, group)
    return there, silent, _newest(target, group) if there and newest else {}


def _newest(target: Remote, group: str) -> dict[str, dict[str, Any]]:
    """What the target would begin from: refreshed now if the repository answers."""
    with suppress(HostsideError, Unreachable):
        target.ask("refresh", {"group": group, "lock_wait": 60}, 3600)
    return through.published(target, group)


def _pending(scene: Scene, target: str) -> int:
    """How many things a converge of the target would change."""
    result = runner.run(
        scene.inventory, str(runner.DEPLOYS / "plan.py"), {}, ["-y", "--limit", target], quiet=True
    )
    report = next((one for one in result.reports if one["host"] == target), None)
    if report is None or report.get("error"):
        raise Refused(
            f"{target} cannot be compared with its description: {(report or {}).get('error', 'no answer')}; nothing was changed"
        )
    # A fenced host's tunnel has another token since: it is let in again when the move begins.
    admitted = (through.TOKEN, "unit:cloudflared.service")
    return sum(item["what"] not in admitted for item in report["plan"])
