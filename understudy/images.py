"""Image references: name, tag and digest, and which of two tags is newer."""

from __future__ import annotations

import re
from dataclasses import dataclass

FLOATING = {
    "",
    "latest",
    "stable",
    "main",
    "master",
    "edge",
    "nightly",
    "release",
    "alpine",
    "lts",
    "beta",
    "dev",
}


@dataclass(frozen=True)
class Image:
    """``registry/name:tag@digest`` in its parts; missing parts are empty."""

    name: str
    tag: str
    digest: str

    @property
    def floating(self) -> bool:
        """True when the same reference can mean another image tomorrow."""
        return not self.digest and (self.tag in FLOATING or not re.search(r"\d", self.tag))


def parse(reference: str) -> Image:
    """Split a reference. Docker Hub's implied prefixes are dropped: ``docker.io/library/x`` is ``x``."""
    rest, _, digest = reference.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    for prefix in ("docker.io/library/", "docker.io/", "index.docker.io/"):
        name = name.removeprefix(prefix)
    return Image(name, tag, digest)


def version_key(tag: str) -> tuple[int, ...] | None:
    """The leading version of a tag as numbers, None when it has none: ``v1.34.3-alpine`` is (1, 34, 3)."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", tag)
    return tuple(int(part) for part in match[1].split(".")) if match else None


def is_downgrade(live: str, declared: str) -> bool:
    """True when the declared reference is an older version of the live one's image."""
    old, new = parse(live), parse(declared)
    if old.name != new.name:
        return False
    old_version, new_version = version_key(old.tag), version_key(new.tag)
    if old_version is None or new_version is None:
        return False
    shared = min(len(old_version), len(new_version))
    return new_version[:shared] < old_version[:shared]
