"""The zipapp's entry: ``agent.pyz VERB [WORD...] [< request.json]``; exit status 1 when the reply is an error.

Words stand for a request of ``{"words": [...]}``, as timers give it; ``-`` reads the request from standard input.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from .entry import PROTECTING, VERBS, answer, finish

_NEED_NOTHING = ("recover",)


def _request(verb: str, words: list[str]) -> dict[str, Any]:
    if words and words != ["-"]:
        return {"words": words}
    text = "" if verb in _NEED_NOTHING or sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    request: dict[str, Any] = json.loads(text) if text.strip() else {}
    return request


def run() -> None:
    """Run the verb given as the first argument."""
    known = (*VERBS, *PROTECTING)
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        sys.exit(
            f"usage: {sys.argv[0]} {'|'.join(known)} [WORD...]  (the request, if any, as JSON on standard input)"
        )
    reply = answer(sys.argv[1], _request(sys.argv[1], sys.argv[2:]))
    if "error" in reply:
        print(reply["error"], file=sys.stderr)
    finish(reply, 1 if "error" in reply else 0)


if __name__ == "__main__":
    run()
