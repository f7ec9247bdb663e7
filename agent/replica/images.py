"""The images that a slot's snapshots were made with, fetched ahead: a promotion must not wait for a registry."""

from __future__ import annotations

from .. import process
from ..say import say
from .slots import Slot

__all__ = ["missing", "pull", "wanted"]

_ASK, _PULL = 60.0, 1800.0


def wanted(slot: Slot) -> list[str]:
    """Every image reference of the slot's services."""
    found = {image for held in slot.services.values() for image in held.images.values() if image}
    return sorted(image for image in found if not image.startswith("sha256:"))


def missing(references: list[str]) -> list[str]:
    """Those that this host has not."""
    found = []
    for reference in references:
        if not process.run(["docker", "image", "inspect", "--format", "{{.Id}}", reference], _ASK).ok:
            found.append(reference)
    return found


def pull(slot: Slot) -> tuple[list[str], list[str]]:
    """(fetched, still missing). A registry that does not answer is said; images that are here need none."""
    absent, got = missing(wanted(slot)), []
    for reference in absent:
        ended = process.run(["docker", "pull", "--quiet", reference], _PULL)
        if ended.ok:
            got.append(reference)
        else:
            say(f"{reference} could not be fetched: {ended.why(1)}")
    return got, [reference for reference in absent if reference not in got]
