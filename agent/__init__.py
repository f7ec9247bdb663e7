"""What runs on a host: standard library only, Python 3.10 or newer.

The control machine sends this package over SSH as one zip and calls ``main`` with a verb and a request;
the same package is installed as a zipapp (/usr/lib/understudy/agent.pyz) for units that run without it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["WIRE", "main"]

WIRE = 1
"""Version of the reply envelope ``{"understudy": WIRE, "reply": {...}}``."""


def main(verb: str, request: dict[str, Any]) -> None:
    """Run one verb, print its reply as the last line of standard output and end the process with status 0."""
    from .entry import answer, finish

    finish(answer(verb, request))
