"""A replica's SSH host keys: made here for the first connection, known by a fingerprint that fits into a label."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

KIND = "ssh-ed25519"


@dataclass(frozen=True)
class HostKey:
    """A key pair in OpenSSH's text forms. The private half is used once and kept nowhere."""

    private: str = field(repr=False)
    public: str


def new_key(comment: str) -> HostKey:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    return HostKey(private.decode(), f"{public.decode()} {comment}")


def blob(public: str) -> bytes:
    """The key itself out of "ssh-ed25519 AAAA... comment"."""
    return base64.b64decode(public.split()[1])


def mark(key: bytes) -> str:
    """SHA-256 of a key in base32: 52 letters and digits, which a label may hold (OpenSSH's base64 may not)."""
    return base64.b32encode(hashlib.sha256(key).digest()).decode().rstrip("=").lower()


def md5(public: str) -> str:
    """The fingerprint by which Hetzner finds a login key."""
    found = hashlib.md5(blob(public)).hexdigest()  # noqa: S324 - Hetzner's form
    return ":".join(found[at : at + 2] for at in range(0, 32, 2))


def known_hosts_line(address: str, key: bytes) -> str:
    return f"{address} {KIND} {base64.b64encode(key).decode()}\n"
