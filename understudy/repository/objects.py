"""The one seam to object stores: versions of objects through the S3 interface (AWS, B2, SeaweedFS and others)."""

from __future__ import annotations

import configparser
import contextlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from ..errors import BadInput, UnderstudyError
from .restic import AdminRepository

__all__ = ["Bucket", "Place", "StoreError", "Version", "place"]

THREADS = 16
_COPY_LIMIT = 5 * 1024**3


class StoreError(UnderstudyError):
    """The store refused or did not answer. ``code`` is S3's own word ("AccessDenied"), "" without an answer."""

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Place:
    """Where a repository lies: ``endpoint`` with its scheme, ``prefix`` with its last slash or empty."""

    endpoint: str
    bucket: str
    prefix: str
    region: str


@dataclass(frozen=True)
class Version:
    """One version of an object, or a delete marker. ``time`` in whole seconds by the store's clock."""

    key: str
    id: str
    time: float
    latest: bool
    marker: bool
    size: int = 0
    etag: str = ""


def place(repository: AdminRepository) -> Place:
    """The bucket and prefix of an ``s3:`` address. Raises BadInput for any other."""
    match = re.fullmatch(r"s3:(?:(https?)://)?([^/]+)/([^/]+)(?:/(.*))?", repository.url)
    if match is None:
        raise BadInput(
            f"{repository.label}: only a repository at an s3: address keeps versions that can be brought back"
            " (for B2 use its S3 address)"
        )
    scheme, host, bucket, path = match.groups()
    prefix = (path or "").strip("/")
    given = next((o.partition("=")[2] for o in repository.options if o.startswith("s3.region=")), "")
    guess = re.match(r"s3[.-]([a-z0-9-]+)\.(?:backblazeb2|amazonaws)\.com", host)
    region = given or (guess[1] if guess else "us-east-1")
    return Place(f"{scheme or 'https'}://{host}", bucket, f"{prefix}/" if prefix else "", region)


def _keys(repository: AdminRepository) -> tuple[str, str]:
    parsed = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error):
        parsed.read_string(repository.aws or "")
    try:
        default = parsed["default"]
        return default["aws_access_key_id"], default["aws_secret_access_key"]
    except KeyError:
        raise BadInput(f"{repository.label}: the store's key is missing from its credentials") from None


class Bucket:
    """The objects of one repository, with one key. Safe to use from several threads."""

    def __init__(self, repository: AdminRepository, timeout: float = 60) -> None:
        """``timeout`` in seconds for one request. Nothing is asked yet. Raises BadInput."""
        self.place = place(repository)
        self.label = repository.label
        key, secret = _keys(repository)
        path_style = "amazonaws.com" not in self.place.endpoint
        self._client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=self.place.endpoint,
            region_name=self.place.region,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(
                s3={"addressing_style": "path" if path_style else "auto"},
                connect_timeout=10,
                read_timeout=timeout,
                retries={"max_attempts": 5, "mode": "standard"},
                max_pool_connections=THREADS,
                # Checksums newer than the other stores of this world are sent only where they are demanded.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        self._page: list[Version] = []
        self._client.meta.events.register("after-call.s3.ListObjectVersions", self._remember)

    def ask(self, operation: str, **arguments: Any) -> Any:
        """One request by its boto3 name, on this bucket. Raises StoreError."""
        try:
            return getattr(self._client, operation)(Bucket=self.place.bucket, **arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            what = f"{operation.replace('_', ' ')} {arguments.get('Key', '')}".strip()
            raise StoreError(f"{self.label}: the store refused to {what}: {code}", code) from error
        except BotoCoreError as error:
            raise StoreError(
                f"{self.label}: the store at {self.place.endpoint} does not answer: {error}"
            ) from error

    def versions(self, prefix: str = "") -> dict[str, list[Version]]:
        """All versions and delete markers below the repository's prefix and ``prefix``, newest first, by key."""
        found: dict[str, list[Version]] = {}
        more: dict[str, str] = {}
        while True:
            answer = self.ask(
                "list_object_versions", Prefix=self.place.prefix + prefix, EncodingType="url", **more
            )
            for version in self._page:
                found.setdefault(version.key, []).append(version)
            if not answer.get("IsTruncated"):
                return {key: newest_first(versions) for key, versions in found.items()}
            more = {"KeyMarker": answer["NextKeyMarker"]}
            if answer.get("NextVersionIdMarker"):
                more["VersionIdMarker"] = answer["NextVersionIdMarker"]

    def _remember(self, http_response: Any, **_: Any) -> None:
        # boto3 gives versions and delete markers apart; which came first stands only in the answer itself.
        self._page = list(_parsed(http_response.content)) if http_response.status_code == 200 else []

    def keeps_versions(self) -> bool | None:
        """Whether the bucket keeps versions; None when the store does not say."""
        try:
            return bool(self.ask("get_bucket_versioning").get("Status") == "Enabled")
        except StoreError as error:
            if error.code:
                return None
            raise

    def days_kept(self) -> int | None:
        """After how many days the bucket's rules remove hidden versions; None when no rule says so."""
        try:
            rules = self.ask("get_bucket_lifecycle_configuration").get("Rules", [])
        except StoreError:
            return None
        days = [
            int(rule["NoncurrentVersionExpiration"]["NoncurrentDays"])
            for rule in rules
            if rule.get("Status") == "Enabled"
            and "NoncurrentDays" in rule.get("NoncurrentVersionExpiration", {})
        ]
        return min(days, default=None)

    def read(self, version: Version) -> bytes:
        """The content of a version. Raises StoreError."""
        try:
            content = self.ask("get_object", Key=version.key, VersionId=version.id)["Body"].read()
        except BotoCoreError as error:
            raise StoreError(f"{self.label}: reading {version.key} broke off: {error}") from error
        assert isinstance(content, bytes)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Write (over) an object. Raises StoreError."""
        self.ask("put_object", Key=key, Body=content)

    def hide(self, key: str) -> None:
        """Delete by name: on a bucket that keeps versions that hides the object. Raises StoreError."""
        self.ask("delete_object", Key=key)

    def remove(self, version: Version) -> None:
        """Remove one version or delete marker for good. Raises StoreError."""
        self.ask("delete_object", Key=version.key, VersionId=version.id)

    def bring_back(self, version: Version) -> None:
        """Copy an old version over the present one, within the store; the one in between stays. Raises StoreError."""
        source = {"Bucket": self.place.bucket, "Key": version.key, "VersionId": version.id}
        if version.size < _COPY_LIMIT:
            self.ask("copy_object", Key=version.key, CopySource=source)
            return
        try:
            self._client.copy(source, self.place.bucket, version.key)
        except (ClientError, BotoCoreError) as error:
            raise StoreError(f"{self.label}: {version.key} could not be copied: {error}") from error


def newest_first(versions: list[Version]) -> list[Version]:
    """Sorted; within one second the store's own order, and the present one always first."""
    return sorted(versions, key=lambda version: (not version.latest, -version.time))


def _parsed(body: bytes) -> Iterator[Version]:
    root = ET.fromstring(body)  # noqa: S314 - expat expands no external entity, and the store is the owner's
    encoded = any(one.tag.endswith("EncodingType") for one in root)
    for element in root:
        tag = element.tag.rpartition("}")[2]
        if tag not in ("Version", "DeleteMarker"):
            continue
        said = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
        yield Version(
            unquote_plus(said["Key"]) if encoded else said["Key"],
            said["VersionId"],
            datetime.fromisoformat(said["LastModified"].replace("Z", "+00:00")).timestamp() // 1,
            said["IsLatest"] == "true",
            tag == "DeleteMarker",
            int(said.get("Size") or 0),
            said.get("ETag", "").strip('"'),
        )
