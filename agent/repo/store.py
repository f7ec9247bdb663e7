"""The store behind a repository as far as one HTTP request shows it: does it answer, and what time is it there."""

from __future__ import annotations

import email.utils
import http.client
import ssl
import urllib.parse
from typing import TYPE_CHECKING

from ..errors import AgentError

if TYPE_CHECKING:
    from .restic import Repo

__all__ = ["date", "place"]

_TIMEOUT = 10.0


def place(address: str) -> urllib.parse.SplitResult | None:
    """The HTTP address of a rest: or s3: repository; None for stores without one."""
    kind, _, rest = address.partition(":")
    if kind not in ("rest", "s3"):
        return None
    if kind == "s3" and not rest.startswith(("http://", "https://")):
        rest = "https://" + rest.lstrip("/")
    parts = urllib.parse.urlsplit(rest)
    return parts if parts.hostname else None


def date(repo: Repo, timeout: float = _TIMEOUT) -> float | None:
    """The store's clock in seconds since the epoch; None when the store has none (disks, sftp) or says none.

    Any answer will do, a refusal too: no login is sent. Raises AgentError kind "unreachable" when nothing answers,
    in seconds, where restic would try for a quarter of an hour.
    """
    where = place(repo.where)
    if where is None:
        return None
    connection = _connection(repo, where, timeout)
    try:
        connection.request("HEAD", "/", headers={"User-Agent": "understudy", "Connection": "close"})
        said = connection.getresponse().getheader("Date")
    except ssl.SSLCertVerificationError as error:
        why = f"its certificate is not accepted ({error.verify_message}); is this host's clock right?"
        raise AgentError(f"repository {repo.name}: {where.hostname}: {why}", "unreachable") from error
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise AgentError(
            f"repository {repo.name}: {where.hostname} does not answer: {why.lower()}", "unreachable"
        ) from error
    finally:
        connection.close()
    try:
        return email.utils.parsedate_to_datetime(said).timestamp() if said else None
    except ValueError:
        return None


def _connection(repo: Repo, where: urllib.parse.SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = where.hostname or ""
    if where.scheme == "http":
        return http.client.HTTPConnection(host, where.port, timeout=timeout)
    words = list(repo.options)
    bundle = words[words.index("--cacert") + 1] if "--cacert" in words else None
    return http.client.HTTPSConnection(
        host, where.port, timeout=timeout, context=ssl.create_default_context(cafile=bundle)
    )
