"""Scratch copies of services: restored data, a stack of their own, and no way to anything live.

``cleanup`` removes whatever an interrupted drill left behind.
"""

from .leftovers import cleanup

__all__ = ["cleanup"]
