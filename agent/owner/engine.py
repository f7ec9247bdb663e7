"""What of the managed projects runs, and which containers a person stopped."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from .. import process
from ..data.engine import inspected
from ..errors import AgentError

__all__ = ["Seen", "listed", "stopped_by_hand"]

_ASK = 30.0
_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_EXIT = re.compile(r"Exited \((\d+)\)")


@dataclass(frozen=True)
class Seen:
    """One container: its Compose service, Docker's word for its state, its exit status (0 while it runs)."""

    id: str
    service: str
    state: str
    code: int = 0

    @property
    def running(self) -> bool:
        return self.state in ("running", "restarting", "paused")


def listed(exact: bool = False) -> dict[str, list[Seen]]:
    """Project to its containers; one-off runs are left out. Raises AgentError when Docker does not answer.

    A state can be that of before a stop or start which has returned: ``docker ps`` reads a copy that lags on a busy
    disk. ``exact`` asks each container, for whoever decides by it what to stop.
    """
    ended = process.run(["docker", "ps", "--all", "--no-trunc", "--format", "{{json .}}"], _ASK)
    if not ended.ok:
        raise AgentError(f"docker ps: {ended.why(1)}", "docker")
    found: dict[str, list[Seen]] = {}
    for line in ended.out.splitlines():
        facts = json.loads(line)
        labels = dict(pair.partition("=")[::2] for pair in str(facts.get("Labels") or "").split(","))
        if labels.get(_PROJECT) and labels.get("com.docker.compose.oneoff") != "True":
            code = _EXIT.match(str(facts.get("Status") or ""))
            found.setdefault(labels[_PROJECT], []).append(
                Seen(facts["ID"], labels.get(_SERVICE, ""), facts["State"], int(code[1]) if code else 0)
            )
    return _asked(found) if exact else found


def _asked(found: dict[str, list[Seen]]) -> dict[str, list[Seen]]:
    """The same containers as they are now, without those that are gone meanwhile."""
    facts = inspected([one.id for ones in found.values() for one in ones])
    now = {each["Id"]: each["State"] for each in facts}
    return {
        project: [
            replace(one, state=now[one.id]["Status"], code=now[one.id]["ExitCode"])
            for one in ones
            if one.id in now
        ]
        for project, ones in found.items()
    }


def stopped_by_hand(since: float, until: float) -> set[str]:
    """Ids of containers that somebody stopped between two moments (seconds since the epoch).

    Docker notes a ``stop`` only where it was asked for one: a crash is a ``die`` alone.
    """
    argv = ["docker", "events", "--since", f"{since:.3f}", "--until", f"{until:.3f}"]
    ended = process.run([*argv, "--filter", "event=stop", "--format", "{{.ID}}"], _ASK)
    return set(ended.out.split()) if ended.ok else set()
