"""A small S3 client: signed requests, and what the lab and its tests ask of a bucket beyond files.

Nothing here knows SeaweedFS; the addresses and keys come from whoever makes the client.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lab.shell import LabError

REGION = "us-east-1"
EMPTY = b""


@dataclass(frozen=True)
class Key:
    """A store key as its owner is given it."""

    name: str
    key_id: str
    secret: str


@dataclass(frozen=True)
class Version:
    """One version of an object, or a delete marker (what "hidden" is on S3). `size` in bytes."""

    path: str
    id: str
    latest: bool
    marker: bool
    size: int


@dataclass(frozen=True)
class Answer:
    """What the store said: `code` is S3's own word for an error ("AccessDenied"), "" for success."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        if self.status < 300:
            return ""
        found = _parse(self.body).findtext("Code") if self.body.startswith(b"<") else None
        return found or str(self.status)


def _parse(body: bytes) -> ET.Element:
    """XML without namespaces, as stores differ in which they name."""
    root = ET.fromstring(body)  # noqa: S314 - written by the lab's own store
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def signature_headers(
    key: Key, method: str, host: str, path: str, query: str, body: bytes, now: datetime
) -> dict[str, str]:
    """The headers of a request signed the AWS way (version 4); `path` and `query` are encoded already."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(sorted(headers))
    listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = f"{method}\n{path}\n{query}\n{listed}\n{names}\n{digest}"
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signer = f"AWS4{key.secret}".encode()
    for part in scope.split("/"):
        signer = hmac.new(signer, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(signer, text.encode(), hashlib.sha256).hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={key.key_id}/{scope}"
    return {**headers, "authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"}


@dataclass(frozen=True)
class Client:
    """Talks to the store at `address` (host:port, plain HTTP) with one key. `timeout` in seconds."""

    address: str
    key: Key
    timeout: float = 30

    def ask(
        self,
        method: str,
        bucket: str,
        path: str = "",
        query: dict[str, str] | None = None,
        body: bytes = EMPTY,
    ) -> Answer:
        """Sends one signed request and returns the answer, whatever its status; LabError without an answer."""
        target = urllib.parse.quote(f"/{bucket}/{path}" if path else f"/{bucket}")
        words = "&".join(
            f"{urllib.parse.quote(name, safe='')}={urllib.parse.quote(value, safe='')}"
            for name, value in sorted((query or {}).items())
        )
        headers = signature_headers(self.key, method, self.address, target, words, body, datetime.now(UTC))
        connection = http.client.HTTPConnection(self.address, timeout=self.timeout)
        try:
            connection.request(method, f"{target}?{words}" if words else target, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise LabError(f"the object store at {self.address} does not answer: {error}") from error
        finally:
            connection.close()

    def must(
        self,
        method: str,
        bucket: str,
        path: str = "",
        query: dict[str, str] | None = None,
        body: bytes = EMPTY,
    ) -> Answer:
        """Like ask, but LabError for a refusal."""
        answer = self.ask(method, bucket, path, query, body)
        if answer.status >= 300:
            raise LabError(f"the object store refused {method} {bucket}/{path}: {answer.code}")
        return answer

    def answers(self) -> bool:
        """Whether the store is up and knows this key."""
        try:
            return self.ask("GET", "").status == 200
        except LabError:
            return False

    def make_bucket(self, bucket: str, *, versions: bool) -> None:
        """A bucket that is there afterwards, keeping old versions if asked to."""
        if self.ask("HEAD", bucket).status != 200:
            self.must("PUT", bucket)
        if versions:
            text = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            self.must("PUT", bucket, query={"versioning": ""}, body=text.encode())

    def set_policy(self, bucket: str, policy: dict[str, Any]) -> None:
        self.must("PUT", bucket, query={"policy": ""}, body=json.dumps(policy).encode())

    def paths(self, bucket: str, prefix: str = "") -> list[str]:
        """Every object that is there now (hidden ones are not), sorted."""
        return sorted(
            {entry.path for entry in self.versions(bucket, prefix) if entry.latest and not entry.marker}
        )

    def versions(self, bucket: str, prefix: str = "", page: int = 1000) -> list[Version]:
        """Every version and delete marker below the prefix, newest first per object; asked for page by page."""
        found: list[Version] = []
        query = {"versions": "", "prefix": prefix, "max-keys": str(page)}
        while True:
            answer = _parse(self.must("GET", bucket, query=query).body)
            found += _versions(answer)
            if answer.findtext("IsTruncated") != "true":
                return found
            query["key-marker"] = answer.findtext("NextKeyMarker") or ""
            query["version-id-marker"] = answer.findtext("NextVersionIdMarker") or ""

    def delete_version(self, bucket: str, path: str, version: str) -> Answer:
        """Removes one version for good: what a host's key must not be able to do."""
        return self.ask("DELETE", bucket, path, {"versionId": version})


def _versions(page: Iterable[ET.Element]) -> list[Version]:
    return [
        Version(
            element.findtext("Key") or "",
            element.findtext("VersionId") or "",
            element.findtext("IsLatest") == "true",
            element.tag == "DeleteMarker",
            int(element.findtext("Size") or 0),
        )
        for element in page
        if element.tag in ("Version", "DeleteMarker")
    ]
