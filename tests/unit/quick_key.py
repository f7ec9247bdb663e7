"""A restic repository whose password opens it at once: tests open theirs a thousand times.

restic chooses scrypt's cost at ``init`` so that a key takes half a second of this machine's CPU. Data, locks, packs and
what the programs do stay as they are; only the key file is written anew, as restic's design document describes it
(Keys, Encryption and MAC): AES-256-CTR, then Poly1305 under a key that AES makes of the nonce.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

__all__ = ["quicken"]

_COST = {"N": 16, "r": 1, "p": 1}
_NONCE, _TAG = 16, 16


class _Box:
    """Seals and opens with what a password becomes by the salt and cost of a key file."""

    def __init__(self, password: str, key: dict[str, Any]) -> None:
        cost = {"n": key["N"], "r": key["r"], "p": key["p"], "maxmem": 256 << 20}
        made = hashlib.scrypt(password.encode(), salt=base64.b64decode(key["salt"]), dklen=64, **cost)
        self.key, self.mac_k, self.mac_r = made[:32], made[32:48], made[48:]

    def _tag(self, nonce: bytes, text: bytes) -> bytes:
        block = Cipher(algorithms.AES(self.mac_k), modes.ECB()).encryptor()
        return Poly1305.generate_tag(self.mac_r + block.update(nonce), text)

    def _stream(self, nonce: bytes, text: bytes) -> bytes:
        return Cipher(algorithms.AES(self.key), modes.CTR(nonce)).encryptor().update(text)

    def open(self, sealed: bytes) -> bytes:
        nonce, text, tag = sealed[:_NONCE], sealed[_NONCE:-_TAG], sealed[-_TAG:]
        assert self._tag(nonce, text) == tag, "another password, or restic's keys are made otherwise now"
        return self._stream(nonce, text)

    def seal(self, text: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        hidden = self._stream(nonce, text)
        return nonce + hidden + self._tag(nonce, hidden)


def quicken(repository: Path, password: str) -> None:
    """Replace each key of a repository on disk (they must all be this password's) by one that costs nothing."""
    for file in list((repository / "keys").iterdir()):
        key = json.loads(file.read_bytes())
        master = _Box(password, key).open(base64.b64decode(key["data"]))
        key |= _COST | {"salt": base64.b64encode(os.urandom(64)).decode()}
        key["data"] = base64.b64encode(_Box(password, key).seal(master)).decode()
        text = json.dumps(key).encode()
        place = file.with_name(hashlib.sha256(text).hexdigest())
        place.write_bytes(text)
        place.chmod(file.stat().st_mode)
        file.unlink()
