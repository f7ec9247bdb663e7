"""The one clock of the control machine. Practice may set it ahead (protocol.md §12)."""

from __future__ import annotations

import os
import time

OFFSET = "UNDERSTUDY_CLOCK_OFFSET"


def now() -> float:
    """Seconds since the epoch, with the seconds that UNDERSTUDY_CLOCK_OFFSET adds."""
    return time.time() + float(os.environ.get(OFFSET) or 0)
