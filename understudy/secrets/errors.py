"""What can be wrong with a secrets file."""

from __future__ import annotations

from ..errors import BadInput


class SecretsError(BadInput):
    """Names the file and what to do; never holds a value."""
