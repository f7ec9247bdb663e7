"""Compares what a host should have with what its survey found. Pure: no host is contacted here.

The survey is the JSON of the agent's ``survey`` verb (agent/survey.py); a part that could not be
read is ``{"unreadable": reason}`` and never counts as empty.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from . import baseline, firewall
from .agent.repo.restic import OWN as RESTIC
from .desired import Desired, Stack, UnitWish
from .errors import Refused, UnderstudyError
from .ownership.files import without_devices
from .ownership.held import held
from .tree import Entry

Survey = Mapping[str, Any]
Action = Literal["create", "update", "permissions", "delete"]


@dataclass(frozen=True)
class FileChange:
    """One path that differs; ``observed`` is the live digest that was compared, "missing" when absent."""

    path: str
    action: Action
    observed: str
    service: str = ""
    reaction: str = ""


@dataclass(frozen=True)
class StackChange:
    """A stack to bring up, with the reasons an owner reads; ``first`` when none of it exists yet.

    ``held``: the guard keeps it down, so that nothing of it is started; ``pull``: images to fetch.
    """

    service: str
    reasons: tuple[str, ...]
    first: bool = False
    held: bool = False
    pull: tuple[str, ...] = ()


@dataclass
class HostChanges:
    """Everything that would change on a host."""

    packages: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    files: list[FileChange] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    stacks: list[StackChange] = field(default_factory=list)
    reactions: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.count() > 0

    def count(self) -> int:
        """Number of changes as `plan` counts them."""
        own = (len(self.packages), len(self.users), len(self.files), len(self.units))
        return sum(own) + len(self.stacks) + len(self.reactions)

    def of(self, service: str, also: Collection[str] = ()) -> HostChanges:
        """The part that is one service's: its files, its stack, its reactions; and these paths of the host's own."""
        return HostChanges(
            files=[change for change in self.files if change.service == service or change.path in also],
            stacks=[change for change in self.stacks if change.service == service],
            reactions=[reaction for reaction in self.reactions if service_of(reaction) == service],
        )


def request(desired: Desired) -> dict[str, Any]:
    """What the survey has to look at for this host."""
    ubuntu = baseline.tree(desired.settings, os_id="ubuntu")
    return {
        "paths": sorted({*desired.tree.entries, *ubuntu.entries, firewall.CONFIRMED, RESTIC}),
        "packages": sorted({*baseline.candidates(desired.settings), *desired.service_packages}),
        "units": [unit.name for unit in desired.units],
        "users": desired.users,
        "mounts": sorted({mount for need in desired.requires.values() for mount in need.mounts}),
        "programs": _programs(desired),
        "devices": sorted({path for paths in devices(desired).values() for path in paths}),
        "read": [baseline.DAEMON_JSON],
        "groups": sorted(desired.guarded),
        "stacks": [
            *(_stack_request(stack) for stack in desired.stacks.values()),
            *({**_stack_request(stack), "profiles": ["*"]} for stack in desired.untouched_stacks.values()),
        ],
    }


def devices(desired: Desired) -> dict[str, list[str]]:
    """Service to the devices of the host that it cannot start without."""
    found = {name: list(need.devices) for name, need in desired.requires.items()}
    for name in desired.stacks:
        service = desired.catalog.services[name]
        if not without_devices(desired.settings, service):
            mounted = [path for one in service.all_containers.values() for path in one.devices]
            found[name] += [path for path in mounted if path.startswith("/") and "$" not in path]
    return {name: list(dict.fromkeys(paths)) for name, paths in found.items() if paths}


def _programs(desired: Desired) -> list[str]:
    return [wish.native.program.path for wish in desired.natives.values() if wish.native.program]


def _stack_request(stack: Stack) -> dict[str, Any]:
    return {
        "service": stack.service,
        "project": stack.project,
        "path": stack.path,
        "files": list(stack.files),
        "env_file": stack.env_file,
        "profiles": list(stack.profiles),
    }


def readable(survey: Survey, part: str) -> Any:
    """A part of the survey. Raises UnderstudyError when the host could not read it."""
    value = survey.get(part)
    if isinstance(value, Mapping) and set(value) == {"unreadable"}:
        raise UnderstudyError(f"could not read {part} on the host: {value['unreadable']}")
    return value


def changes(desired: Desired, survey: Survey) -> HostChanges:
    """Everything that differs, in the order in which it would be done."""
    files = file_changes(desired, survey)
    result = HostChanges(
        packages=missing_packages(desired, survey),
        users=missing_users(desired, survey),
        files=files,
        units=[unit.name for unit in unit_changes(desired, survey)],
    )
    result.reactions = pending_reactions(desired, survey, files)
    waking = {
        reaction.removeprefix("stack:") for reaction in result.reactions if reaction.startswith("stack:")
    }
    result.stacks = stack_changes(desired, survey, waking)
    coming = {change.service for change in result.stacks if change.first}
    result.reactions = [
        r for r in result.reactions if not r.startswith("stack:") and service_of(r) not in coming
    ]
    return result


def service_of(reaction: str) -> str:
    """The stack a reaction belongs to, "" for one of the host itself or a unit."""
    kind, _, name = reaction.partition(":")
    return name.split("/")[0] if kind in ("recreate", "reload", "stack") else ""


def missing_packages(desired: Desired, survey: Survey) -> list[str]:
    """Packages that are not installed."""
    installed = readable(survey, "packages") or {}
    return [name for name in desired.packages if not installed.get(name)]


def missing_users(desired: Desired, survey: Survey) -> list[str]:
    """System users that do not exist."""
    known = readable(survey, "users") or {}
    return [name for name in desired.users if not known.get(name)]


def file_changes(desired: Desired, survey: Survey) -> list[FileChange]:
    """Paths that differ in kind, content, mode or owner, and those we wrote that are declared no more."""
    live = readable(survey, "files") or {}
    found = []
    for entry in desired.tree:
        state = live.get(entry.path, {"kind": "missing"})
        action = _action(entry, state)
        if action:
            found.append(FileChange(entry.path, action, observed(state), entry.service, entry.reaction))
    return found + deletions(desired, survey)


def observed(state: Mapping[str, Any]) -> str:
    """The digest under which a live path was compared; "missing" when there was none."""
    return "missing" if state["kind"] == "missing" else str(state.get("sha256") or "")


def _action(entry: Entry, state: Mapping[str, Any]) -> Action | None:
    if state["kind"] == "missing":
        return "create"
    if state["kind"] == "unreadable":
        raise UnderstudyError(
            f"{entry.path} could not be read on the host: {state.get('reason', 'no reason given')}"
        )
    if state["kind"] != entry.kind:
        if entry.kind == "dir" or state["kind"] == "dir":
            raise Refused(
                f"{entry.path} is a {state['kind']} on the host but should be a {entry.kind}: move it away first"
            )
        return "update"
    if entry.kind == "link":
        return None if state.get("target") == entry.target else "update"
    if entry.kind == "file" and state.get("sha256") != entry.sha256:
        return "update"
    same_owner = _same(entry.user, state, "user", "uid") and _same(entry.group, state, "group", "gid")
    return None if same_owner and int(state["mode"], 8) == entry.mode else "permissions"


def _same(wanted: str | int, state: Mapping[str, Any], name: str, number: str) -> bool:
    return state.get(number) == wanted if isinstance(wanted, int) else state.get(name) == wanted


def deletions(desired: Desired, survey: Survey) -> list[FileChange]:
    """Files of our last manifest that nothing declares any more and that still are as we wrote them.

    A service that we leave to its owner from now on keeps the files it runs from.
    """
    manifest = survey.get("manifest") or {}
    live = survey.get("files") or {}
    found = []
    for path, known in sorted(manifest.get("entries", {}).items()):
        if path in desired.tree.entries or known.get("kind") == "dir":
            continue
        if known.get("service") in desired.untouched:
            continue
        state = live.get(path, {"kind": "missing"})
        if state["kind"] != "missing" and observed(state) == known.get("sha256"):
            found.append(FileChange(path, "delete", observed(state), known.get("service", "")))
    return found


def pending_reactions(desired: Desired, survey: Survey, files: Iterable[FileChange]) -> list[str]:
    """What must restart: for changed files now, and for files a killed run had already renamed."""
    wanted: dict[str, None] = {}
    for pending in survey.get("pending") or []:
        wanted.update(dict.fromkeys(pending.split()))
    for change in files:
        if change.action != "delete":
            wanted.update(dict.fromkeys(change.reaction.split()))
    return [reaction for reaction in wanted if reaction]


def unit_changes(desired: Desired, survey: Survey) -> list[UnitWish]:
    """Units that are not enabled, or not running although they should be."""
    live = readable(survey, "units") or {}
    return [unit for unit in desired.units if not unit_is_right(unit, live.get(unit.name, {}))]


def unit_is_right(unit: UnitWish, state: Mapping[str, Any]) -> bool:
    """Enabled, and running unless the unit is one that only runs at boot or may be skipped."""
    enabled = state.get("enabled") in (
        "enabled",
        "static",
        "enabled-runtime",
        "alias",
        "generated",
        "indirect",
    )
    if not unit.running or unit.may_be_skipped:
        return enabled
    return enabled and state.get("active") == "active"


def stack_changes(desired: Desired, survey: Survey, waking: Iterable[str] = ()) -> list[StackChange]:
    """Stacks whose containers are missing, stopped, unhealthy or not what the files describe now."""
    containers = readable(survey, "containers") or []
    hashes = survey.get("stack_hashes") or {}
    woken, down = set(waking), held(desired, survey)
    found = []
    for stack in desired.stacks.values():
        if stack.service in down:
            found += _held_change(stack, survey, stack.service in woken)
            continue
        own = {c["service"]: c for c in containers if c.get("project") == stack.project}
        reasons = _stack_reasons(stack, own, hashes.get(stack.service) or {})
        if stack.service in woken and own:
            reasons.insert(0, "its files changed")
        if reasons:
            found.append(StackChange(stack.service, tuple(reasons), first=not own))
    return found


def _held_change(stack: Stack, survey: Survey, woken: bool) -> list[StackChange]:
    """A stack that the guard keeps down is not started; its images are fetched, so that it could be."""
    present = readable(survey, "images") or {}
    missing = [
        image
        for _, image in stack.images
        if image and image not in present and f"{image}:latest" not in present
    ]
    reasons = [f"the image {image} is not here" for image in missing] + (
        ["its files changed"] if woken else []
    )
    return [StackChange(stack.service, tuple(reasons), pull=tuple(missing), held=True)] if reasons else []


def drift(desired: Desired, survey: Survey) -> list[str]:
    """What the owner's own hand has not brought into effect yet: containers that `compose up` would make anew."""
    containers = readable(survey, "containers") or []
    hashes = survey.get("stack_hashes") or {}
    found = []
    for stack in desired.untouched_stacks.values():
        known = hashes.get(stack.service) or {}
        own = [c for c in containers if c.get("project") == stack.project and not c.get("oneoff")]
        if "error" in known:
            found.append(f"{stack.service}: Compose on the host does not read its files: {known['error']}")
        elif not own:
            found.append(f"{stack.service}: nothing of it runs as project {stack.project!r}")
        found += [
            f"{stack.service}: {c['name']} runs an older description than the files on the host"
            for c in own
            if known.get(c["service"]) not in (None, c["config_hash"])
        ]
    return found


def _stack_reasons(stack: Stack, own: Mapping[str, Any], hashes: Mapping[str, str]) -> list[str]:
    if "error" in hashes:
        return [] if own else ["not started yet"]
    reasons = []
    for name, wanted in sorted(hashes.items()):
        container = own.get(name)
        if container is None:
            reasons.append(f"{name} does not exist")
        elif container["config_hash"] != wanted:
            reasons.append(f"{name} runs an older description")
        elif container["state"] != "running":
            reasons.append(f"{name} is {container['state']}")
        elif container.get("health") == "unhealthy":
            reasons.append(f"{name} is unhealthy")
    return reasons or ([] if hashes or own else ["not started yet"])
