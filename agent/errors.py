"""The one exception that carries a sentence meant for the operator."""

from __future__ import annotations

from typing import Any

__all__ = ["AgentError", "because"]


class AgentError(Exception):
    """Work on this host was refused or failed; nothing is half done unless the sentence says so.

    ``kind`` lets the control machine react without reading prose: bad-request, busy, stale, space, refused,
    validation, io, broken (a journal that can be neither finished nor undone), internal.
    """

    def __init__(self, sentence: str, kind: str = "refused", **details: Any) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.kind = kind
        self.details = details


def because(error: OSError) -> str:
    """Why a system call failed, in the system's words and without the path (callers name the host path)."""
    return (error.strerror or str(error)).lower()
