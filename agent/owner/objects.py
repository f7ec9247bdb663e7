"""One small object in an S3 store, written only on a condition: what a lease between hosts needs of a store.

AWS, Cloudflare R2, SeaweedFS and others keep the condition; Backblaze B2 answers 501, and some stores pay it no heed:
``conditional`` finds out. Requests are signed the AWS way (version 4) over path-style addresses.
"""

from __future__ import annotations

import configparser
import email.utils
import hashlib
import hmac
import http.client
import re
import time
import urllib.parse
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from ..errors import AgentError

__all__ = ["Found", "Lost", "Place", "StoreFault", "conditional", "key_of", "place", "read", "write"]

TIMEOUT = 8.0
_MOST = 64 * 1024
_ADDRESS = re.compile(r"s3:(?:(https?)://)?([^/]+)/([^/]+)(?:/(.*))?")
_REGION = re.compile(r"s3[.-]([a-z0-9-]+)\.(?:backblazeb2|amazonaws)\.com")


class StoreFault(AgentError):
    """The store did not answer, or refused."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, "store")


class Lost(AgentError):
    """The object is not as the condition says: somebody else was faster."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} was written by somebody else meanwhile", "lost")


@dataclass(frozen=True)
class Place:
    """Where objects lie, and the key to them. ``prefix`` with its last slash, or empty."""

    scheme: str
    host: str
    bucket: str
    prefix: str
    region: str
    key_id: str = ""
    secret: str = ""

    def __repr__(self) -> str:
        return f"Place({self.scheme}://{self.host}/{self.bucket}/{self.prefix})"


@dataclass(frozen=True)
class Found:
    """An object as it was read; the ETag changes with each write of other content."""

    body: bytes
    etag: str


def place(url: str, region: str = "", key_id: str = "", secret: str = "") -> Place:
    """From ``s3:https://HOST/BUCKET/PREFIX``. Raises AgentError kind "bad-request"."""
    match = _ADDRESS.fullmatch(url)
    if match is None:
        raise AgentError(
            f"{url!r} is not s3:https://HOST/BUCKET or s3:https://HOST/BUCKET/PREFIX", "bad-request"
        )
    scheme, host, bucket, path = match.groups()
    guess = _REGION.match(host)
    prefix = (path or "").strip("/")
    return Place(
        scheme or "https", host, bucket, f"{prefix}/" if prefix else "",
        region or (guess[1] if guess else "us-east-1"), key_id, secret,
    )  # fmt: skip


def key_of(text: str) -> tuple[str, str]:
    """(key id, key) of a file in the form that AWS_SHARED_CREDENTIALS_FILE names. Raises AgentError."""
    parsed = configparser.ConfigParser(interpolation=None)
    with suppress(configparser.Error):
        parsed.read_string(text)
    try:
        return parsed["default"]["aws_access_key_id"], parsed["default"]["aws_secret_access_key"]
    except KeyError:
        raise AgentError("the key to the store of the lease is missing or damaged", "no-secret") from None


def read(place: Place, name: str) -> Found | None:
    """The object; None when there is none. Raises StoreFault."""
    status, headers, body = _ask(place, "GET", name, b"", {})
    if status == 404:
        return None
    if status != 200:
        raise StoreFault(_refused(place, f"give {place.prefix}{name}", status, body))
    return Found(body, headers.get("etag", ""))


def write(place: Place, name: str, body: bytes, etag: str) -> str:
    """Write it if it still has this ETag ("": if there is none); returns the new one. Raises Lost or StoreFault."""
    condition = {"If-Match": etag} if etag else {"If-None-Match": "*"}
    status, headers, said = _ask(place, "PUT", name, body, condition)
    if status in (409, 412) or (status == 404 and etag):
        raise Lost(f"{place.prefix}{name}")
    if status == 501:
        raise StoreFault(
            f"the store at {place.host} writes on no condition (501): a lease needs AWS S3, Cloudflare R2 or the like"
        )
    if status not in (200, 201, 204):
        raise StoreFault(_refused(place, f"take {place.prefix}{name}", status, said))
    return headers.get("etag", "")


def conditional(place: Place, who: str) -> None:
    """Raise StoreFault unless the store keeps conditions: it is tried on an object of our own, ``probe-WHO``."""
    name, body = f"probe-{who}", f"{who} {time.time_ns()}".encode()
    with suppress(Lost):
        write(place, name, body, "")
    for etag, condition in (('"0123456789abcdef0123456789abcdef"', "If-Match"), ("", "If-None-Match")):
        try:
            write(place, name, body + condition.encode(), etag)
        except Lost:
            continue
        raise StoreFault(
            f"the store at {place.host} pays no heed to {condition}: two hosts could hold one lease there; a lease needs"
            " AWS S3, Cloudflare R2 or the like"
        )


def _ask(
    place: Place, method: Literal["GET", "PUT"], name: str, body: bytes, more: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """One request; signed anew by the store's own clock when it finds ours too wrong to believe."""
    answer = _send(place, method, name, body, more, time.time())
    if answer[0] == 403 and b"RequestTimeTooSkewed" in answer[2]:
        stamp = email.utils.parsedate_to_datetime(answer[1].get("date", "")).timestamp()
        answer = _send(place, method, name, body, more, stamp)
    return answer


def _send(
    place: Place, method: str, name: str, body: bytes, more: dict[str, str], now: float
) -> tuple[int, dict[str, str], bytes]:
    target = urllib.parse.quote(f"/{place.bucket}/{place.prefix}{name}")
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.host, timeout=TIMEOUT)
    try:
        connection.request(
            method, target, body or None, {**_signed(place, method, target, body, now), **more}
        )
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read(_MOST)
    except (OSError, http.client.HTTPException) as error:
        why = str(error) or type(error).__name__
        raise StoreFault(f"the store of the lease at {place.host} does not answer: {why}") from error
    finally:
        connection.close()


def _signed(place: Place, method: str, target: str, body: bytes, now: float) -> dict[str, str]:
    stamp, digest = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)), hashlib.sha256(body).hexdigest()
    headers = {"host": place.host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(sorted(headers))
    listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = f"{method}\n{target}\n\n{listed}\n{names}\n{digest}"
    scope = f"{stamp[:8]}/{place.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signer = f"AWS4{place.secret}".encode()
    for part in scope.split("/"):
        signer = hmac.new(signer, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(signer, text.encode(), hashlib.sha256).hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={place.key_id}/{scope}"
    return {**headers, "authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"}


def _refused(place: Place, what: str, status: int, body: bytes) -> str:
    code = re.search(rb"<Code>([^<]{1,60})</Code>", body)
    return f"the store at {place.host} refused to {what}: {code[1].decode() if code else status}"
