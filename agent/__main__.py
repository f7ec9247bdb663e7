"""The zipapp's entry: ``agent.pyz VERB [< request.json]``; exit status 1 when the reply is an error."""

from __future__ import annotations

import json
import sys
from typing import Any

from .entry import VERBS, answer, finish

_NEED_NOTHING = ("recover",)


def _request(verb: str) -> dict[str, Any]:
    text = "" if verb in _NEED_NOTHING or sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    request: dict[str, Any] = json.loads(text) if text.strip() else {}
    return request


def run() -> None:
    """Run the verb given as the first argument."""
    if len(sys.argv) != 2 or sys.argv[1] not in VERBS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(VERBS)}  (the request, if any, as JSON on standard input)")
    reply = answer(sys.argv[1], _request(sys.argv[1]))
    if "error" in reply:
        print(reply["error"], file=sys.stderr)
    finish(reply, 1 if "error" in reply else 0)


if __name__ == "__main__":
    run()
