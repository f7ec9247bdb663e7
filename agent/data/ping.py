"""The dead-man switch: a GET that somebody far away misses when it does not come."""

from __future__ import annotations

import urllib.error
import urllib.request

from ..errors import AgentError
from ..root import Root
from . import credentials

__all__ = ["send"]

_TIMEOUT = 10


def send(root: Root, name: str) -> str | None:
    """Call the address in the credential ``name``. A sentence when that failed; the address may be a secret."""
    try:
        with open(credentials.path(root, name), encoding="utf-8") as stream:
            address = stream.read().strip()
        if not address.startswith(("http://", "https://")):
            return f"the ping address {name} is not a web address"
        asked = urllib.request.Request(address, headers={"User-Agent": "understudy"})  # noqa: S310 (checked above)
        with urllib.request.urlopen(asked, timeout=_TIMEOUT):  # noqa: S310
            return None
    except AgentError as error:
        return error.sentence
    except urllib.error.HTTPError as error:
        return f"the ping {name} was answered with {error.code}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        return f"the ping {name} did not get through: {reason}"
