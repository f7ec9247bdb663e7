"""Keeps secret values out of everything that is shown."""

from __future__ import annotations

from .desired import Desired
from .secrets import Masker


def mask(desired: Desired, text: str) -> str:
    """Replace every secret value of this host's services in ``text`` by its name."""
    return Masker(desired.masks).mask(text)
