"""What `understudy watch --here --auto` does when a group is served by nobody: it looks at the lease, and moves the group."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from . import cli_switchover, project
from .agent.errors import AgentError
from .agent.owner import storelease
from .agent.owner.objects import Place
from .errors import BadInput, Refused, UnderstudyError
from .ownership import auto, auto_secrets
from .ownership.auto import Sight
from .ownership.watching_here import Group, Look
from .settings import HostSettings, settings_of
from .switchover import begin, journal, machine
from .switchover.begin import Scene
from .switchover.machine import Journey

__all__ = ["Watcher"]

console = Console(stderr=True, highlight=False, soft_wrap=True)


class Watcher:
    """Looks at the leases of an inventory's groups and moves those that are over. Raises BadInput without auto mode."""

    def __init__(self, inventory: str, groups: Sequence[Group]) -> None:
        self.inventory = inventory
        hosts = project.hosts(inventory)
        settings = [settings_of(name, data) for name, data in hosts]
        found = next((one for one in settings if one.ownership.auto), None)
        if found is None:
            raise BadInput("--auto needs ownership.auto in the inventory or group_data (docs/replica.md)")
        self.settings: HostSettings = found
        self.place: Place = auto.place(found, project.store_of(found).load(auto_secrets.OWNER))
        self.groups = {one.name: one for one in groups if found.ownership.leased(one.name)}

    def act(self, looks: Sequence[Look]) -> list[str]:
        """Look at each lease, move what may be moved; sentences of what was done or could not be."""
        known, kept, said = auto.remembered(), dict[str, Sight](), list[str]()
        boot = storelease.boot_id()
        for look in (one for one in looks if one.group in self.groups):
            try:
                seen = auto.sight(self.place, look.group, known.get(look.group), auto.now(), boot)
            except AgentError as error:
                said.append(f"{look.group}: {error.sentence}")
                seen = known.get(look.group)
            if seen:
                kept[look.group] = seen
        auto.remember(kept)
        for look in (one for one in looks if one.group in self.groups):
            said += self._moved(look, kept.get(look.group))
        return said

    def _moved(self, look: Look, seen: Sight | None) -> list[str]:
        group, ttl = self.groups[look.group], self._ttl()
        heirs = tuple(name for name in group.heirs if name != look.owner)
        why = auto.bars(look, seen, ttl, group.patience, auto.now(), heirs)
        if why or seen is None:
            return (
                []
                if look.cause == "well" or look.seconds < group.patience
                else [f"{look.group}: nothing is moved: {why}"]
            )
        scene = begin.scene(self.inventory)
        try:
            with journal.locked():
                return [self._move(scene, look, seen, heirs)]
        except (UnderstudyError, AgentError) as error:
            return [f"{look.group}: {getattr(error, 'sentence', error)}"]
        finally:
            scene.close()

    def _ttl(self) -> float:
        assert self.settings.ownership.auto is not None
        return float(self.settings.ownership.auto.ttl)

    def _move(self, scene: Scene, look: Look, seen: Sight, heirs: tuple[str, ...]) -> str:
        interrupted = next((one for one in journal.open_journeys() if one.group == look.group), None)
        if interrupted:
            if interrupted.mode != "forced":
                raise Refused(
                    f"a planned switchover to {interrupted.target} is open: `understudy switchover --resume`"
                )
            return self._drive(scene, machine.resumed(interrupted), again=True)
        targets = (seen.owner,) if auto.continues(seen, look.epoch, heirs) else heirs
        refused = []
        for target in targets:
            try:
                journey, _ = begin.look(scene, look.group, target, forced=True)
            except Refused as error:
                refused.append(f"{target}: {error}")
                continue
            if journey.epoch != look.epoch:
                raise Refused(f"{look.group} has moved meanwhile: the zone is at epoch {journey.epoch}")
            auto.take(self.place, look.group, seen, target, journey.epoch + 1, self._ttl())
            return self._drive(scene, journey)
        if auto.continues(seen, look.epoch, heirs):
            auto.give_back(self.place, look.group, seen, look.owner, look.epoch)
            refused.append(f"the lease is {look.owner}'s again")
        raise Refused("; ".join(refused) or "no other host may own it")

    def _drive(self, scene: Scene, journey: Journey, again: bool = False) -> str:
        begun = time.monotonic()
        ended: dict[str, Any] = cli_switchover.drive(scene, journey, begun, again=again)
        if ended["ended"] != "moved":
            raise Refused(f"{journey.group}: {ended['ended']}: {ended['why']}")
        return f"{journey.group} was moved from {journey.source} to {journey.target} by itself: the lease of {journey.source} was over"
