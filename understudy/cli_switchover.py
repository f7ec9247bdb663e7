"""`understudy switchover` and `understudy failover`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console

from .cli_data import PROD, Inventory, Json, announce, confirm_host
from .errors import BadInput, Refused, UnderstudyError
from .switchover import begin, journal, loss, machine
from .switchover.begin import Scene
from .switchover.drive import Driver, ways_on
from .switchover.hosts import CONNECT, Remote
from .switchover.loss import Loss
from .switchover.machine import Journey
from .switchover.perform import Performer

console = Console(stderr=True, highlight=False, soft_wrap=True)

To = Annotated[str, typer.Option("--to", help="The host that is to own the groups.")]
Groups = Annotated[list[str] | None, typer.Option("--group", help="Only this move group; again for more.")]
Yes = Annotated[str, typer.Option("--yes", help="The target's name, to go on without a question.")]
Stale = Annotated[bool, typer.Option("--stale", help="From a copy that is older than promised.")]


def switchover(
    to: To = "",
    group: Groups = None,
    inventory: Inventory = PROD,
    force: Annotated[
        bool, typer.Option("--force", help="Without the owner, whose last writes are lost.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with one that was interrupted.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Take one back that was interrupted.")] = False,
    stale: Stale = False,
    yes: Yes = "",
    as_json: Json = False,
) -> None:
    """Move groups to another host, planned, by force, or back: one writer at every moment."""
    announce("failover" if force else "switchover", inventory, to, as_json)
    scene = begin.scene(inventory)
    try:
        with journal.locked():
            if resume or abort:
                done = [_again(scene, one, force, abort) for one in _interrupted(scene, group, to)]
            else:
                done = _move(scene, to, group or [], force, stale, yes)
    finally:
        scene.close()
    if as_json:
        print(json.dumps(done))
    if any(one["ended"] != "moved" for one in done) and not abort:
        raise typer.Exit(1)


def failover(
    to: To = "",
    group: Groups = None,
    inventory: Inventory = PROD,
    stale: Stale = False,
    yes: Yes = "",
    as_json: Json = False,
) -> None:
    """Move groups away from a host that is gone: shows what would be lost, and asks. The same as switchover --force."""
    switchover(to, group, inventory, force=True, stale=stale, yes=yes, as_json=as_json)


def _move(
    scene: Scene, to: str, groups: list[str], force: bool, stale: bool, yes: str
) -> list[dict[str, Any]]:
    if not to:
        raise BadInput(f"say --to with one of {', '.join(scene.hosts)}")
    scene.host(to)
    if journal.open_journeys():
        one = journal.open_journeys()[0]
        raise Refused(
            f"the switchover of {one.group} to {one.target} was interrupted at {one.at}: {ways_on(one)}; nothing was changed"
        )
    _note(f"asking the hosts: one that is gone is found so after {CONNECT} s")
    looked = [_looked(scene, name, to, force, stale) for name in groups or scene.groups(to)]
    what = ", ".join(one.group for one, _ in looked)
    if force:
        confirm_host(to, yes, f"This makes {to} the owner of {what}; what is shown above is lost")
    begun = time.monotonic()
    return [{**drive(scene, one, begun), "shown": [asdict(loss) for loss in shown]} for one, shown in looked]


def _looked(scene: Scene, group: str, to: str, force: bool, stale: bool) -> tuple[Journey, list[Loss]]:
    """The journey, and what was shown of it."""
    journey, lost = begin.look(scene, group, to, forced=force, stale=stale)
    if force:
        console.print(f"[bold]{group}[/bold] from {journey.source} to {to} would lose:")
        for line in loss.sentences(lost):
            console.print(f"  {line}")
    return journey, lost


def _interrupted(scene: Scene, groups: list[str] | None, to: str) -> list[Journey]:
    """Open journeys: of this project, else as hosts keep them. Raises BadInput when there are none."""
    found = journal.open_journeys() or list(_kept_by_hosts(scene, to))
    chosen = [one for one in found if not groups or one.group in groups]
    if not chosen:
        raise BadInput("no switchover was interrupted: there is nothing to go on with")
    return chosen


def _kept_by_hosts(scene: Scene, to: str) -> list[Journey]:
    found = []
    for name in [to] if to else list(scene.hosts):
        for group in scene.groups(name):
            try:
                kept = scene.remotes[name].ask("journey", {"group": group}, 15)["journey"]
            except UnderstudyError:
                continue
            if kept and not kept.get("ended"):
                found.append(Journey(**kept))
    return found


def _again(scene: Scene, journey: Journey, force: bool, abort: bool) -> dict[str, Any]:
    change = machine.abandon if abort else machine.force if force else machine.resumed
    try:
        journey = change(journey)
    except ValueError as error:
        raise Refused(f"{journey.group}: {error}; nothing was changed") from error
    return drive(scene, journey, time.monotonic(), again=True)


def drive(scene: Scene, journey: Journey, begun: float, again: bool = False) -> dict[str, Any]:
    """One group to its end; says each step with the clock."""
    source, target = scene.remotes[journey.source], scene.remotes[journey.target]
    carried = scene.group(journey.group, journey.target)
    performer = Performer(
        carried, source, target, scene.edge if journey.edge else None, point=_point(carried, scene), say=_note
    )

    def keep(now: Journey) -> None:
        journal.write(now)
        try:
            target.ask("journey", {"group": now.group, "keep": asdict(now)}, 20)
        except UnderstudyError as error:
            if not now.flip and not now.back:
                raise
            _note(f"the copy of the journal on {now.target} is behind: {error}")

    driver = Driver(
        performer, keep, lambda step, text: _say(begun, f"{journey.group}: {step}", text), again=again
    )
    before = time.monotonic()
    ended = driver.run(journey)
    seconds = round(time.monotonic() - before, 1)
    words = f"{ended.group} is on {ended.target}" if ended.ended == "moved" else f"{ended.ended}: {ended.why}"
    _say(begun, ended.group, f"{words}, {seconds} s")
    record = {
        **asdict(ended), "seconds": seconds, "steps": driver.steps, "demote": performer.rows.get("demote"),
    }  # fmt: skip
    _ledger([target] if performer.silent else [target, source], record)
    return record


def _ledger(hosts: Sequence[Remote], record: dict[str, Any]) -> None:
    for host in hosts:
        try:
            host.ask("journey", {"group": record["group"], "record": record}, 15)
        except UnderstudyError:
            continue


def _point(carried: Any, scene: Scene) -> Any:
    def told(journey: Journey) -> None:
        names = sorted({str(one["name"]) for one in carried.probes})
        address = scene.host(journey.target).data.get("ssh_hostname") or journey.target
        console.print(f"{journey.target} serves {journey.group}. Point these names at it ({address}) now:")
        for name in names:
            console.print(f"  {name}")
        console.print(
            f"Nothing was fenced: as long as a name leads to {journey.source}, whoever asks there finds nothing that serves, "
            "unless that host is out of our reach and runs on."
        )

    return told


def _note(text: str) -> None:
    console.print(f"       {text}", style="dim", markup=False)


def _say(begun: float, what: str, text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - begun), 60)
    console.print(f"{minutes:3d}:{seconds:02d}  {what:<24}{text}", markup=False)
