"""The age identity that opens the secrets: where it is and whose it is."""

from __future__ import annotations

import os
from pathlib import Path

import pyrage

from .errors import SecretsError

KEY_PREFIX = "AGE-SECRET-KEY-1"


def key_file() -> Path:
    """Where sops itself looks: $SOPS_AGE_KEY_FILE, else sops/age/keys.txt in the user's configuration."""
    given = os.environ.get("SOPS_AGE_KEY_FILE")
    if given:
        return Path(given).expanduser()
    configuration = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(configuration) / "sops" / "age" / "keys.txt"


def create(path: Path) -> str:
    """Make a new X25519 identity at ``path`` (0600, never over an existing file); returns its public key."""
    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SecretsError(f"{path}: the age key cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"# public key: {recipient}\n{identity}\n")
        file.flush()
        os.fsync(file.fileno())
    return recipient


def recipients_of_key_file(path: Path) -> list[str]:
    """Public keys of the X25519 identities in a key file; [] when there is none or it has none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise SecretsError(f"{path}: the age key cannot be read: {error}") from error
    found = []
    for line in (line.strip() for line in lines):
        if line.upper().startswith(KEY_PREFIX):
            found.append(_recipient(path, line))
    return found


def _recipient(path: Path, line: str) -> str:
    try:
        return str(pyrage.x25519.Identity.from_str(line).to_public())
    except pyrage.IdentityError:  # its own text could quote the key
        raise SecretsError(f"{path}: holds a damaged age key: restore the file from your copy") from None
