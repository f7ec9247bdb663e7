"""What of the managed projects runs, in one call to Docker, and which containers a person stopped."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from .. import process
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


def listed() -> dict[str, list[Seen]]:
    """Project to its containers; one-off runs are left out. Raises AgentError when Docker does not answer."""
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
    return found


def stopped_by_hand(since: float, until: float) -> set[str]:
    """Ids of containers that somebody stopped between two moments (seconds since the epoch).

    Docker notes a ``stop`` only where it was asked for one: a crash is a ``die`` alone.
    """
    argv = ["docker", "events", "--since", f"{since:.3f}", "--until", f"{until:.3f}"]
    ended = process.run([*argv, "--filter", "event=stop", "--format", "{{.ID}}"], _ASK)
    return set(ended.out.split()) if ended.ok else set()
