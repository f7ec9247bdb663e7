"""One HTTP request, to an address on this host or over TLS to a public one, with every failure in its own sentence."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.parse
from dataclasses import dataclass
from typing import Any

__all__ = ["Answer", "CallFailed", "call", "connects", "local"]

_MOST = 1 << 20
_REDIRECTS = 5
_TIMEOUT = 5.0
_HANGS_UP = 0.3
"""Seconds after which a connection counts as served."""


class CallFailed(Exception):
    """No answer to judge; the message is a sentence."""


@dataclass
class Answer:
    """What came back; the body's first MiB."""

    status: int
    content_type: str
    location: str
    body: bytes


def connects(probe: dict[str, Any]) -> None:
    """Raise CallFailed unless something serves at tcp://ADDRESS:PORT, or at one of the probe's further ``any``."""
    failed: list[CallFailed] = []
    for url in (probe["url"], *(probe.get("any") or ())):
        try:
            return _connects(_place(url), probe)
        except CallFailed as error:
            failed.append(error)
    raise failed[0]


def _connects(place: urllib.parse.SplitResult, probe: dict[str, Any]) -> None:
    """Docker's proxy accepts for a container in which nothing listens, and hangs up at once."""
    try:
        address = (place.hostname or "", place.port or 0)
        with socket.create_connection(address, _timeout(probe), _source(probe)) as connection:
            connection.settimeout(_HANGS_UP)
            try:
                said = connection.recv(1)
            except TimeoutError:
                return
    except OSError as error:
        raise CallFailed(_why(error, place, _timeout(probe))) from error
    if not said:
        raise CallFailed(f"{place.netloc} hangs up at once: nothing serves behind it")


def call(probe: dict[str, Any]) -> Answer:
    """Send the probe's request; follows redirects only when asked, always to the same address and port."""
    place, host = _place(probe["url"]), probe.get("host")
    target = _target(place)
    answer = _send(probe, place, host, target)
    for _ in range(_REDIRECTS if probe.get("follow") else 0):
        if answer.status not in (301, 302, 303, 307, 308) or not answer.location:
            break
        host, target = _redirected(f"http://{host or place.netloc}{target}", answer.location)
        answer = _send({**probe, "method": "GET", "body": None}, place, host, target)
    return answer


def _redirected(base: str, location: str) -> tuple[str, str]:
    """Host and target that a Location header leads to."""
    try:
        new = urllib.parse.urlsplit(urllib.parse.urljoin(base, location))
    except ValueError as error:
        raise CallFailed(f"it redirects to {location!r}, which is no address") from error
    return new.netloc, _target(new)


def _place(url: str) -> urllib.parse.SplitResult:
    try:
        place = urllib.parse.urlsplit(url)
        # Reading .port is what raises on a port that is no number.
        named = place.port or place.scheme in ("http", "https")
        usable = place.hostname and named and place.scheme in ("http", "https", "tcp")
    except ValueError:
        usable = None
    if not usable:
        raise CallFailed(f"{url!r} is not http(s)://ADDRESS:PORT/path or tcp://ADDRESS:PORT")
    return place


def _target(place: urllib.parse.SplitResult) -> str:
    return (place.path or "/") + (f"?{place.query}" if place.query else "")


def local(url: str) -> bool:
    """Whether a probe's address is this host's loopback (IPv4): only from there can ``source`` be another of it."""
    try:
        return (urllib.parse.urlsplit(url).hostname or "").startswith("127.")
    except ValueError:
        return False


def _source(probe: dict[str, Any]) -> tuple[str, int] | None:
    """The address the request comes from, where the probe names one (agent/fence.py)."""
    return (str(probe["source"]), 0) if probe.get("source") else None


def _timeout(probe: dict[str, Any]) -> float:
    return float(probe.get("timeout") or _TIMEOUT)


def _send(probe: dict[str, Any], place: urllib.parse.SplitResult, host: str | None, target: str) -> Answer:
    timeout = _timeout(probe)
    connection = _connection(place, timeout, _source(probe))
    headers = {"Host": host or place.netloc, "Accept-Encoding": "identity", "User-Agent": "understudy-probe"}
    headers |= {str(key): str(value) for key, value in (probe.get("headers") or {}).items()}
    try:
        connection.request(str(probe.get("method") or "GET"), target, _body(probe, headers), headers)
        response = connection.getresponse()
        kind, location = response.getheader("Content-Type") or "", response.getheader("Location") or ""
        return Answer(response.status, kind, location, response.read(_MOST))
    except OSError as error:
        raise CallFailed(_why(error, place, timeout)) from error
    except (http.client.HTTPException, ValueError) as error:
        raise CallFailed(f"{place.netloc} did not answer in HTTP ({type(error).__name__})") from error
    finally:
        connection.close()


def _connection(
    place: urllib.parse.SplitResult, timeout: float, source: tuple[str, int] | None
) -> http.client.HTTPConnection:
    name = place.hostname or ""
    if place.scheme == "https":
        trusted = ssl.create_default_context()
        return http.client.HTTPSConnection(
            name, place.port or 443, timeout=timeout, source_address=source, context=trusted
        )
    return http.client.HTTPConnection(name, place.port or 80, timeout=timeout, source_address=source)


def _body(probe: dict[str, Any], headers: dict[str, str]) -> bytes | None:
    body = probe.get("body")
    if body is None or isinstance(body, str):
        return None if body is None else body.encode()
    headers.setdefault("Content-Type", "application/json")
    return json.dumps(body).encode()


def _why(error: OSError, place: urllib.parse.SplitResult, timeout: float) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"connection refused: nothing listens on {place.netloc}"
    if isinstance(error, TimeoutError):
        return f"no answer from {place.netloc} within {timeout:g} s"
    if isinstance(error, ssl.SSLError):
        return f"{place.netloc} has no certificate that holds: {error.reason or error}"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected)):
        return f"{place.netloc} closed the connection without an answer"
    return f"{place.netloc} cannot be reached: {(error.strerror or str(error)).lower()}"
