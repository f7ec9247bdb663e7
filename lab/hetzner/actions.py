"""Actions: work that takes time, goes on after the answer, survives a restart of the API, and may fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.hetzner.answers import ApiError, Json, now
from lab.hetzner.faults import Fault
from lab.hetzner.state import State
from lab.shell import LabError

Job = Callable[[int], None]
POLL = 0.02


@dataclass
class Pace:
    """The least an action takes, in seconds."""

    seconds: float = 1.0


class Actions:
    """The actions of one project. ``jobs`` are by command and take the number of the first resource."""

    def __init__(self, state: State, pace: Pace) -> None:
        self.state, self.pace = state, pace
        self.jobs: dict[str, Job] = {}
        self.fault = threading.local()

    def begin(
        self,
        command: str,
        resources: Sequence[tuple[str, int]],
        after: Json | None = None,
        quick: bool = False,
    ) -> Json:
        """Note a running action inside a transaction and start it once that is over. ``after``: it waits for that one."""
        fault: Fault | None = getattr(self.fault, "now", None)
        number = self.state.new_id()
        action: Json = {
            "id": number,
            "command": command,
            "status": "running",
            "progress": 0,
            "started": now(),
            "finished": None,
            "resources": [{"id": key, "type": kind} for kind, key in resources],
            "error": None,
            "_begun": time.time(),
            "_after": after["id"] if after else 0,
            "_least": 0.0 if quick else self.pace.seconds,
        }
        if fault and fault.kind == "slow":
            action["_least"] += fault.seconds
        if fault and fault.kind == "action" and not after:
            action["_fails"] = fault.code
        self.state.data["actions"][str(number)] = action
        self._run(number)
        return action

    def resume(self) -> None:
        """After a restart: everything that was running goes on."""
        for action in list(self.state.data["actions"].values()):
            if action["status"] == "running":
                self._run(action["id"])

    def _run(self, number: int) -> None:
        threading.Thread(target=self._work, args=(number,), daemon=True).start()

    def _work(self, number: int) -> None:
        with self.state.lock:  # the transaction that noted the action is over
            action = dict(self.state.data["actions"].get(str(number)) or {})
        if not action:
            return
        error = self._wait(action["_after"])
        begun = time.time()
        error = error or self._do(action)
        time.sleep(max(0.0, begun + action["_least"] - time.time()))
        self._finish(number, error)

    def _wait(self, number: int) -> Json | None:
        while number:
            with self.state.lock:
                before = self.state.data["actions"].get(str(number))
            if before is None or before["status"] == "error":
                return {"code": "action_failed", "message": "The action before this one failed"}
            if before["status"] == "success":
                return None
            time.sleep(POLL)
        return None

    def _do(self, action: Json) -> Json | None:
        if action.get("_fails"):
            return {"code": action["_fails"], "message": "Action failed"}
        job = self.jobs.get(action["command"])
        try:
            if job:
                job(action["resources"][0]["id"])
        except (LabError, ApiError) as error:
            return {"code": "action_failed", "message": str(error)}
        return None

    def _finish(self, number: int, error: Json | None) -> None:
        with self.state.changing() as data:
            if str(number) in data["actions"]:
                status = "error" if error else "success"
                changes = {"status": status, "error": error, "progress": 100, "finished": now()}
                data["actions"][str(number)].update(changes)

    def running(self, kind: str, key: int) -> list[Json]:
        """What is being done to one object."""
        return [
            action
            for action in self.state.data["actions"].values()
            if action["status"] == "running" and {"id": key, "type": kind} in action["resources"]
        ]


def show(action: Json) -> Json:
    """The action as the API tells it, with a progress that grows."""
    found = {key: value for key, value in action.items() if not key.startswith("_")}
    if action["status"] == "running":
        spent = time.time() - action["_begun"]
        found["progress"] = min(95, int(100 * spent / max(1.0, action["_least"])))
    return found
