"""Compose projects, in the order their services need each other; each waited for by its own health."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pyinfra import host, logger
from pyinfra.api import operation

from ..compare import service_of
from ..desired import Desired, Stack
from ..errors import UnderstudyError
from ..ownership.held import held
from . import updates
from .session import Commands, Session, guarded, of, run

_TELLING = re.compile(
    r"error response|: error|^error\b.*:|failed to|denied|unauthorized|not found", re.IGNORECASE
)
_PULLED = re.compile(r"(\S+) (?:Pulling|Error)\b")


@operation()
@guarded
def running() -> Commands:
    """Start, recreate or reload exactly the stacks that differ from their description."""
    session = of(host)
    if not jobs(session):
        host.noop(f"all {len(session.desired.stacks)} stacks run as described")
        return
    yield run(session, bring_up)


def jobs(session: Session) -> list[dict[str, Any]]:
    """The work for the agent's ``stacks`` verb: per stack its commands and the markers they clear."""
    changes = session.changes()
    up = {change.service for change in changes.stacks if not change.held}
    down = held(session.desired, session.survey())
    pulls = {change.service: list(change.pull) for change in changes.stacks if change.held}
    by_service = _reactions_by_service(changes.reactions)
    pending = session.survey().get("markers") or {}
    found = []
    for name, stack in session.desired.stacks.items():
        reactions = by_service.get(name, [])
        if name in down:
            # Its files take effect when the guard starts it.
            waits = bool(reactions) or name in pulls
            steps = [["docker", "pull", "--quiet", image] for image in pulls.get(name, [])] or (
                [["true"]] if waits else []
            )
        else:
            steps = commands(session.desired, stack, name in up, reactions)
        if steps:
            clears = {marker: token for marker, token in pending.items() if service_of(marker) == name}
            found.append({"service": name, "argv": steps, "timeout": stack.timeout + 60, "clears": clears})
    return found


def commands(desired: Desired, stack: Stack, up: bool, reactions: list[str]) -> list[list[str]]:
    """The Compose commands for one stack, in order; empty when nothing is to be done."""
    steps = []
    if up:
        steps.append(
            stack.compose(
                "up", "--detach", "--wait", "--wait-timeout", str(stack.timeout), "--remove-orphans"
            )
        )
    recreated = sorted(r.split("/", 1)[1] for r in reactions if r.startswith("recreate:"))
    if recreated:
        wait = ["--wait", "--wait-timeout", str(stack.timeout)]
        steps.append(stack.compose("up", "--detach", *wait, "--force-recreate", "--no-deps", *recreated))
    if any(r.startswith("reload:") for r in reactions) and not recreated:
        steps += desired.reloads.get(stack.service, [])
    return steps


def _reactions_by_service(reactions: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for reaction in reactions:
        if reaction.startswith(("recreate:", "reload:")):
            found.setdefault(service_of(reaction), []).append(reaction)
    return found


def bring_up(session: Session) -> None:
    """Run the work level by level. Raises UnderstudyError naming each stack that did not come up and why."""
    work = jobs(session)
    names = {job["service"] for job in work}
    levels = [
        level for level in ([n for n in level if n in names] for level in session.desired.levels) if level
    ]
    needs = {name: [n for n in session.desired.catalog.needs_of(name) if n in names] for name in names}
    request = {"stacks": work, "levels": levels, "needs": needs, "parallel": 3}
    answer = session.agent("stacks", request, timeout=sum(job["timeout"] for job in work))
    _report(session, answer, updates.waiting(session))


def _report(session: Session, answer: dict[str, Any], updating: list[str]) -> None:
    failed: list[str] = []
    bad: dict[str, str] = {}
    for result in answer["results"]:
        if result["rc"] == 0:
            session.host.log_styled(
                f"{result['service']}: up in {result['seconds']:.1f} s", fg="green", log_func=logger.info
            )
        elif (units := updates.of_file(session, result["service"], updating)) and not result.get("skipped"):
            bad |= dict.fromkeys(units, _reason(session, result))
        else:
            why = result.get("skipped") or _reason(session, result)
            failed.append(f"{result['service']} did not come up: {why}")
    session.record("stacks", [result["service"] for result in answer["results"] if result["rc"] == 0])
    if bad:
        failed += updates.put_back(session, bad)
    if failed:
        raise UnderstudyError("\n".join(failed))


def _reason(session: Session, result: dict[str, Any]) -> str:
    tail = result.get("tail") or []
    lines = tail.splitlines() if isinstance(tail, str) else list(tail)
    containers = session.desired.catalog.services[result["service"]].all_containers
    return explained(lines, {name: one.image for name, one in containers.items()}, result["rc"])


def explained(lines: Sequence[str], images: Mapping[str, str], code: int) -> str:
    """Why `docker compose up` failed, on one line: the engine's sentence, with the image when one was being pulled.

    ``images``: container to image. Compose's own progress lines only say that something failed.
    """
    said = [line.strip() for line in lines if line.strip()]
    telling = [line for line in said if _TELLING.search(line)]
    reason = " / ".join((telling or said)[-3:]) or f"exit code {code}"
    pulled = dict.fromkeys(match[1] for line in said if (match := _PULLED.match(line)))
    unnamed = [images[name] for name in pulled if name in images and images[name] not in reason]
    return f"{', '.join(unnamed)}: {reason}" if unnamed else reason
