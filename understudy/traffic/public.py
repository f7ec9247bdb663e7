"""One request to a public name as a visitor makes it: through the edge, not past it."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT = 10.0


@dataclass(frozen=True)
class Answer:
    """``status`` 0: no answer, and ``body`` says why."""

    status: int
    body: bytes


def ask(name: str, path: str = "/", front_url: str = "", timeout: float = TIMEOUT) -> Answer:
    """GET a path of a public name. ``front_url``: another address of the edge than the name's own, over https or http."""
    place = urlsplit(front_url or f"https://{name}")
    connection: http.client.HTTPConnection
    if place.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            place.hostname or "", place.port, timeout=timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Host": name, "User-Agent": "understudy"})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(1 << 20))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error).encode())
    finally:
        connection.close()


def status(name: str, front_url: str = "") -> int:
    """The status alone."""
    return ask(name, front_url=front_url).status
