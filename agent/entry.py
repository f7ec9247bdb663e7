"""From a verb to its reply, whatever goes wrong."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

from . import WIRE
from .errors import AgentError
from .root import Root

__all__ = ["PROTECTING", "VERBS", "answer", "envelope", "finish"]

VERBS = ("survey", "apply", "recover", "settle", "probe", "stacks", "read", "footprint", "leave", "census")
# These protect data; they run from the installed zipapp, by timers and by hand.
PROTECTING = (
    "backup",
    "restore",
    "verify",
    "status",
    "prepare",
    "coverage",
    "copies",
    "jobs",
    "drill",
    "lift",
    "alarm",
    "update",
    "guard",
    "lease",
    "watch",
    "freeze",
    "journey",
    "thaw",
    "refresh",
    "promote",
    "demote",
)


def answer(verb: str, request: dict[str, Any], root: Root | None = None) -> dict[str, Any]:
    """The verb's reply, or {"error": sentence, "kind": ..., ...}. Only the verb's own modules are loaded."""
    try:
        if verb not in (*VERBS, *PROTECTING):
            raise AgentError(
                f"unknown verb {verb!r}: one of {', '.join((*VERBS, *PROTECTING))}", "bad-request"
            )
        module = importlib.import_module(f".{verb}", __package__)
        reply: dict[str, Any] = module.run(request, root or Root())
        return reply
    except AgentError as error:
        return {"error": error.sentence, "kind": error.kind, **error.details}
    except Exception as error:
        traceback.print_exc()
        return {
            "error": f"{verb} met a fault of its own: {type(error).__name__}: {error}",
            "kind": "internal",
        }


def envelope(reply: dict[str, Any]) -> str:
    """The one line that the control machine looks for."""
    return json.dumps({"understudy": WIRE, "reply": reply}, separators=(",", ":"))


def finish(reply: dict[str, Any], code: int = 0) -> None:
    """Print the reply and leave at once: a reader stuck on a dead mount must not hold the process."""
    try:
        sys.stdout.write(f"{envelope(reply)}\n")
        sys.stdout.flush()
    except OSError:
        code = 1
    os._exit(code)
